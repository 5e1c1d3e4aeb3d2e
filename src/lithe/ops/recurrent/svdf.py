"""SVDF: a dense layer over the last steps of a sequence, as two thin ones; the first one's results are remembered."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lithe.ir.build import Builder, Convolution
from lithe.ir.loops import Buffer, Expr
from lithe.ops.fixed_point import multiplier_of, saturated, scaled
from lithe.ops.op import Fused, Op, Scale, See, Site, register
from lithe.ops.products import ACTIVATIONS, Factor, Rows, activated, multiplied
from lithe.ops.recurrent.sequence_lstm import require_weights
from lithe.types import FLOAT32, INT8, INT32, INT64, Shape

F = np.float32
STATE = 4
CUTTING = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6")


@register
class Svdf(Op):
    """y[n, u] = activation(bias[u] + sum over f in u's filters and m of state[n, f, m] time[f, m]), where the state
    has first lost its oldest column, m = 0, and got x[n] . feature[f] as its newest, the last one.

    x: [batch, depth]; feature: [filters, depth]; time: [filters, memory]; state: [batch, filters * memory], a variable;
    y: [batch, filters / rank]: each unit has `rank` filters, one after the other.
    float32: weights are floats, or integers (see `lithe.ops.products`; those of time are made real again).
    int8: time and state are int16, or int8 as runtimes for microcontrollers have them; the activation RELU is
    the output's own range. Source: schema.fbs, SVDFOptions; TensorFlow Lite, svdf.
    """

    name, code = "SVDF", 27
    operands = (("input", "feature_weights", "time_weights", "bias?", "state"), ("output",))
    types = """
    float32 float32 float32 float32? float32 -> float32
    float32 W W float32? float32 -> float32: W= int8q uint8q
    int8q int8q S int32? S -> int8q: S= int16q int8q
    """
    stateful = True
    changes = staticmethod(lambda attrs: (STATE,))
    activations = ACTIVATIONS

    @dataclass(frozen=True)
    class Attrs:
        rank: int = 1
        fused_activation_function: str = "NONE"
        asymmetric_quantize_inputs: bool = False

    def infer(site: Site) -> list[Shape]:
        (batch, depth), feature, time = site.rank(0, 2).shape, site.rank(1, 2), site.rank(2, 2)
        rank, activation = site.attrs.rank, site.attrs.fused_activation_function
        filters, memory = time.shape
        site.require(min(depth, filters, memory) >= 1, f"must not be empty, is {time}", 2)
        site.require(feature.shape == (filters, depth), f"shape must be {[filters, depth]}, is {feature}", 1)
        site.require(rank >= 1 and filters % rank == 0, f"{filters} filters do not divide into units of {rank}")
        if site.has(3):
            bias = site.rank(3, 1)
            site.require(bias.shape == (filters // rank,), f"shape must be {[filters // rank]}, is {bias}", 3)
        state = site.rank(STATE, 2)
        site.require(
            state.shape == (batch, filters * memory), f"shape must be {[batch, filters * memory]}, is {state}", STATE
        )
        if site.input(0).dtype.is_float:
            site.require(activation in ACTIVATIONS, f"activation must be {', '.join(ACTIVATIONS)}, is {activation}")
            require_weights(site, (1, 2))
        else:
            site.require(activation == "RELU", f"the activation of integers must be RELU, is {activation}")
            for t, i in ((site.input(0), 0), (feature, 1), (time, 2), (state, STATE), (site.outputs[0], "output")):
                scale, zero = site.quantization(t, site.operand(i) if isinstance(i, int) else i)
                site.require(scale > 0 and math.isfinite(scale), f"scale must be positive and finite, is {scale}", i)
                plain = i in (1, 2) or t.dtype != INT8
                site.require(zero == 0 or not plain, f"zero point must be 0, is {zero}", i)
                site.require(-128 <= zero <= 127, f"zero point {zero} is outside of int8", i)
        return [(batch, filters // rank)]

    def fused(site: Site) -> Fused | None:
        """Integers know one activation, the ends of the output's own range: so every one that only cuts off fits.

        Time weights have 10 bits, so that sums over many steps have room in 32.
        """
        known = all(site.known(i) is not None for i in (1, 2, 3) if site.has(i))
        if site.attrs.fused_activation_function not in CUTTING or not known:
            return None
        scales = {"time_weights": Scale(bits=10), "bias": Scale("product", ("state", "time_weights"))}
        return Fused(scales, (), replace(site.attrs, fused_activation_function="RELU"))

    def evaluate(site: Site, *arrays: np.ndarray | None) -> list[np.ndarray]:
        return Svdf.inside(site, lambda name, value: None, *arrays)

    def inside(
        site: Site,
        see: See,
        x: np.ndarray,
        feature: np.ndarray,
        time: np.ndarray,
        bias: np.ndarray | None,
        state: np.ndarray,
    ) -> list[np.ndarray]:
        (filters, memory), n = time.shape, Numbers(site)
        remembered = state.reshape(x.shape[0], filters, memory)
        remembered[..., :-1] = remembered[..., 1:].copy()
        if n.is_float:
            left, factor = Factor.of(feature, site.inputs[1]), Factor.of(time, site.inputs[2])
            remembered[..., -1] = multiplied(x, left, site.attrs.asymmetric_quantize_inputs)
            time = factor[:]
        else:
            remembered[..., -1] = n.kept((x.astype(n.wide) - n.x_zero) @ feature.T.astype(n.wide))
        see("state", remembered[None])
        product = (remembered.astype(n.wide) - n.state_zero) * time.astype(n.wide)
        total = product.sum(axis=2).reshape(x.shape[0], -1, site.attrs.rank).sum(axis=2)
        return [np.asarray(n.shown(total if bias is None else total + bias), site.outputs[0].dtype.numpy)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, feature, time, bias, state = xs
        (batch, depth), (filters, memory), n, rank = x.shape, time.shape, Numbers(site), site.attrs.rank
        if batch == 0:
            return
        remembered = state.viewed((batch, filters, memory))
        newest = b.scratch(state.dtype, (batch, filters), "newest")
        if n.is_float:
            left, factor = Factor.of(feature, site.inputs[1]), Factor.of(time, site.inputs[2])
            rows = Rows(b, x, left.scale is not None, site.attrs.asymmetric_quantize_inputs)
            rows.quantize()
            rows.times(left, None, newest)
        else:
            factor = Factor(time)
            b.convolution(
                Convolution(
                    x.viewed((batch, 1, 1, depth)), feature.viewed((filters, 1, 1, depth)), None,
                    newest.viewed((batch, 1, 1, filters)), (1, 1), (1, 1), (0, 0), 1, INT32,
                    lambda total, o, pixel: n.kept(total.to(INT64)).to(state.dtype), x_zero=n.x_zero,
                )
            )  # fmt: skip
        wide = FLOAT32 if n.is_float else INT64

        def step(total: Expr, f: Expr, m: Expr, i: Expr, u: Expr) -> Expr:
            at = u * rank + f
            return total + (remembered[i, at, m].to(wide) - n.state_zero) * factor[at, m].to(wide)

        with b.nest((batch, filters), "parallel") as (i, f):
            with b.loop(memory - 1) as m:
                b.store(remembered, (i, f, m), remembered[i, f, m + 1])
            b.store(remembered, (i, f, memory - 1), newest[i, f])
        with b.nest(ys[0].shape, "parallel") as (i, u):
            first = 0 if bias is None else bias[u].to(wide)
            total = b.reduce(first, (rank, memory), lambda t, f, m: step(t, f, m, i, u), wide)
            b.store(ys[0], (i, u), n.shown(total).to(ys[0].dtype))


class Numbers:
    """The zero points and factors of one layer, and what they make of its two sums (of int64, or of floats)."""

    @np.errstate(over="ignore")
    def __init__(self, site: Site) -> None:
        self.is_float = site.input(0).dtype.is_float
        self.activation = site.attrs.fused_activation_function
        self.wide = np.float64 if self.is_float else np.int64
        self.x_zero = self.state_zero = 0
        if self.is_float:
            return
        (x, self.x_zero), (feature, _), (time, _) = (site.quantization(site.input(i)) for i in range(3))
        (state, self.state_zero), (y, self.zero) = map(site.quantization, (site.input(STATE), site.outputs[0]))
        self.bits = site.input(STATE).dtype.bits
        self.first = multiplier_of(float(F(x) * F(feature) / F(state)))
        self.second = multiplier_of(float(F(state) * F(time) / F(y)))

    def kept(self, total: Any) -> Any:
        """What the state remembers of an integer product with the feature weights."""
        return saturated(scaled(total, self.first) + self.state_zero, self.bits)

    def shown(self, total: Any) -> Any:
        """The output for a sum over the state."""
        if not self.is_float:
            return saturated(scaled(total, self.second) + self.zero, 8)
        real = total if isinstance(total, Expr) else total.astype(F)
        return activated(real, self.activation)
