"""Smaller models: what is stored in fewer bits, and computed on integers.

ranges        what values a tensor takes, from what it was seen to hold
calibration   running a float model on samples, to see
recipes       what becomes of each operator
integers      a float graph as a graph of integers
weights       smaller weights beside real numbers
quantization  the door: `lithe.quantize`
"""
