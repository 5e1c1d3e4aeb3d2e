"""Sums of products in float32 are those of the definitions, up to rounding."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.ops.contraction import convolve
from lithe.ops.padding import Window, placed
from lithe.ops.quick import quick_sums


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (1, 3), (2, 2)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 4), (1, 5)])
@pytest.mark.parametrize(("channels", "groups", "outputs"), [(3, 1, 5), (4, 4, 4), (4, 4, 8), (6, 3, 9), (1, 1, 2)])
def test_sums_are_those_of_the_definition(padding, strides, dilation, kernel, channels, groups, outputs):
    random = np.random.default_rng(0)
    for size in ((11, 9), (5, 12), (40, 70)):
        pairs = [placed(*axis, padding) for axis in zip(size, kernel, strides, dilation, strict=True)]
        p = Window(tuple(count for count, _ in pairs), tuple(before for _, before in pairs), strides, dilation)
        if min(p.size) < 1:
            continue
        x = random.standard_normal((3, *size, channels)).astype(np.float32)
        w = random.standard_normal((outputs, *kernel, channels // groups)).astype(np.float32)
        wanted, found = convolve(x, w, p, groups), quick_sums(x, w, p, groups)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=1e-4)
