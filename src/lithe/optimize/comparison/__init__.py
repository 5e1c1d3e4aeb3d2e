"""Where a smaller model leaves the float model that it was made of, and why.

matching   which tensors of two graphs hold the same values
factors    scales that were moved between layers
grafting   layers of one graph, copied behind another
agreement  how near values are to those that they should be
watching   what is seen of one layer while both models run
causes     why a layer goes wrong, and what to try
findings   what a comparison has found, as data and as text
comparing  the door: `lithe.compare`
"""
