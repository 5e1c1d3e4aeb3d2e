"""A part of a function that is not traced: the caller says what it becomes.

results = opaque(write, what, shapes, x, y)     while a function is traced; `write(b, x, y)` writes the builtins

In TensorFlow's graph it is a call of a function of Python, which nobody has registered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lithe.conversion.opaque import Part, Write, number_of, part
from lithe.conversion.tensorflow.told import Told, own
from lithe.conversion.tensorflow.values import Value, written
from lithe.ir.graph import Tensor

TOKEN = "lithe_opaque_"


def opaque(write: Write, what: str, shapes: Callable[..., Any], *tensors: Any) -> list[Any]:
    """Stands for a part of the function being traced, whose results have the type of the first tensor.

    what    it is, for messages.
    shapes  the results' shapes, from those of the tensors.
    """
    import tensorflow as tf

    results = shapes(*(tuple(t.shape.as_list()) for t in tensors))
    token = f"{TOKEN}{number_of(Part(write, what, shapes))}"
    made = tf.raw_ops.EagerPyFunc(input=tensors, token=token, Tout=[tensors[0].dtype] * len(results))
    for tensor, shape in zip(made, results, strict=True):
        tensor.set_shape(shape)
    return list(made)


@own("EagerPyFunc")
def called(t: Told) -> Sequence[Value]:
    token = t.operation.get_attr("token").decode()
    t.require(token.startswith(TOKEN), "a function of Python")
    made = part(int(token.removeprefix(TOKEN))).write(t.b, *(written(t.b, v) for v in t.values))
    return [made] if isinstance(made, Tensor) else list(made)
