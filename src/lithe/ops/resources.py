"""Variables that outlive a run and are shared by all graphs of a loaded model.

A handle names a variable. Where a graph can be compiled as a whole, handles are replaced by the variables
themselves (see `lithe.passes.bind_variables`), and the operators by those of `BOUND`.
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
    """What a handle's variable holds is known when it is read; its rank too, for some declare none."""
    return cast("Shape", (None,) * max(t.rank, 1))


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
        shape = (1 if d is None else d for d in site.outputs[0].shape)  # unknown where inputs are, though not asked
        return [np.full(tuple(shape), resource_key(site.attrs), object)]


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
    """The value of the variable that a handle names. Source: schema.fbs, ReadVariableOptions."""

    name, code = "READ_VARIABLE", 143
    operands = (("resource", "ignored*"), ("value",))
    stateful = True

    def infer(site: Site) -> list[Shape]:
        site.require(is_handle(site.input(0)), f"must be a handle, is {site.input(0)}", 0)
        return [unknown(site.outputs[0])]

    def evaluate(site: Site, handle: np.ndarray, *ignored: np.ndarray) -> list[np.ndarray]:
        value = site.surroundings().resources.get(_key(handle))
        if value is None:
            raise ExecutionError("the variable is read before anything was assigned to it")
        return [value.copy()]


@register
class AssignVariable(Op):
    """Gives the variable that a handle names a value. Source: schema.fbs, AssignVariableOptions."""

    name, code = "ASSIGN_VARIABLE", 144
    operands = (("resource", "value", "ignored*"), ())
    stateful = True

    def infer(site: Site) -> list[Shape]:
        site.require(is_handle(site.input(0)), f"must be a handle, is {site.input(0)}", 0)
        return []

    def evaluate(site: Site, handle: np.ndarray, value: np.ndarray, *ignored: np.ndarray) -> list[np.ndarray]:
        site.surroundings().resources[_key(handle)] = value.copy()
        return []


class ReadStorage(Op):
    """READ_VARIABLE where the variable itself stands in its handle's place."""

    name = "READ_VARIABLE"
    operands = (("variable", "ignored*"), ("value",))
    stateful = True

    def infer(site: Site) -> list[Shape]:
        x, y = site.input(0), site.outputs[0]
        site.require(x.dtype == y.dtype, f"the variable holds {x}, the value is {y}", 0)
        return [x.shape]

    def evaluate(site: Site, x: np.ndarray, *ignored: np.ndarray) -> list[np.ndarray]:
        return [x.copy()]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        _copy(b, xs[0], ys[0])


class AssignStorage(Op):
    """ASSIGN_VARIABLE where the variable itself stands in its handle's place."""

    name = "ASSIGN_VARIABLE"
    operands = (("variable", "value", "ignored*"), ())
    stateful = True

    def infer(site: Site) -> list[Shape]:
        x, value = site.input(0), site.input(1)
        same = x.dtype == value.dtype and x.shape == value.shape
        site.require(same, f"the variable holds {x}, the value is {value}", 1)
        return []

    def evaluate(site: Site, x: np.ndarray, value: np.ndarray, *ignored: np.ndarray) -> list[np.ndarray]:
        x[...] = value
        return []

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        _copy(b, xs[1], xs[0])


def _copy(b: Builder, x: Buffer, y: Buffer) -> None:
    b.elementwise(y.viewed((y.size,)), lambda v: v, x.viewed((x.size,)))


BOUND = {ReadVariable: ReadStorage, AssignVariable: AssignStorage}
