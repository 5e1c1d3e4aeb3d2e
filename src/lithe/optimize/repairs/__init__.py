"""Repairs of what quantization breaks; each has a name, and can be left out.

narrowing     the rarest values are left out of ranges, where results come nearer by it
folding       a value that is only read by what keeps it between bounds needs no integers outside of those
equalization  channels that share a scale are brought to like ranges, and the weights that read them undo it
bias          what the rounding of weights does to the mean of a channel is taken from its bias
rounding      weights are rounded so that sums of products stay, not so that each weight stays nearest

watching      what repairs have to know of the values that a model computes
mending       the last four in order
"""
