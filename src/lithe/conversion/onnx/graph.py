"""A graph of ONNX, node by node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.onnx import integers, known
from lithe.conversion.onnx.call import RULES, TYPES, Call, Value, attribute, has_open
from lithe.conversion.sizes import is_open
from lithe.errors import ModelError
from lithe.ir.graph import Tensor
from lithe.passes.writer import Inexpressible
from lithe.types import Shape

DEFAULT = ("", "ai.onnx")
# Operators that make something else of the same operands each time, or whose results the builder must see.
NEVER_FOLDED = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial",
                "If", "Loop", "Scan", "QuantizeLinear", "DequantizeLinear"}  # fmt: skip
MOST_NESTED = 12  # functions in functions


class Missing(Inexpressible):
    """A value that could not be written, which was listed already."""


@dataclass
class Scope:
    """The values of a graph (or of a function) by name, while it is written.

    versions  of the operator sets, by domain.
    types     declared types, by name: (number of the element type or 0, dimensions or None).
    uses      how many read a name; the graph's outputs count.
    makers    the node that makes a name.
    prefix    of names, for messages and names of tensors: functions are written inside of graphs.
    """

    b: Builder
    versions: dict[str, int]
    values: dict[str, Value | None] = field(default_factory=dict)
    types: dict[str, tuple[int, list[int | str | None] | None]] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)
    makers: dict[str, Any] = field(default_factory=dict)
    readers: dict[str, list[Any]] = field(default_factory=dict)
    prefix: str = ""
    depth: int = 0
    unroll: bool = False
    missing: set[str] = field(default_factory=set)
    integers: dict[str, Tensor] = field(default_factory=dict)  # what stands for floats, by their name: int8
    stored: dict[str, Tensor] = field(default_factory=dict)  # the same by the name of the model's own integers
    done: set[str] = field(default_factory=set)  # results of activations that an operator before them has applied
    functions: dict[tuple[str, str], Any] = field(default_factory=dict)  # the model's own, by domain and name

    def look_at(self, nodes: Iterable[Any], outputs: Iterable[str]) -> None:
        """Counts who reads what."""
        for node in nodes:
            for name in [*node.input, *(n for a in node.attribute for g in graphs_of(a) for n in free_names(g))]:
                self.uses[name] += 1
                self.readers.setdefault(name, []).append(node)
            for name in node.output:
                self.makers[name] = node
        self.uses.update(outputs)

    def declared(self, name: str, rank: int | None = None) -> Shape:
        """The declared shape of a name; what is not known of it is a new open dimension."""
        dims = self.types.get(name, (0, None))[1]
        if dims is None:
            if rank is None:
                raise Inexpressible("the shape of the result depends on data")
            dims = [None] * rank
        fixed = []
        for axis, d in enumerate(dims):
            known = d if isinstance(d, int) else self.b.sizes.stand_in(d or f"{self.prefix}{name}_{axis}")
            fixed.append(known)
        return tuple(fixed)

    def write(self, nodes: Iterable[Any]) -> None:
        for node in nodes:
            self._write_node(node)

    def read(self, name: str) -> Value | None:
        """A value, None for an operand left out."""
        if not name:
            return None
        if name not in self.values:
            raise ModelError(f"'{name}' is read and nothing makes it", where=self.b.where)
        value = self.values[name]
        if name in self.missing:
            raise Missing
        return value

    def _write_node(self, node: Any) -> None:
        title = node.name or next((n for n in node.output if n), "")
        domain = "" if node.domain in DEFAULT else node.domain
        what = f"{domain}.{node.op_type}" if domain else node.op_type
        with self.b.at(f"node '{self.prefix}{title}'", self.prefix + (title or node.op_type)):
            try:
                made = self._made(node, domain)
            except Missing:
                made = None
            except Inexpressible as cause:
                self.b.problem(what, str(cause))
                made = None
            except ModelError as cause:
                self.b.problem(what, cause.problem)
                made = None
            except (ValueError, IndexError, KeyError, TypeError, AssertionError, ArithmeticError) as cause:
                self.b.problem(what, f"its operands do not fit: {type(cause).__name__} {cause}")
                made = None
        if made is None:
            self.missing.update(n for n in node.output if n)
            self.values.update({n: None for n in node.output if n})
            return
        for name, value in zip(node.output, made, strict=False):
            if name:
                self.values[name] = value

    def _made(self, node: Any, domain: str) -> Sequence[Value]:
        if domain not in self.versions and ("ai.onnx" not in self.versions or domain):
            raise ModelError(f"the model does not import the operator set '{domain}'", where=self.b.where)
        version = self.versions.get(domain, self.versions.get("ai.onnx", 0))
        operands = [self.read(name) for name in node.input]
        attributes = {a.name: attribute(a) for a in node.attribute}
        folded = self._folded(node, version, operands, attributes)
        if folded is not None:
            return folded
        if node.output[0] in self.done:  # the operator before it has applied it
            return [self.values[node.input[0]]]  # type: ignore[list-item]
        rule = RULES.get(node.op_type) if not domain else RULES.get(f"{domain}.{node.op_type}")
        if rule is not None:
            call = Call(node.op_type, version, attributes, operands, list(node.output), self, self.b, {"node": node})
            made = (integers.written(self, call, node) if self.integers else None) or rule(self.b, call)
        else:
            made = self._expanded(node, domain, version, operands, attributes)
        return [made] if isinstance(made, Tensor | np.ndarray) else made

    def _folded(self, node: Any, version: int, operands: list[Value | None], attributes: dict[str, Any]) -> Any:
        """The results where all operands are known."""
        arrays = [o if isinstance(o, np.ndarray) else None for o in operands]
        if node.op_type in NEVER_FOLDED or not operands or any(
            o is not None and a is None for o, a in zip(operands, arrays, strict=True)
        ):  # fmt: skip
            return None
        if any(a is not None and has_open(a) for a in arrays):
            return known.with_sizes(node.op_type, attributes, arrays)
        return known.evaluated(node, version, arrays)

    def _expanded(self, node: Any, domain: str, version: int, operands: list[Value | None],
                  attributes: dict[str, Any]) -> list[Value]:  # fmt: skip
        """What an operator is by its own definition in other operators."""
        body = self._body(node, domain, version, operands)
        if body is None or self.depth > MOST_NESTED:
            raise Inexpressible("there is no builtin for it")
        versions = {("" if o.domain in DEFAULT else o.domain): o.version for o in body.opset_import} or self.versions
        inner = Scope(self.b, {**self.versions, **versions}, prefix=f"{self.prefix}{node.name or node.output[0]}/",
                      depth=self.depth + 1, unroll=self.unroll, functions=self.functions)  # fmt: skip
        defaults = {**_defaults(node, version, domain), **{a.name: a for a in body.attribute_proto}}
        given = {**defaults, **{a.name: a for a in node.attribute}}
        nodes = [_with_attributes(n, given) for n in body.node]
        inner.look_at(nodes, body.output)
        padded = [*operands, *[None] * (len(body.input) - len(operands))]
        inner.values.update(zip(body.input, padded, strict=True))
        for name, value in zip(body.input, padded, strict=True):
            if value is None:
                inner.values[name] = None
        before = len(self.b.conversion.problems)
        inner.write([_without_absent(n, {k for k, v in zip(body.input, padded, strict=True) if v is None})
                     for n in nodes])  # fmt: skip
        if len(self.b.conversion.problems) > before:
            raise Missing
        made: list[Value] = []
        for name in body.output:
            value = inner.values.get(name)
            made.append(np.zeros(0) if value is None else value)
        return made

    def _body(self, node: Any, domain: str, version: int, operands: list[Value | None]) -> Any:
        import onnx

        if (domain, node.op_type) in self.functions:
            return self.functions[domain, node.op_type]
        try:
            schema: Any = onnx.defs.get_schema(node.op_type, version, domain)
        except onnx.defs.SchemaError:
            return None
        if schema.has_function:
            return schema.function_body
        if schema.has_context_dependent_function:
            versions = [v for v in schema.context_dependent_function_opset_versions if v <= version]
            types = [type_proto(o).SerializeToString() for o in operands]
            text = schema.get_context_dependent_function_with_opset_version(
                max(versions, default=schema.since_version), node.SerializeToString(), types)  # fmt: skip
            body = onnx.FunctionProto()
            body.ParseFromString(text)
            return body if body.node else None
        return None


def _defaults(node: Any, version: int, domain: str) -> dict[str, Any]:
    """The attributes that an operator has where a node does not give them."""
    import onnx

    try:
        schema = onnx.defs.get_schema(node.op_type, version, domain)
    except onnx.defs.SchemaError:
        return {}
    return {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name}


def type_proto(value: Value | None) -> Any:
    """The type of a value as ONNX writes it."""
    import onnx

    if value is None:
        return onnx.TypeProto()
    if isinstance(value, Tensor):
        number = {name: n for n, name in TYPES.items()}[value.type.dtype.name]
        shape = [None if is_open(n) else n for n in value.type.shape]
        return onnx.helper.make_tensor_type_proto(number, shape)
    return onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def graphs_of(a: Any) -> list[Any]:
    return [a.g] if a.type == 5 else list(a.graphs)


def free_names(graph: Any) -> list[str]:
    """What a graph reads from outside of it."""
    own = {t.name for t in graph.initializer} | {i.name for i in graph.input}
    found: dict[str, None] = {}
    for node in graph.node:
        inner = [n for a in node.attribute for g in graphs_of(a) for n in free_names(g)]
        found.update(dict.fromkeys(n for n in [*node.input, *inner] if n and n not in own))
        own.update(node.output)
    found.update(dict.fromkeys(o.name for o in graph.output if o.name not in own))
    return list(found)


def _with_attributes(node: Any, given: dict[str, Any]) -> Any:
    """A node of a function with the caller's attributes in it."""
    import onnx

    made = onnx.NodeProto()
    made.CopyFrom(node)
    del made.attribute[:]
    for a in node.attribute:
        if a.ref_attr_name:
            if a.ref_attr_name in given:
                copy = onnx.AttributeProto()
                copy.CopyFrom(given[a.ref_attr_name])
                copy.name = a.name
                made.attribute.append(copy)
        elif a.type == onnx.AttributeProto.GRAPH:
            copy = onnx.AttributeProto()
            copy.CopyFrom(a)
            inside = [_with_attributes(n, given) for n in a.g.node]
            del copy.g.node[:]
            copy.g.node.extend(inside)
            made.attribute.append(copy)
        else:
            made.attribute.append(a)
    return made


def _without_absent(node: Any, absent: set[str]) -> Any:
    """Operands that the caller left out are left out inside."""
    for i, name in enumerate(node.input):
        if name in absent:
            node.input[i] = ""
    while node.input and not node.input[-1]:
        del node.input[-1]
    return node


def declared_type(info: Any) -> tuple[int, list[int | str | None] | None]:
    """Element type and dimensions of a value info: numbers, names, or None."""
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
        return kind.elem_type, None
    return kind.elem_type, [d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in kind.shape.dim]
