"""Pooling of volumes: pictures first, then through them."""

from __future__ import annotations

from functools import partial

from lithe.conversion import windows
from lithe.conversion.tensorflow.told import Told, own
from lithe.conversion.windows import Window
from lithe.ir.graph import Tensor


@own("MaxPool3D", "AvgPool3D")
def pool(t: Told) -> Tensor:
    t.require(t.attribute("data_format", "NDHWC") == "NDHWC", "a volume with channels first")
    t.write()
    (x,) = t.node.inputs
    assert x is not None
    window = Window.of(t.attribute("ksize", ())[1:-1], t.attribute("strides", ())[1:-1])
    if t.attribute("padding", "VALID") == "SAME":
        window = Window.of(window.size, window.strides, window.same_padding(x.type.shape[1:-1]))
    if t.definition.op == "MaxPool3D":
        return windows.max_pool(t.b, x, window)
    return windows.in_volumes(t.b, x, window, partial(windows.average_pool, padding_counts=False))
