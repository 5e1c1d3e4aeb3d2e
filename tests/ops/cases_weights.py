"""Rows of float layers with packed integer weights of one scale: the kernel that takes them decides the arithmetic."""

from __future__ import annotations

from tests.ops.cases_convolution import convolution
from tests.ops.cases_fully_connected import connected

CASES = [
    convolution("one scale", "dynamic4", (2, 5, 5, 3), (4, 3, 3, 3), (2, 5, 5, 4), channelwise=False),
    *(connected("one output", k, (3, 20), (1, 20), (3, 1)) for k in ("float16 by int4", "float16 by int2", "dynamic4")),
]
