"""What JAX's primitives are in builtins: running reductions, and functions that are computed by a series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lithe.conversion.builder import Builder
from lithe.conversion.jax.rules import Equation, rule
from lithe.ir.elementary import polynomial
from lithe.ir.graph import Tensor
from lithe.passes.writer import Value, where


def traced(b: Builder, function: Callable[..., Any], *xs: Tensor) -> list[Tensor]:
    """What a function of JAX gives for these tensors."""
    from lithe.conversion.jax.trace import trace, write

    closed, _ = trace(function, [x.type for x in xs])
    return write(b, closed, xs)


RUNNING = {"cumprod": "multiply", "cummax": "maximum", "cummin": "minimum", "cumlogsumexp": "logaddexp"}


@rule(*RUNNING)
def running(b: Builder, e: Equation, x: Tensor) -> Sequence[Tensor]:
    """Pairs, pairs of pairs, and so on: a number of steps that grows with the logarithm of the length."""
    import jax

    step = getattr(jax.numpy, RUNNING[e.primitive])
    return traced(b, lambda v: jax.lax.associative_scan(step, v, reverse=e["reverse"], axis=e["axis"]), x)


# Giles, "Approximating the erfinv function" (2010), table 5: in w - 2.5, and in sqrt(w) - 3 from 5 on
NEAR = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
        -0.00417768164, 0.246640727, 1.50140941)  # fmt: skip
FAR = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
       1.00167406, 2.83297682)  # fmt: skip


@rule("erf_inv")
def inverse_of_erf(b: Builder, e: Equation, x: Tensor) -> Tensor:
    """x p(w) with w = -log(1 - x**2)"""
    value = Value(b, x)
    w = -((1.0 - value) * (1.0 + value)).apply("LOG")
    far = polynomial(w.apply("SQRT") - 3.0, FAR)
    return (where(w < 5.0, polynomial(w - 2.5, NEAR), far) * value).tensor
