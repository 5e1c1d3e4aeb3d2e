"""Pooling, resizing, normalizing."""

from __future__ import annotations

import numpy as np

from lithe.types import Shape
from tests.grid.draw import Draw, Trial
from tests.grid.families.registry import generates

ACTIVATIONS = ("NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1")


def picture(d: Draw, channels: tuple[int, ...] = (1, 2, 3, 4, 8, 17, 33)) -> Shape:
    return (d.choice((1, 1, 2)), d.choice((1, 2, 3, 5, 8)), d.choice((1, 2, 4, 7, 9)), d.choice(channels))


@generates("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D")
def pool(d: Draw) -> Trial:
    shape = picture(d)
    padding = d.choice(("SAME", "VALID"))
    window = [d.choice((1, 2, 3, 5, 7)) for _ in range(2)]
    if padding == "VALID":
        window = [min(k, s) for k, s in zip(window, shape[1:3], strict=True)]
    x = d.type(d.inputs[0], shape)
    attrs = {"padding": padding, "filter_height": window[0], "filter_width": window[1], "stride_h": d.integer(1, 3),
             "stride_w": d.integer(1, 3), "fused_activation_function": d.choice(ACTIVATIONS)}  # fmt: skip
    return d.trial([d.operand(x, d.values(x, -9, 9))], [d.type(d.outputs[0], (), like=x)], attrs, inferred=True)


@generates("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(d: Draw) -> Trial:
    shape = picture(d)
    size = np.array([d.choice((1, 2, 3, 5, 8, 13)) for _ in range(2)])
    corners, centers = d.choice(((False, False), (True, False), (False, True)))
    x = d.type(d.inputs[0], shape)
    nearest = d.op == "RESIZE_NEAREST_NEIGHBOR"
    data = d.operand(x, d.any_values(x) if nearest else d.values(x, -100, 100))
    attrs = {"align_corners": corners, "half_pixel_centers": centers}
    out = d.type(d.outputs[0], (), like=x)
    steps = 0 if nearest else 1
    return d.trial(
        [data, d.index("int32", size)], [out], attrs, steps=steps, tolerance=0 if nearest else 1e-5, inferred=True
    )


SOFTMAX = {"int8q": (1 / 256, -128), "uint8q": (1 / 256, 0), "int16q": (1 / 32768, 0)}
LOG_SOFTMAX = {"int8q": (16 / 256, 127), "uint8q": (16 / 256, 255)}
UNIT = {"int8q": (1 / 128, 0), "uint8q": (1 / 128, 128)}
FIXED = {"SOFTMAX": SOFTMAX, "LOG_SOFTMAX": LOG_SOFTMAX, "L2_NORMALIZATION": UNIT}


@generates("SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION")
def normalization(d: Draw) -> Trial:
    shape = d.shape(least=1, most=4, empty=False)
    word = d.outputs[0]
    x = d.type(d.inputs[0], shape, scale=d.log_uniform(0.002, 0.3) / (256 if "int16" in d.inputs[0] else 1))
    values = d.values(x, *d.choice(((-3, 3), (-10, 10), (-80, 80))))
    scale, zero = FIXED[d.op].get(word, (None, None))
    y = d.type(word, shape, scale=scale, zero=zero) if scale else d.type(word, shape)
    attrs = {"beta": d.choice((1.0, 1.0, 0.5, d.uniform(0.1, 3)))} if d.op == "SOFTMAX" else {}
    return d.trial([d.operand(x, values)], [y], attrs, tolerance=1e-5 if d.op == "L2_NORMALIZATION" else 1e-4)


@generates("LOCAL_RESPONSE_NORMALIZATION")
def response(d: Draw) -> Trial:
    x = d.data("float32", picture(d))
    attrs = {
        "radius": d.integer(0, 4),
        "bias": d.uniform(0.5, 2),
        "alpha": d.uniform(0.1, 2),
        "beta": d.choice((0.5, 0.75, 1.0)),
    }
    return d.trial([x], [x.type], attrs, tolerance=1e-4)
