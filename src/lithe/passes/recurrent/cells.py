"""One step of a recurrent layer, matched backwards from its result.

    LSTM  c' = f * c + i * g;  h' = o * act(c')
    GRU   h' = z * h + (1 - z) * n, also written as n + z * (h - n)
    RNN   h' = act(...)

f, i, o, z and r are LOGISTIC, g and n TANH (or RELU), of sums over the input of the step and the state before it. A
first step whose state is zero has lost the terms of the state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lithe.ir.graph import Node, Tensor
from lithe.passes.recurrent.sums import Sum, Sums

ACTIVATIONS = ("TANH", "RELU")


@dataclass(frozen=True)
class Step:
    """A step as it was found.

    gates       sums of the gates, in the order of `conversion.cells`: input, forget, new, output (LSTM); update,
                reset, new (GRU); new (RNN). None where a first step has none.
    state       of a GRU with `reset_after`: the sum that its reset gate multiplies.
    hidden      the state before, where the equations show it; else it is one of the sources.
    memory      LSTM: the cell state after the step, and `before` the one before; None for zero.
    """

    kind: str
    output: Tensor
    gates: tuple[Sum | None, ...]
    activation: str
    state: Sum | None = None
    hidden: Tensor | None = None
    memory: Tensor | None = None
    before: Tensor | None = None
    reset_after: bool = False

    @property
    def sources(self) -> list[Tensor]:
        """What the step reads: its input, and the state before it."""
        sums = [s for s in (*self.gates, self.state) if s is not None]
        return list(dict.fromkeys(t for s in sums for t in s.terms))


@dataclass(frozen=True)
class Layer:
    """The weights of a layer, as `conversion.cells.Cell` has them, in NumPy.

    weights  [gates * units, depth], or [gates * units] integers: the input is what the products with it would be.
    """

    kind: str
    weights: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray
    recurrent_bias: np.ndarray | None
    activation: str
    reset_after: bool

    @property
    def units(self) -> int:
        return self.recurrent.shape[1]

    def same(self, other: Layer) -> bool:
        pairs = [(getattr(self, n), getattr(other, n)) for n in ("weights", "recurrent", "bias", "recurrent_bias")]
        return (self.kind, self.activation, self.reset_after) == (
            other.kind,
            other.activation,
            other.reset_after,
        ) and all(
            (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs
        )


def steps_of(sums: Sums, node: Node) -> Iterator[Step]:
    """The steps that this operator may be the end of."""
    if len(node.outputs) != 1 or not node.has_rules:
        return
    for match in MATCHES.get(node.op.name, ()):
        yield from match(sums, node.outputs[0])


def layer_of(step: Step, x: Tensor, hidden: Tensor) -> Layer | None:
    """The weights of a step that has a state before it."""
    whole = {"lstm": step.before is not None, "gru": step.hidden is hidden, "rnn": True}[step.kind]
    if not whole or x is hidden or set(step.sources) != {x, hidden}:
        return None
    units = step.output.type.shape[-1]
    if hidden.type.shape[-1:] != (units,) or any(s is None or len(s.bias) != units for s in step.gates):
        return None
    weights = [_weights(s, x) for s in step.gates]
    states = [*step.gates[:2], step.state] if step.state is not None else list(step.gates)
    recurrent = [_weights(s, hidden) for s in states]
    if step.state is not None and (x in step.state.terms or hidden in _sum(step.gates[2]).terms):
        return None
    w, r = _stacked(weights), _stacked(recurrent)
    if w is None or r is None or r.ndim != 2:
        return None
    extra = None
    if step.state is not None:
        extra = np.concatenate([np.zeros(2 * units), step.state.bias]).astype(np.float32)
    bias = np.concatenate([_sum(s).bias for s in step.gates]).astype(np.float32)
    return Layer(step.kind, w, r, bias, extra, step.activation, step.reset_after)


def starts(step: Step, layer: Layer) -> tuple[Tensor, Tensor | None] | None:
    """(input, state before) of a step that is one of this layer; the state is None where it is zero."""
    for x in step.sources:
        others = [t for t in step.sources if t is not x]
        if len(others) == 1:
            found = layer_of(step, x, others[0])
            if found is not None and found.same(layer):
                return x, others[0]
        if not others and step.before is None and _is_first(step, layer, x):
            return x, None
    return None


def _is_first(step: Step, layer: Layer, x: Tensor) -> bool:
    """Whether it is a step of the layer from a state of zeros."""
    if (step.kind, step.activation, step.hidden) != (layer.kind, layer.activation, None):
        return False
    units = layer.units
    for i, s in enumerate(step.gates):
        a, z = i * units, (i + 1) * units
        if s is None:
            continue
        w = s.terms.get(x)
        if w is None or not np.array_equal(w, layer.weights[a:z]) or not _equal(s.bias, layer.bias[a:z]):
            return False
    if layer.recurrent_bias is not None:
        extra = layer.recurrent_bias[2 * units :]
        return _equal(step.state.bias, extra) if step.state is not None else not extra.any()
    return step.state is None


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-6, atol=1e-9)


def _sum(s: Sum | None) -> Sum:
    assert s is not None
    return s


def _weights(s: Sum | None, t: Tensor) -> np.ndarray | None:
    return None if s is None else s.terms.get(t)


def _stacked(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    found = [p for p in parts if p is not None]
    if len(found) != len(parts) or len({p.shape[1:] for p in found}) != 1:
        return None
    return np.concatenate(found)


# equations


def _pairs(node: Node | None) -> list[tuple[Tensor, Tensor]]:
    """The operands of an operator with two, in both orders."""
    if node is None or len(node.inputs) != 2:
        return []
    a, b = node.inputs
    return [] if a is None or b is None else [(a, b), (b, a)]


def _is_zero(t: Tensor | None) -> bool:
    return t is not None and t.data is not None and not t.data.any()


def _gate(sums: Sums, t: Tensor | None) -> Sum | None:
    node = sums.maker(t, "LOGISTIC")
    return None if node is None or node.inputs[0] is None else sums.of(node.inputs[0])


def _activated(sums: Sums, t: Tensor | None) -> tuple[str, Tensor] | None:
    node = sums.maker(t, *ACTIVATIONS)
    return None if node is None or node.inputs[0] is None else (node.op.name, node.inputs[0])


def _lstm(sums: Sums, h: Tensor) -> Iterator[Step]:
    for o, shown in _pairs(sums.maker(h, "MUL")):
        output, active = _gate(sums, o), _activated(sums, shown)
        if output is None or active is None:
            continue
        activation, c = active
        for admitted, kept, before in _memories(sums, c):
            for i, g in _pairs(sums.maker(admitted, "MUL")):
                enter, new = _gate(sums, i), _activated(sums, g)
                if enter is None or new is None or new[0] != activation:
                    continue
                gates = (enter, kept, sums.of(new[1]), output)
                yield Step("lstm", h, gates, activation, memory=c, before=before)


def _memories(sums: Sums, c: Tensor) -> Iterator[tuple[Tensor, Sum | None, Tensor | None]]:
    """(i * g, the forget gate, the cell state before) of a cell state."""
    for one, other in _pairs(sums.maker(c, "ADD")):
        for f, before in _pairs(sums.maker(other, "MUL")):
            kept = _gate(sums, f)
            if kept is not None and before.type == c.type:
                yield (one, None, None) if _is_zero(before) else (one, kept, before)
    if sums.maker(c, "MUL") is not None:
        yield c, None, None


def _gru(sums: Sums, h: Tensor) -> Iterator[Step]:
    for z, n, shown in _mixtures(sums, h):
        hidden = None if _is_zero(shown) else shown
        update, active = _gate(sums, z), _activated(sums, n)
        if update is None or active is None:
            continue
        activation, inner = active
        new = sums.of(inner)
        if new is not None:
            for reset, fresh, state, after in _resets(sums, new, hidden):
                yield Step("gru", h, (update, reset, fresh), activation, state, hidden, reset_after=after)


def _mixtures(sums: Sums, h: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """(z, n, h before) of h' = z h + (1 - z) n; the state before is None where it was zero."""
    for one, other in _pairs(sums.maker(h, "ADD")):
        for rest, n in _pairs(sums.maker(other, "MUL")):  # z h + (1 - z) n
            z = _without(sums, rest)
            yield from ((z, n, b) for a, b in _pairs(sums.maker(one, "MUL")) if z is not None and a is z)
        for z, difference in _pairs(sums.maker(other, "MUL")):  # n + z (h - n)
            node = sums.maker(difference, "SUB")
            if node is not None and node.inputs[1] is one and node.inputs[0] is not None:
                yield z, one, node.inputs[0]
    for rest, n in _pairs(sums.maker(h, "MUL")):  # (1 - z) n
        first = _without(sums, rest)
        if first is not None:
            yield first, n, None
    node = sums.maker(h, "SUB")
    if node is not None:  # n - z n
        yield from ((z, n, None) for z, n in _pairs(sums.maker(node.inputs[1], "MUL")) if n is node.inputs[0])


def _without(sums: Sums, t: Tensor) -> Tensor | None:
    """z of 1 - z."""
    node = sums.maker(t, "SUB")
    one = None if node is None else node.inputs[0]
    return (
        node.inputs[1]
        if node is not None and one is not None and one.data is not None and np.all(one.data == 1)
        else None
    )


def _resets(sums: Sums, new: Sum, hidden: Tensor | None) -> Iterator[tuple[Sum | None, Sum, Sum | None, bool]]:
    """(reset gate, the sum of the new value without the state's part, the state's part if reset after, whether)."""
    for m, w in new.terms.items():
        fresh = replace(new, terms={t: v for t, v in new.terms.items() if t is not m})
        for r, multiplied in _pairs(sums.maker(m, "MUL")):
            reset = _gate(sums, r)
            if reset is None:
                continue
            if w.ndim == 1 and np.array_equal(w, np.arange(m.type.shape[-1])):
                state = sums.of(multiplied)
                if state is not None:
                    yield reset, fresh, state, True
            elif hidden is None and _is_zero(multiplied):
                yield None, fresh, None, False
            elif w.ndim == 2 and multiplied is hidden:
                yield reset, replace(fresh, terms={**fresh.terms, hidden: w}), None, False
    if hidden is None:
        yield None, new, None, False


def _rnn(sums: Sums, h: Tensor) -> Iterator[Step]:
    active = _activated(sums, h)
    new = None if active is None else sums.of(active[1])
    if active is not None and new is not None:
        yield Step("rnn", h, (new,), active[0])


MATCHES = {"MUL": (_lstm, _gru), "ADD": (_gru,), "SUB": (_gru,), **{a: (_rnn,) for a in ACTIVATIONS}}
