"""A program of ATen's operators as a graph: each operator is written by its rule."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.torch import arrangement as arrangement
from lithe.conversion.torch import control
from lithe.conversion.torch import lookups as lookups
from lithe.conversion.torch import normalization as normalization
from lithe.conversion.torch import opaque as opaque
from lithe.conversion.torch import pictures as pictures
from lithe.conversion.torch import products as products
from lithe.conversion.torch import recurrent as recurrent
from lithe.conversion.torch import reductions as reductions
from lithe.conversion.torch.program import name_of
from lithe.conversion.torch.rules import Call, cast, rule_for
from lithe.ir.graph import Tensor
from lithe.passes.writer import Inexpressible
from lithe.types import DTYPES, FLOAT32, DType, TensorType

FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
OWN = (f"{os.sep}torch{os.sep}nn{os.sep}", f"{os.sep}torch{os.sep}_", f"{os.sep}torch{os.sep}functional")
ARRANGING = {"transpose", "permute", "view", "reshape", "unsqueeze", "squeeze", "slice", "select", "clone"}
PART = "lithe_part"  # under which the path of a part lies in what a traced operator is annotated with
HIGHER = {"cond": control.branch, "while_loop": control.loop}
SILENT = (
    "_assert_",
    "sym_constrain_range",
    "_assert_async",
    "sym_size",
    "sym_numel",
    "sym_stride",
    "_functional_assert",
)


class Writing:
    """One program that is being written: what its symbols stand for, and whether recurrent layers are unrolled."""

    def __init__(self, symbols: Mapping[Any, int], unroll: bool = False) -> None:
        self.symbols, self.unroll = symbols, unroll
        self.whole: Any = None  # the graph of operators of which results are marked

    def size(self, value: Any) -> Any:
        """A number of the program, in which symbols have their stand-ins."""
        expression = getattr(getattr(value, "node", None), "expr", None)
        if expression is None:
            return value
        known = {s: self.symbols[s] for s in expression.free_symbols if s in self.symbols}
        if len(known) < len(expression.free_symbols):
            raise Inexpressible("a size depends on data")
        from sympy import Integer  # torch brings it

        made = expression.xreplace({s: Integer(n) for s, n in known.items()})
        if made.is_Boolean or made.is_integer:
            return bool(made) if made.is_Boolean else int(made)
        if known:
            raise Inexpressible("a fraction of open dimensions")
        return float(made)

    def type_of(self, value: Any) -> TensorType:
        """The type of a traced tensor. Raises Inexpressible for element types that a file does not have."""
        name = str(value.dtype).removeprefix("torch.")
        if name not in DTYPES:
            raise Inexpressible(f"tensors of {name}")
        return TensorType(DTYPES[name], tuple(self.size(n) for n in value.shape))

    def graph(self, b: Builder, module: Any, inputs: Sequence[Any]) -> list[Any]:
        """What a graph of operators gives for these inputs."""
        values: dict[Any, Any] = {}
        given = iter(inputs)
        for node in module.graph.nodes:
            if node.op == "placeholder":
                values[node] = next(given)
            elif node.op == "get_attr":
                values[node] = self.attribute(b, module, node.target)
            elif node.op == "output":
                results = node.args[0]
                return self.read(values, list(results) if isinstance(results, (list, tuple)) else [results])
            else:
                with b.at(place(node, b.where), scope(node, b.scope)):
                    values[node] = self.call(b, node, values)
                    if module is self.whole:
                        b.mark(node.name, values[node])
        raise AssertionError("a graph ends with its outputs")

    def attribute(self, b: Builder, module: Any, target: str) -> Any:
        value = operator.attrgetter(target)(module)
        return tensor_constant(b, target, value) if hasattr(value, "dtype") else value

    def read(self, values: Mapping[Any, Any], argument: Any) -> Any:
        if type(argument).__name__ == "Node":
            return values[argument]
        if isinstance(argument, (list, tuple)):
            return [self.read(values, a) for a in argument]
        return self.size(argument)

    def call(self, b: Builder, node: Any, values: Mapping[Any, Any]) -> Any:
        """What one operator gives: a tensor, several, a number, or nothing."""
        meta = node.meta.get("val")
        name = name_of(node.target) if hasattr(node.target, "_schema") else getattr(node.target, "__name__", "")
        if node.target is operator.getitem:
            source = values[node.args[0]]
            return None if source is None else source[node.args[1]]
        if name.startswith(SILENT) and meta is None:
            return None
        if meta is not None and not has_tensors(meta) and not any(map(has_tensors, argument_values(node))):
            return self.number(b, name, meta)
        if name.startswith(SILENT):
            return self.number(b, name, meta)
        try:
            results = [self.type_of(v) for v in flat(meta)]
        except Inexpressible as cause:
            b.problem(name, str(cause))
            return [Tensor(f"{b.scope}/missing", TensorType(FLOAT32, ()))] * max(len(flat(meta)), 1) if isinstance(
                meta, (tuple, list)) else Tensor(f"{b.scope}/missing", TensorType(FLOAT32, ()))  # fmt: skip
        write = self.higher(b, node, values, results) or self.plain(b, node, name, values, results)
        made = b.attempt(name, write, results)
        return made if isinstance(meta, (tuple, list)) else made[0]

    def number(self, b: Builder, name: str, meta: Any) -> Any:
        try:
            return self.size(meta)
        except Inexpressible as cause:
            b.problem(name, str(cause))
            return 1

    def higher(self, b: Builder, node: Any, values: Mapping[Any, Any], results: list[TensorType]) -> Any:
        rule = HIGHER.get(getattr(node.target, "__name__", ""))
        if rule is None or hasattr(node.target, "_schema"):
            return None
        return lambda: rule(b, self.read(values, node.args), results, self.graph)

    def plain(self, b: Builder, node: Any, name: str, values: Mapping[Any, Any],
              results: list[TensorType]) -> Callable[[], list[Tensor]]:  # fmt: skip
        rule = rule_for(name)

        def write() -> list[Tensor]:
            b.require(rule is not None, "there is no builtin for it")
            arguments = self.arguments(node, values)
            call = Call(name, arguments, results, common_type(node), used(node), self.unroll)
            of_complex = "fft" in name or name.split(".")[0] in ARRANGING
            b.require(of_complex or not any(r.dtype.kind == "complex" for r in results), "complex numbers")
            before = len(b.nodes)
            made = call.apply(rule, b)  # type: ignore[arg-type]
            name_constants(b, before, arguments)
            tensors = [made] if isinstance(made, Tensor) else list(made)
            if len(results) == 1:
                return [checked(b, tensors[0], results[0])]
            return [
                checked(b, t, r) if i in call.used else t
                for i, (t, r) in enumerate(zip(tensors, results, strict=False))
            ]

        return write

    def arguments(self, node: Any, values: Mapping[Any, Any]) -> dict[str, Any]:
        """The operator's arguments by the names of its schema."""
        made = {}
        schema = node.target._schema.arguments
        for i, parameter in enumerate(schema):
            if i < len(node.args):
                made[parameter.name] = self.read(values, node.args[i])
            elif parameter.name in node.kwargs:
                made[parameter.name] = self.read(values, node.kwargs[parameter.name])
            else:
                made[parameter.name] = parameter.default_value
        return made


def name_constants(b: Builder, before: int, arguments: Mapping[str, Any]) -> None:
    """Parameters that a rule has turned keep their names."""
    flat = [v for a in arguments.values() for v in (a if isinstance(a, list) else [a])]
    parameters = [t for t in flat if isinstance(t, Tensor) and t.data is not None and t.type.size > 1]
    made = [
        t for n in b.nodes[before:] for t in n.inputs if t is not None and t.name.startswith(f"{b.name()}/constant")
    ]
    for parameter in parameters:
        for t in made:
            if t.type.size == parameter.type.size and same_elements(t.data, parameter.data):
                t.name = parameter.name


def same_elements(x: Any, y: Any) -> bool:
    """Whether two arrays have the same elements, in whatever order."""
    return np.array_equal(np.sort(x, None), np.sort(y, None))


def checked(b: Builder, tensor: Tensor, wanted: TensorType) -> Tensor:
    """A rule's result in the type that torch says it has."""
    if tensor.type.shape != wanted.shape:
        raise Inexpressible(f"the result would have the shape {list(tensor.type.shape)}, torch's {list(wanted.shape)}")
    return cast(b, tensor, wanted.dtype)


def has_tensors(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(has_tensors, value))
    return hasattr(value, "dtype") and hasattr(value, "shape")


def argument_values(node: Any) -> list[Any]:
    return [n.meta.get("val") for n in node.all_input_nodes]


def flat(meta: Any) -> list[Any]:
    return [v for v in meta if v is not None] if isinstance(meta, (tuple, list)) else [meta]


def used(node: Any) -> frozenset[int]:
    return frozenset(n.args[1] for n in node.users if n.target is operator.getitem and n.users)


def common_type(node: Any) -> DType:
    """Where an operator's operands meet."""
    import torch

    values = [a.meta["val"] if type(a).__name__ == "Node" else a for a in node.args[:2]]
    single = [v for v in values if not isinstance(v, (list, tuple))]
    tensors = [v for v in single if has_tensors(v)]
    numbers = [v for v in single if isinstance(v, (int, float))]
    if not tensors:
        return FLOAT32
    both = [*tensors, *numbers]
    dtype = torch.result_type(*both) if len(both) == 2 else tensors[0].dtype
    return DTYPES.get(str(dtype).removeprefix("torch."), FLOAT32)


def tensor_constant(b: Builder, name: str, value: Any) -> Tensor:
    """A parameter or buffer under its own name."""
    import torch

    array = torch.Tensor.detach(value).cpu()
    if array.dtype == torch.bfloat16:
        data = array.view(torch.int16).numpy().view(DTYPES["bfloat16"].numpy)
    else:
        data = array.numpy()
    dtype = DTYPES[str(value.dtype).removeprefix("torch.")]
    return Tensor(name, TensorType(dtype, tuple(data.shape)), np.asarray(data, dtype.numpy))


def place(node: Any, before: str) -> str:
    """The module and the line of the user's source that an operator comes from."""
    path, kind = module_of(node)
    frames = FRAME.findall(node.meta.get("stack_trace") or "")
    outside = [f for f in frames if not any(own in f[0] for own in OWN)]
    line = ""
    if outside:
        file, number, function = outside[-1]
        line = f"{os.path.basename(file)}:{number} (in {function})"
    parts = [f"{path} ({kind})" if path and kind else path or kind, line]
    return ", ".join(p for p in parts if p) or before


def scope(node: Any, before: str) -> str:
    return module_of(node)[0].replace(".", "/") or before


def module_of(node: Any) -> tuple[str, str]:
    """The path and the class of the module whose forward an operator is in; of a part that is no module, its path."""
    part = (node.meta.get("custom") or {}).get(PART)
    if part:
        return part, ""
    stack = node.meta.get("nn_module_stack") or {}
    if not stack:
        return "", ""
    path, kind = list(stack.values())[-1]
    return str(path).removeprefix("L['self']").lstrip("."), (kind if isinstance(kind, str) else kind.__name__).split(
        "."
    )[-1]
