"""Smaller models: what is stored in fewer bits, and computed on integers.

ranges        what values a tensor takes, from what it was seen to hold
calibration   running a float model on samples, to see
recipes       what becomes of each operator
inside        what graphs and values operators have inside, on samples
calls         operators that run graphs, and what they hand on
spelling      operators without an integer form, as others
integers      which operators can be computed on integers, and in which scales
rewriting     a float model as one of integers
weights       smaller weights beside real numbers
quantization  the door: `lithe.quantize`
"""
