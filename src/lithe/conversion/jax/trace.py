"""A function of JAX as a graph: it is traced to a jaxpr, and each equation is written in builtins."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.jax import control as control
from lithe.conversion.jax import layers as layers
from lithe.conversion.jax import lookups as lookups
from lithe.conversion.jax import opaque as opaque
from lithe.conversion.jax import randomness as randomness
from lithe.conversion.jax import series as series
from lithe.conversion.jax import spectra as spectra
from lithe.conversion.jax.integers import ARRANGED, COMPUTED, signed, widened
from lithe.conversion.jax.rules import RULES, Equation
from lithe.ir.graph import Tensor
from lithe.passes.writer import Inexpressible
from lithe.types import DTYPES, FLOAT32, UINT32, TensorType

RULES.update({name: widened(RULES[name]) for name in COMPUTED})
RULES.update({name: signed(RULES[name]) for name in ARRANGED})
OWN = os.sep + "lithe" + os.sep


def write(b: Builder, closed: Any, inputs: Sequence[Tensor], path: str | None = None) -> list[Tensor]:
    """What a jaxpr, closed or without constants, gives for these tensors.

    path  of the jaxpr in the whole: results of its equations are marked where it is known.
    """
    if not hasattr(closed, "consts"):
        return write_jaxpr(b, closed, inputs, path)
    constants = [constant(b, c) for c in closed.consts]
    return write_jaxpr(b, closed.jaxpr, [*constants, *inputs], path)


def write_jaxpr(b: Builder, jaxpr: Any, inputs: Sequence[Tensor], path: str | None = None) -> list[Tensor]:
    """What a jaxpr gives; `inputs` are its constants and its arguments."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))

    def read(atom: Any) -> Tensor:
        if hasattr(atom, "val"):  # a literal
            return constant(b, atom.val, atom.aval.dtype)
        return values[atom]

    for i, equation in enumerate(jaxpr.eqns):
        own = None if path is None else f"{path}/{i}"
        with b.at(place(equation, b.where)):
            results = write_equation(b, equation, [read(v) for v in equation.invars], own)
            if own is not None and inlined(equation) is None and len(results) == 1:
                b.mark(own, results[0], f"{equation.primitive.name} at {b.where}")
        values.update(zip(equation.outvars, results, strict=True))
    return [read(v) for v in jaxpr.outvars]


def write_equation(b: Builder, equation: Any, inputs: Sequence[Tensor], path: str | None = None) -> list[Tensor]:
    name = equation.primitive.name
    try:
        types = [type_of(v.aval) for v in equation.outvars]
    except Inexpressible as cause:
        b.problem(name, str(cause))
        return [Tensor(f"{b.scope}/missing{i}", TensorType(FLOAT32, ())) for i in range(len(equation.outvars))]
    inner = inlined(equation)
    if inner is not None:
        return write(b, inner, inputs, path)
    rule = RULES.get(name)

    def apply() -> Sequence[Tensor]:
        b.require(rule is not None, "there is no builtin for it")
        made = rule(b, Equation(name, equation.params, types), *inputs)  # type: ignore[misc]
        return [made] if isinstance(made, Tensor) else made

    return b.attempt(equation.params.get("what", name), apply, types)


def evaluated(closed: Any, arrays: Sequence[Any], found: dict[str, Any], path: str = "") -> list[Any]:
    """What a closed jaxpr gives; `found` takes the results of its equations, by the paths that mark them."""
    jaxpr = closed.jaxpr
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *arrays], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if hasattr(atom, "val") else values[atom]

    for i, equation in enumerate(jaxpr.eqns):
        inputs, inner = [read(v) for v in equation.invars], inlined(equation)
        if inner is not None:
            results = evaluated(inner, inputs, found, f"{path}/{i}")
        else:
            bound = equation.primitive.get_bind_params(equation.params)
            functions, params = bound if isinstance(bound, tuple) else ((), bound)  # older JAX gives functions apart
            made = equation.primitive.bind(*functions, *inputs, **params)
            results = made if equation.primitive.multiple_results else [made]
            if len(results) == 1:
                found[f"{path}/{i}"] = results[0]
        values.update(zip(equation.outvars, results, strict=True))
    return [read(v) for v in jaxpr.outvars]


def inlined(equation: Any) -> Any:
    """The jaxpr of an equation that only calls it."""
    params = equation.params
    if equation.primitive.name in CALLS:
        return next((params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params), None)
    return None


CALLS = {
    "jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "remat",
    "checkpoint", "remat2", "custom_lin", "run_state",
}  # fmt: skip


def type_of(aval: Any) -> TensorType:
    """The type of a traced array; a key of random numbers is two numbers."""
    if aval.dtype.name == "key<fry>":
        return TensorType(UINT32, (*map(int, aval.shape), 2))
    if aval.dtype.name not in DTYPES:
        raise Inexpressible(f"arrays of {aval.dtype.name}")
    return TensorType(DTYPES[aval.dtype.name], tuple(int(n) for n in aval.shape))


def constant(b: Builder, value: Any, dtype: Any = None) -> Tensor:
    array = np.asarray(value, dtype)
    return b.constant(array, DTYPES[array.dtype.name])


def place(equation: Any, before: str) -> str:
    """The line of the user's source that an equation comes from, and its named scopes."""
    from jax._src import source_info_util

    frame = source_info_util.user_frame(equation.source_info.traceback)
    scopes = str(equation.source_info.name_stack)
    line = f"{os.path.basename(frame.file_name)}:{frame.start_line} ({frame.function_name})" if frame else before
    return f"{scopes}, {line}" if scopes else line


def trace(function: Callable[..., Any], inputs: Sequence[TensorType]) -> tuple[Any, Any]:
    """The jaxpr of a function for inputs of these types, and the tree of its results."""
    import jax

    structs = [jax.ShapeDtypeStruct(t.shape, t.dtype.numpy) for t in inputs]
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*structs)
    return without_dead(closed), shapes


def without_dead(closed: Any) -> Any:
    """The closed jaxpr without equations that nothing reads, such as the random numbers of a dropout that is off."""
    from jax._src.interpreters import partial_eval

    read = [True] * len(closed.jaxpr.outvars)
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, read, instantiate=True)
    return closed.replace(jaxpr=jaxpr) if len(jaxpr.constvars) == len(closed.consts) else closed
