"""Variables that outlive a run and are shared by all graphs of a loaded model.

A handle names a variable. Where a graph can be compiled as a whole, handles are replaced by the variables
themselves (see `lithe.passes.bind_variables`): then the first operand of reading and writing is the storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ops.op import Op, Site, register
from lithe.types import Shape, TensorType


def unknown(t: TensorType) -> Shape:
    """What a handle's variable holds is known when it is read."""
    return cast("Shape", (None,) * t.rank)


def is_handle(t: TensorType) -> bool:
    return t.dtype.kind == "resource"


@register
class VarHandle(Op):
    """The handle of the variable with this name. Source: schema.fbs, VarHandleOptions."""

    name, code = "VAR_HANDLE", 142
    operands = (("ignored*",), ("resource",))

    @dataclass(frozen=True)
    class Attrs:
        container: str = ""
        shared_name: str = ""

    def infer(site: Site) -> list[Shape]:
        return [site.outputs[0].shape]

    def evaluate(site: Site, *ignored: np.ndarray) -> list[np.ndarray]:
        return [np.full(site.outputs[0].shape, resource_key(site.attrs), object)]


def resource_key(attrs: VarHandle.Attrs) -> str:
    """What the variable is called among the model's resources."""
    return f"variable:{attrs.container}/{attrs.shared_name}"


def _key(handle: np.ndarray) -> str:
    keys = {k for k in handle.flat if isinstance(k, str)}
    if len(keys) != 1:
        raise ExecutionError("the handle names no variable")
    return keys.pop()


@register
class ReadVariable(Op):
    """The value of a variable. Source: schema.fbs, ReadVariableOptions."""

    name, code = "READ_VARIABLE", 143
    operands = (("resource", "ignored*"), ("value",))
    stateful = True

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        return [unknown(site.outputs[0]) if is_handle(x) else x.shape]

    def evaluate(site: Site, x: np.ndarray, *ignored: np.ndarray) -> list[np.ndarray]:
        if not is_handle(site.input(0)):
            return [x.copy()]
        value = site.surroundings().resources.get(_key(x))
        if value is None:
            raise ExecutionError("the variable is read before anything was assigned to it")
        return [value.copy()]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0].viewed((ys[0].size,)), lambda v: v, xs[0].viewed((xs[0].size,)))

    def lowers(site: Site) -> bool:
        return not is_handle(site.input(0))


@register
class AssignVariable(Op):
    """Gives a variable a value. Source: schema.fbs, AssignVariableOptions."""

    name, code = "ASSIGN_VARIABLE", 144
    operands = (("resource", "value"), ())
    stateful = True

    def infer(site: Site) -> list[Shape]:
        x, value = site.input(0), site.input(1)
        same = is_handle(x) or (x.dtype == value.dtype and x.shape == value.shape)
        site.require(same, f"the variable holds {x}, the value is {value}", 1)
        return []

    def evaluate(site: Site, x: np.ndarray, value: np.ndarray) -> list[np.ndarray]:
        if is_handle(site.input(0)):
            site.surroundings().resources[_key(x)] = value.copy()
        else:
            x[...] = value
        return []

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(xs[0].viewed((xs[0].size,)), lambda v: v, xs[1].viewed((xs[1].size,)))

    def lowers(site: Site) -> bool:
        return not is_handle(site.input(0))
