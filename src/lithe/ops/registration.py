"""Operators of users: a class like those of this package, known to every model that is read afterwards."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from typing import Any, TypeVar, overload

import numpy as np

from lithe.errors import ExecutionError, InputError, LitheError, ModelError
from lithe.ops.op import REGISTRY, Op, RuleViolation, Site
from lithe.types import DTYPES

AnyOp = TypeVar("AnyOp", bound=type[Op])
BROKEN_OPTIONS = (ValueError, TypeError, LookupError, ArithmeticError, struct.error)


@overload
def register_op(cls: AnyOp) -> AnyOp: ...
@overload
def register_op(*, replace: bool = False) -> Callable[[AnyOp], AnyOp]: ...
def register_op(cls: AnyOp | None = None, *, replace: bool = False) -> AnyOp | Callable[[AnyOp], AnyOp]:
    """Class decorator: custom operators with the class's name are run by it, in models that are read from now on.

    replace  whether it may take the place of another registered class. The same class defined anew always may.

    The class derives from `lithe.Op` and holds

        name           the custom code that models have for it
        operands       names of inputs and outputs: (("input", "weights?"), ("output",)); "?" may be absent, "*" repeats
        types          what element types go together: "T T -> T: float32 int8"; left out: any
        Attrs          a frozen dataclass of the options: keys of a flexbuffer map, or made by `parse_options(bytes)`
        infer(site)    a shape for each output
        evaluate(site, *arrays)   an array for each output
        lower(b, site, xs, ys)    may be left out: the same in loops, which then run compiled, on every target

    Raises InputError when the class lacks something or the name is taken.

    >>> @register_op
    ... class Doubled(Op):
    ...     name, types = "Doubled", "T -> T: float32"
    ...     def infer(site): return [site.input(0).shape]
    ...     def evaluate(site, x): return [x + x]
    >>> unregister_op("Doubled")
    """

    def add(op: AnyOp) -> AnyOp:
        checked = checked_op(op)
        before = REGISTRY.users.get(checked.name)
        if checked.name in REGISTRY.by_name:
            raise InputError(f"'{checked.name}' is an operator of Lithe itself", where=_place(op))
        if before is not None and not replace and _place(before) != _place(op):
            raise InputError(
                f"'{checked.name}' is taken by {_place(before)}", where=_place(op), hint="register_op(replace=True)"
            )
        REGISTRY.users[checked.name] = checked
        return checked

    return add if cls is None else add(cls)


def unregister_op(name: str) -> None:
    """Forgets a registered operator; models that were read keep it. Raises InputError when there is none."""
    if REGISTRY.users.pop(name, None) is None:
        known = ", ".join(REGISTRY.users) or "none"
        raise InputError(f"no operator '{name}' is registered", hint=f"registered: {known}")


def checked_op(op: AnyOp) -> AnyOp:
    """The class when it can be an operator of a user, with `evaluate` and `parse_options` that say what they break."""
    if not isinstance(op, type) or not issubclass(op, Op):
        raise InputError(f"an operator is a class derived from lithe.Op, got {op!r}")
    where = _place(op)

    def require(condition: bool, problem: str, hint: str = "") -> None:
        if not condition:
            raise InputError(problem, where=where, hint=hint)

    name = getattr(op, "name", None)
    require(isinstance(name, str) and bool(name), "has no `name`, the custom code that models have for it")
    require(op.code is None, "`code` is for builtins; a custom operator is known by its name alone")
    for function, arguments in (("infer", "site"), ("evaluate", "site, *arrays")):
        require(callable(getattr(op, function, None)), f"has no `{function}({arguments})`")
    parsed = hasattr(op, "parse_options") or dataclasses.is_dataclass(op.Attrs)
    require(parsed, "`Attrs` must be a dataclass, where there is no `parse_options(bytes)`", "@dataclass(frozen=True)")
    sides = op.operands
    require(
        isinstance(sides, tuple) and len(sides) == 2 and all(isinstance(s, tuple) for s in sides),
        f"`operands` must be two tuples of names, is {sides!r}",
        '(("input",), ("output",))',
    )
    for signature in op.signatures:
        for combination in signature.expanded():
            for word in (w for side in combination for w in side):
                require(
                    word.rstrip("?*").removesuffix("q") in DTYPES,
                    f"`types` has {word!r}, which is no element type",
                    f"one of {', '.join(DTYPES)}",
                )
    if not getattr(op.evaluate, "checks", False):
        op.evaluate = staticmethod(_checking(op, op.evaluate))
    parse = op.__dict__.get("parse_options")
    if parse is not None and not getattr(op.parse_options, "checks", False):  # type: ignore[attr-defined]
        op.parse_options = staticmethod(_reporting(op, op.parse_options))  # type: ignore[attr-defined]
    return op


def _place(op: type[Op]) -> str:
    return f"{op.__module__}.{op.__qualname__}"


def _checking(op: type[Op], evaluate: Callable[..., Any]) -> Callable[..., list[np.ndarray]]:
    """`evaluate` whose results are what the model expects, or an ExecutionError that names the operator."""

    def checked(site: Site, *arrays: np.ndarray | None) -> list[np.ndarray]:
        made = evaluate(site, *arrays)
        if not isinstance(made, list | tuple):
            made = [made]
        if len(made) != len(site.outputs):
            raise ExecutionError(
                f"{op.name}.evaluate returned {len(made)} arrays for {len(site.outputs)} outputs",
                hint="return a list with one array for each output",
            )
        results = [np.asarray(m) for m in made]
        for i, (result, wanted) in enumerate(zip(results, site.outputs, strict=True)):
            shape_fits = len(wanted.shape) == result.ndim and all(
                d is None or d == n for d, n in zip(wanted.shape, result.shape, strict=True)
            )
            if result.dtype != wanted.dtype.numpy or not shape_fits:
                raise ExecutionError(
                    f"{op.name}.evaluate returned {result.dtype}{list(result.shape)} for output {i}, which is {wanted}",
                    hint="`infer` says the shape and the model the element type; use astype and reshape",
                )
        return results

    checked.checks = True  # type: ignore[attr-defined]
    return checked


def _reporting(op: type[Op], parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """`parse_options` whose failure is a ModelError: the bytes come from a file."""

    def reporting(data: bytes) -> Any:
        try:
            return parse(data)
        except (LitheError, RuleViolation):
            raise
        except BROKEN_OPTIONS as cause:
            raise ModelError(f"the options of {op.name} cannot be read: {cause}") from cause

    reporting.checks = True  # type: ignore[attr-defined]
    return reporting
