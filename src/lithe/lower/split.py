"""Products of floats as three products of bfloat16 numbers: nearly as exact as float32 on a unit that has only those.

A float32 is the sum of two bfloat16 numbers, to 16 of its 24 bits: x = high + low. Of the four products of two such
sums the one of the low parts is left out, for it is as small as what the others round away:

    x * w  =  x_high * w_high  +  x_high * w_low  +  x_low * w_high

So a convolution of C channels is one of 3 C channels of bfloat16: (high, high, low) by (high, low, high). The input is
split once, before anything is multiplied; weights when the program is made. What is not finite stays so, but an
infinity may become NaN.

Source: Henry, Tang and Heinecke, Leveraging the bfloat16 artificial intelligence datatype for higher-precision
computations, 2019.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lithe.ir.build import Builder, Convolution
from lithe.types import BFLOAT16, FLOAT32

PRODUCTS = 3


def split(b: Builder, c: Convolution) -> Convolution:
    """A convolution of floats as one of bfloat16 numbers, whose input is made first."""
    assert c.w.values is not None
    weights = c.w.values.astype(np.float32)
    high = weights.astype(BFLOAT16.numpy)
    low = (weights - high.astype(np.float32)).astype(BFLOAT16.numpy)
    w = b.constant(np.concatenate([high, low, high], axis=3), "weights")
    n, height, width, channels = c.x.shape
    x = b.scratch(BFLOAT16, (n, height, width, PRODUCTS * channels), "split")
    with b.nest((n * height * width,), "parallel", "pixel") as (pixel,), b.loop(channels, "parallel", "channel") as i:
        value = c.x.viewed((n * height * width, channels))[pixel, i]
        rounded = value.to(BFLOAT16)
        rest = (value - rounded.to(FLOAT32)).to(BFLOAT16)
        flat = x.viewed((n * height * width, PRODUCTS * channels))
        for part, number in enumerate((rounded, rounded, rest)):
            b.store(flat, (pixel, part * channels + i), number)
    return replace(c, x=x, w=w)
