"""The rules of a model that no reader of bytes can see: structure, quantization, and each operator's own.

Only a verified module may be prepared and compiled. Rules of operators are data of their classes: `operands` say
how many tensors there are and which may be absent, `types` which element types go together, `infer` the rest.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lithe.errors import InputError, LimitError, ModelError, UnsupportedOp
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops import verify_calls as calls
from lithe.ops.op import Op, RuleViolation, Site
from lithe.types import DTYPES, STRING, TensorType


@dataclass(frozen=True)
class Limits:
    """What a model may ask for; raise one by `dataclasses.replace`.

    file_bytes, constant_bytes, arena_bytes  bytes          tensors, operators  in all graphs
    rank, dimension, elements                of one tensor  call_depth          graphs that call graphs
    loop_work    of all loops in one run: a thousand for each operator and one for each element it makes, each time
                 round; LITHE_LOOP_WORK in the environment sets it
    """

    file_bytes: int = 2 << 30
    constant_bytes: int = 2 << 30
    arena_bytes: int = 2 << 30
    tensors: int = 100_000
    operators: int = 100_000
    rank: int = 8
    dimension: int = (1 << 31) - 1
    elements: int = (1 << 31) - 1
    call_depth: int = 16
    loop_work: int = dataclasses.field(default_factory=lambda: _loop_work())


def _loop_work() -> int:
    """LITHE_LOOP_WORK, or what takes some seconds."""
    text = os.environ.get("LITHE_LOOP_WORK", "")
    if text and not (text.isdecimal() and int(text)):
        raise InputError(f"LITHE_LOOP_WORK={text!r} is not a number of units of work", hint="set it to 1000000000, say")
    return int(text) if text else 1 << 28


NOT_RUN = "the model can be inspected and saved, but not run"


def verify(module: Module, limits: Limits | None = None) -> None:
    """Raises ModelError with operator, tensor and rule when a module cannot be right, LimitError beyond `limits`.

    Operators that Lithe does not know pass, and so do element types and fused activations that an operator's class
    has no rule for: such a model can be inspected and written. `Node.refusal` is the error that running it ends with.
    What is wrong with a graph beside the main one becomes its `Graph.refusal`: the others can be used all the same.
    """
    limits = limits or Limits()
    if not module.graphs:
        raise ModelError("the model has no graph")
    for count, limit, what in (
        (sum(len(g.tensors) for g in module.graphs), limits.tensors, "tensors"),
        (sum(len(g.nodes) for g in module.graphs), limits.operators, "operators"),
        (
            sum({id(t.data): t.data.nbytes for t in module.constants() if t.data is not None}.values()),
            limits.constant_bytes,
            "constant bytes",
        ),
    ):
        if count > limit:
            raise LimitError(f"the model has {count} {what}, the limit is {limit}")
    calls.verify(module, limits.call_depth)
    verified: set[int] = set()

    def graph_after_its_callers(i: int) -> None:
        """Verifies a graph, and where it calls others those first: they take the types that they are given."""
        graph = module.graphs[i]
        if i in verified or graph.refusal is not None:
            return
        verified.add(i)
        try:
            _GraphVerifier(module, i, limits, graph_after_its_callers).run()
        except ModelError as cause:
            if i == 0:
                raise
            graph.refusal = cause

    for i in range(len(module.graphs)):
        graph_after_its_callers(i)
    _verify_signatures(module)


def _graph_prefix(index: int) -> str:
    return "" if index == 0 else f"graph #{index} "


class _GraphVerifier:
    """The rules of one graph."""

    def __init__(self, module: Module, index: int, limits: Limits, verify_graph: Callable[[int], None]) -> None:
        self.module, self.verify_graph = module, verify_graph
        self.graph: Graph = module.graphs[index]
        self.prefix = _graph_prefix(index)
        self.main = index == 0
        self.limits = limits
        # Types with inferred shapes; a shape that is not known before the model runs is None.
        self.types: dict[Tensor, TensorType | None] = {}

    def run(self) -> None:
        members = set(self.graph.tensors)
        made = {t for n in self.graph.nodes for t in n.outputs}
        for t in self.graph.tensors:
            try:
                self.tensor(t)
            except ModelError as e:
                raise type(e)(e.problem, where=self.user(t) or e.where) from None
        available = self.inputs(members, made)
        for n in self.graph.nodes:
            self.node(n, members, available, made)
            self.infer(n)
        for i, t in enumerate(self.graph.outputs):
            if t not in members or t not in available:
                raise ModelError("nothing computes it", where=f"{self.prefix}graph output {i}, tensor {t!r}")

    # -- tensors ---------------------------------------------------------------------------------------------

    def tensor(self, t: Tensor) -> None:
        where, shape, limits = f"{self.prefix}tensor {t!r}", t.type.shape, self.limits
        if len(shape) > limits.rank:
            raise LimitError(f"rank {len(shape)} is above the limit {limits.rank}", where=where)
        for d in shape:
            if not 0 <= d <= limits.dimension:
                raise ModelError(f"dimension {d} of {list(shape)} must be in [0, {limits.dimension}]", where=where)
        count = math.prod(d for d in shape if d)  # numpy counts this way: empty arrays have strides too
        if count > limits.elements:
            raise LimitError(f"{count} elements, the limit is {limits.elements}", where=where)
        if t.data is not None:
            if t.is_variable:
                raise ModelError("a variable must not have data", where=where)
            if t.data.shape != shape or (t.type.dtype != STRING and t.data.dtype != t.type.dtype.numpy):
                got = f"{t.data.dtype}{list(t.data.shape)}"
                raise ModelError(f"the data are {got}, the type says {t.type}", where=where)
        if t.type.quantization is not None and t.type.dtype.is_integer:
            try:
                self.quantization(t, where)
            except ModelError:
                if t.type.dtype.bits < 32 or t.type.rank:
                    raise
                t.type = dataclasses.replace(t.type, quantization=None)  # a number that nobody scales

    def quantization(self, t: Tensor, where: str) -> None:
        q, dtype = t.type.quantization, t.type.dtype
        if q is None:
            return
        if len(q.scale) != len(q.zero_point) or not q.scale:
            raise ModelError(f"{len(q.scale)} scales and {len(q.zero_point)} zero points", where=where)
        if q.block:
            wanted = t.type.size // q.block
            if q.block < 0 or t.type.rank == 0 or t.type.shape[-1] % q.block or len(q.scale) != wanted:
                raise ModelError(f"{len(q.scale)} scales for blocks of {q.block} elements of {t.type}", where=where)
        elif len(q.scale) > 1:
            # A bias has one axis only, and older writers copied the filter's number to it.
            axis = 0 if t.type.rank == 1 else q.axis
            if not 0 <= axis < t.type.rank:
                raise ModelError(f"the quantized axis {q.axis} is not in [0, {t.type.rank})", where=where)
            if len(q.scale) != t.type.shape[axis]:
                wanted = t.type.shape[axis]
                raise ModelError(f"{len(q.scale)} scales for {wanted} slices of axis {axis}", where=where)
        scale = np.asarray(q.scale if dtype.bits < 32 else ())  # the format has no use for those of a bias
        bad = ~(np.isfinite(scale) & (scale > 0))
        if bad.any():
            raise ModelError(f"scale must be finite and positive, is {scale[bad][0]}", where=where)
        for z in q.zero_point if dtype.bits < 32 else ():
            if not dtype.minimum <= z <= dtype.maximum:
                raise ModelError(f"zero point {z} is not in {dtype}'s [{dtype.minimum}, {dtype.maximum}]", where=where)

    def inputs(self, members: set[Tensor], made: set[Tensor]) -> set[Tensor]:
        """Checks the graph's inputs; the tensors that have a value before the first operator."""
        for i, t in enumerate(self.graph.inputs):
            where = f"{self.prefix}graph input {i}, tensor {t!r}"
            if t not in members:
                raise ModelError("it does not belong to the graph", where=where)
            if t.is_constant:
                raise ModelError("a constant cannot be an input", where=where)
        available = set(self.graph.inputs)
        for t in self.graph.tensors:
            if t.is_constant or t.is_variable:
                available.add(t)
        for t in available:
            unranked = t.type.shape == () and not t.extras.get("has_rank")  # a scalar, or no shape was known
            open_shape = unranked or not self.main or -1 in (t.shape_signature or ())
            self.types[t] = None if t in self.graph.inputs and open_shape else t.type
        return available

    def user(self, t: Tensor) -> str:
        """The place of the first operand that is this tensor, "" when there is none."""
        for n in self.graph.nodes:
            for side, tensors in (("input", n.inputs), ("output", n.outputs)):
                for i, operand in enumerate(tensors):
                    if operand is t:
                        return self.place(n, side, i)
        return ""

    # -- nodes -----------------------------------------------------------------------------------------------

    def node(self, n: Node, members: set[Tensor], available: set[Tensor], made: set[Tensor]) -> None:
        n.refusal = None
        for i, t in enumerate(n.inputs):
            if t is not None and (t not in members or t not in available):
                unknown = ModelError(
                    "no operator before this one computes it, and it is no constant, variable or input",
                    where=self.place(n, "input", i),
                )
                if t not in made:
                    raise unknown
                n.refusal = unknown  # of no weight when a later operator writes the results anew
        refusal = n.refusal
        if n.op.known:
            self.operands(n)
            for option, number in calls.called_graphs(n) if n.op.calls else ():
                calls.give_types(n, option, self.module.graphs[number], lambda i=number: self.verify_graph(i))
            self.activation(n)
            self.element_types(n)
        n.refusal = refusal or n.refusal
        for i, t in enumerate(n.outputs):
            if t.is_constant or t not in members:
                what = "a constant" if t.is_constant else "a tensor of another graph"
                raise ModelError(f"an operator must not write {what}", where=self.place(n, "output", i))
            available.add(t)

    def operands(self, n: Node) -> None:
        """The number of inputs and outputs, and that only optional ones are absent."""
        for side, names, tensors in (("input", n.op.operands[0], n.inputs), ("output", n.op.operands[1], n.outputs)):
            least = sum(not name.endswith(("?", "*")) for name in names)
            most = math.inf if any(name.endswith("*") for name in names) else len(names)
            if not least <= len(tensors) <= most:
                wanted = (
                    f"{least}" if least == most else f"{least} or more" if most == math.inf else f"{least} to {most}"
                )
                text = f"must have {wanted} {side}{'s' * (wanted != '1')} ({', '.join(names)}), has {len(tensors)}"
                raise ModelError(text, where=f"{self.prefix}{n!r}")
            for i, t in enumerate(tensors):
                if t is None and not names[min(i, len(names) - 1)].endswith("?"):
                    raise ModelError("must be present", where=self.place(n, side, i))
        for i in n.op.changes(n.attrs):
            t = n.inputs[i] if i < len(n.inputs) else None
            if t is not None and not t.is_variable:
                raise ModelError("must be a variable: the operator changes it", where=self.place(n, "input", i))

    def activation(self, n: Node) -> None:
        """The fused activation is one that the operator can fuse."""
        wanted = getattr(n.attrs, "fused_activation_function", "NONE")
        if wanted not in n.op.activations:
            text = f"fused activation must be one of {', '.join(n.op.activations)}, is {wanted}"
            n.refusal = UnsupportedOp(text, where=f"{self.prefix}{n!r}, fused_activation_function", hint=NOT_RUN)

    def element_types(self, n: Node) -> None:
        if not n.op.signatures:
            return
        for i, t in enumerate(n.inputs):
            if t is not None and _blockwise(t) and not (i == 1 and n.op.blocks and t.type.quantization is not None):
                n.refusal = UnsupportedOp(
                    "weights with a scale for each block have no rule", where=self.place(n, "input", i), hint=NOT_RUN
                )
                return
        failures = []
        for signature in _expanded(n.op):
            misfit = _misfit(signature, n)
            if misfit is None:
                return
            failures.append(misfit)
        corrected = next((s[1] for s, f in zip(_expanded(n.op), failures, strict=True) if _corrected(s[1], f, n)), None)
        if corrected is not None:
            for t, word in zip(n.outputs, corrected, strict=True):
                t.type = dataclasses.replace(t.type, dtype=DTYPES[word.rstrip("?*").removesuffix("q")])
            return
        reached, side, i, _ = max(failures, key=lambda f: f[0])
        wanted = list(dict.fromkeys(f[3] for f in failures if f[:3] == (reached, side, i)))
        given = ", ".join("-" if t is None else str(t.type.dtype) for t in n.inputs)
        results = ", ".join(str(t.type.dtype) for t in n.outputs)
        n.refusal = UnsupportedOp(
            f"no rule for these types: ({given}) -> ({results}); here it takes {', '.join(wanted)}",
            where=self.place(n, side, i),
            hint=NOT_RUN,
        )

    def infer(self, n: Node) -> None:
        """Shapes from the operator's rule, as far as they are known before the model runs."""
        types = [None if t is None else self.types.get(t) for t in n.inputs]
        computed = any(
            t is not None and not t.is_constant and t.type.dtype.name in ("int32", "int64", "int16") for t in n.inputs
        )
        unknown = any(t is not None and kind is None for t, kind in zip(n.inputs, types, strict=True))
        for t in n.outputs:
            self.types[t] = None
        if not n.has_rules or unknown:
            return
        site = dataclasses.replace(Site.of(n), inputs=tuple(types))
        where = f"{self.prefix}{n!r}"
        try:
            with np.errstate(all="ignore"):
                shapes = n.op.infer(site)
        except RuleViolation as violation:
            if computed and not n.op.stateful:
                return  # its shape operand may turn out to be a constant; the executor asks again
            place = self.violated(n, violation.operand)
            raise ModelError(violation.rule, where=place) from None
        except (ValueError, IndexError, ArithmeticError, MemoryError) as cause:
            if isinstance(cause, ModelError):
                raise
            raise ModelError(f"the shape of the result cannot be computed: {cause}", where=where) from cause
        if len(shapes) != len(n.outputs):
            raise ModelError(f"has {len(n.outputs)} outputs, the operator makes {len(shapes)}", where=where)
        for t, shape in zip(n.outputs, shapes, strict=True):
            if shape is None or any(d is None for d in shape):
                continue
            self.types[t] = dataclasses.replace(t.type, shape=tuple(int(d) for d in shape))
            if any(not 0 <= d <= self.limits.dimension for d in shape):
                raise ModelError(f"the result would have the shape {list(shape)}", where=where)
            if math.prod(d for d in shape if d) * t.type.dtype.bytes > self.limits.arena_bytes:
                raise LimitError(f"the result {t.type.dtype}{list(shape)} is too large", where=where)

    def violated(self, n: Node, operand: str) -> str:
        """The place of a broken rule, with the tensor when the operand is one."""
        for side, names, tensors in (("input", n.op.operands[0], n.inputs), ("output", n.op.operands[1], n.outputs)):
            for i, name in enumerate(names):
                if operand and name.rstrip("?*") == operand and i < len(tensors):
                    return self.place(n, side, i)
        return f"{self.prefix}{n!r}" + (f", {operand}" if operand else "")

    def place(self, n: Node, side: str, i: int) -> str:
        names = n.op.operands[side == "output"] if n.op.known else ()
        tensors = n.inputs if side == "input" else n.outputs
        name = f" '{names[min(i, len(names) - 1)].rstrip('?*')}'" if names else ""
        tensor = tensors[i] if i < len(tensors) else None
        return f"{self.prefix}{n!r}, {side} {i}{name}" + ("" if tensor is None else f", tensor {tensor!r}")


def has_rule(node: Node) -> bool:
    """Whether the operator's class has a rule for the element types of a node's operands."""
    signatures = list(_expanded(node.op))
    return not signatures or any(_misfit(signature, node) is None for signature in signatures)


def _expanded(op: type[Op]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    for signature in op.signatures:
        yield from signature.expanded()


def _misfit(signature: tuple[tuple[str, ...], tuple[str, ...]], n: Node) -> tuple[int, str, int, str] | None:
    """None when the node's types fit; else (how far they fit, side, position, what is wanted there)."""
    reached = 0
    for side, words, tensors in (("input", signature[0], n.inputs), ("output", signature[1], n.outputs)):
        for i, t in enumerate(tensors):
            if i >= len(words) and not (words and words[-1].endswith("*")):
                return reached, side, i, "nothing"
            bare = words[min(i, len(words) - 1)].rstrip("?*")
            name = bare.removesuffix("q")
            if t is not None and t.type.dtype.name != name:
                return reached, side, i, name
            if t is not None and bare.endswith("q") and t.type.quantization is None:
                return reached, side, i, f"{name} with a scale and a zero point"
            reached += 1
    return None


def _corrected(words: tuple[str, ...], misfit: tuple[int, str, int, str], n: Node) -> bool:
    """Whether only the types that results declare speak against a combination: an operator's rules decide those."""
    if misfit[1] == "input" or len(words) != len(n.outputs) or any(w.endswith("*") for w in words):
        return False
    needs = [w.rstrip("?").endswith("q") for w in words]
    return all(not q or t.type.quantization is not None for q, t in zip(needs, n.outputs, strict=True))


def _blockwise(t: Tensor) -> bool:
    details = t.extras.get("quantization_details")
    return details is not None and details[0] != "CustomQuantization"


def _verify_signatures(module: Module) -> None:
    for s in module.signatures:
        if not 0 <= s.graph < len(module.graphs):
            raise ModelError(f"graph {s.graph} does not exist", where=f"signature '{s.key}'")
        graph = module.graphs[s.graph]
        inputs, tensors = set(graph.inputs), set(graph.tensors)
        for name, t in s.inputs.items():
            if t not in inputs:
                raise ModelError(f"tensor {t!r} is no input of the graph", where=f"signature '{s.key}', input '{name}'")
        for name, t in s.outputs.items():
            if t not in tensors:
                raise ModelError(f"tensor {t!r} is not in the graph", where=f"signature '{s.key}', output '{name}'")
