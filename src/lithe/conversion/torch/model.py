"""A PyTorch model as a module of graphs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder, Conversion
from lithe.conversion.torch.program import exported, import_torch, in_evaluation, quiet
from lithe.conversion.torch.trace import Writing, tensor_constant
from lithe.errors import FileMissing, ModelError, UnsupportedOp
from lithe.ir.graph import Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.passes.writer import Inexpressible
from lithe.types import RESOURCE, DType, TensorType


def load_program(path: str) -> Any:
    """The exported program in a `.pt2` file. Raises FileMissing, ModelError, MissingDependency."""
    torch = import_torch()
    if not os.path.exists(path):
        raise FileMissing(f"there is no file {path}")
    try:
        with quiet():
            return torch.export.load(path)
    except Exception as cause:  # zipfile's, json's and torch's errors share no other base
        first = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise ModelError(
            f"PyTorch cannot read the file: {first}", where=path, hint="write it with torch.export.save"
        ) from cause


def convert_model(conversion: Conversion, source: Any, inputs: Any, key: str) -> None:
    """Writes a PyTorch model as a graph.

    source  a torch.nn.Module (its parts are put into evaluation mode while it is traced), or a
            torch.export.ExportedProgram, whose dynamic dimensions stay open.
    inputs  for a module: what `forward` takes, a tuple in its order or a dict by name. Each is an example (a tensor or
            an array), a shape of float32, or (shape, dtype). Open dimensions are names, None or -1:
            ("batch", 3, 224, 224).

    Buffers that the model changes become variables: they begin with the buffer's value and last between runs.
    Inputs keep the names of `forward`'s parameters; outputs those of a dict, or they are output0, output1, ...

    Raises UnsupportedOp for what torch cannot trace, InputError for inputs that do not describe any,
    MissingDependency without PyTorch.
    """
    program, symbols = exported(source, inputs, conversion.sizes)
    b = conversion.graph("main" if not conversion.graphs else key)
    writing = Writing(symbols, conversion.unroll)
    ends = _Ends(b, program, writing)
    given = ends.inputs()
    writing.whole = program.graph_module
    results = writing.graph(b, program.graph_module, given)
    signature = program.graph_signature
    repeatable = not signature.buffers_to_mutate and len(ends.named) == len(signature.user_inputs)
    reference = (lambda arrays: run(source, program, arrays)) if repeatable else None
    watched = (lambda arrays: layers(program, arrays)) if repeatable else None
    conversion.sign(key, b, ends.named, ends.outputs(results), reference, watched)


def run(source: Any, program: Any, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What the model itself gives for named inputs."""
    import torch
    import torch.utils._pytree as trees

    leaves = [torch.from_numpy(np.asarray(a, order="C")) for a in arrays.values()]
    args, kwargs = trees.tree_unflatten(leaves, program.call_spec.in_spec)
    module = source if isinstance(source, torch.nn.Module) else source.module()
    with torch.no_grad(), in_evaluation(module) if module is source else nullcontext():
        made = trees.tree_leaves(module(*args, **kwargs))
    return [t.numpy() for t in made if isinstance(t, torch.Tensor)]


def layers(program: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What each operator of the program gives, by its name."""
    import torch

    found: dict[str, np.ndarray] = {}

    class Watching(torch.fx.Interpreter):
        def run_node(self, n: Any) -> Any:
            made = super().run_node(n)
            if isinstance(made, torch.Tensor) and n.op != "placeholder":
                wide = made.float() if made.dtype == torch.bfloat16 else made
                found[n.name] = torch.Tensor.detach(wide).clone().numpy()
            return made

    given = iter([torch.from_numpy(np.asarray(a, order="C")) for a in arrays.values()])
    state = {**program.constants, **program.state_dict}
    values = [
        next(given) if s.kind.name == "USER_INPUT" else state[s.target] for s in program.graph_signature.input_specs
    ]
    with torch.no_grad():
        Watching(program.graph_module).run(*values)
    return found


@dataclass
class _Ends:
    """Where a program begins and ends: parameters, buffers, the caller's inputs, and results of each kind."""

    b: Builder
    program: Any
    writing: Writing
    named: dict[str, Tensor] = field(default_factory=dict)
    variables: dict[str, Tensor] = field(default_factory=dict)  # by buffer: handles

    def inputs(self) -> list[Any]:
        values = {n.name: n.meta.get("val") for n in self.program.graph.nodes if n.op == "placeholder"}
        changed = set(self.program.graph_signature.buffers_to_mutate.values())
        if changed:
            self._begin(sorted(changed))
        return [self._input(s, values, changed) for s in self.program.graph_signature.input_specs]

    def _input(self, spec: Any, values: Mapping[str, Any], changed: set[str]) -> Any:
        kind = spec.kind.name
        if kind == "USER_INPUT":
            if not hasattr(spec.arg, "name") or not hasattr(values.get(spec.arg.name), "dtype"):
                value = getattr(spec.arg, "value", None)
                return self.writing.size(value if value is not None else values.get(spec.arg.name))
            try:
                t = self.writing.type_of(values[spec.arg.name])
            except Inexpressible as cause:
                raise UnsupportedOp(f"input '{spec.arg.name}' cannot be said in a file: {cause}") from cause
            self.named[spec.arg.name] = self.b.input(spec.arg.name, t.shape, t.dtype)
            return self.named[spec.arg.name]
        if kind == "BUFFER" and spec.target in changed:
            return self._read(spec.target)
        if kind in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
            return tensor_constant(self.b, spec.target, self._value(spec.target))
        raise UnsupportedOp(f"the program takes '{spec.arg.name}', an object that is no tensor")

    def _value(self, target: str) -> Any:
        state = self.program.state_dict
        return state[target] if target in state else self.program.constants[target]

    def outputs(self, results: list[Any]) -> dict[str, Tensor]:
        """Names the results; what is written to a buffer becomes its variable's value."""
        made: list[Any] = []
        for spec, value in zip(self.program.graph_signature.output_specs, results, strict=True):
            kind = spec.kind.name
            if kind == "USER_OUTPUT":
                made.append(value)
            elif kind == "BUFFER_MUTATION":
                _node(self.b, "ASSIGN_VARIABLE", [self._handle(self.b, spec.target), value], [])
            elif kind == "USER_INPUT_MUTATION":
                raise UnsupportedOp(f"the model changes its input '{spec.target}' in place", hint="return it instead")
        names = output_names(self.program, len(made))
        named: dict[str, Tensor] = {}
        for name, value in zip(names, made, strict=True):
            if value is None:
                continue
            tensor = value if isinstance(value, Tensor) else self.b.constant(value)
            named[name] = self.b.output(tensor, name)
        return named

    # buffers that change

    def _begin(self, targets: list[str]) -> None:
        """The variables' first values, given to them once."""
        first = self.b.conversion.graph("first values")
        for target in targets:
            value = tensor_constant(first, target, self._value(target))
            _node(first, "ASSIGN_VARIABLE", [self._handle(first, target), value], [])
        _node(self.b, "CALL_ONCE", [], [], init_subgraph_index=first.number)

    def _handle(self, b: Builder, target: str) -> Tensor:
        if b is not self.b or target not in self.variables:
            handle = Tensor(f"{target}/handle", TensorType(RESOURCE, ()))
            _node(b, "VAR_HANDLE", [], [handle], shared_name=target)
            if b is not self.b:
                return handle
            self.variables[target] = handle
        return self.variables[target]

    def _read(self, target: str) -> Tensor:
        value = self._value(target)
        dtype: DType = self.writing.type_of(value).dtype
        read = Tensor(target, TensorType(dtype, tuple(value.shape)))
        _node(self.b, "READ_VARIABLE", [self._handle(self.b, target)], [read])
        return read


def _node(b: Builder, op: str, inputs: list[Any], outputs: list[Tensor], **attrs: Any) -> None:
    cls = REGISTRY.by_name[op]
    b.add(Node(cls, cls.Attrs(**attrs), inputs, outputs))


def output_names(program: Any, count: int) -> list[str]:
    """Keys where the model gives a dict, numbers where it gives a sequence, "output" for one tensor."""
    import torch.utils._pytree as pytree

    tree = pytree.tree_unflatten(list(range(count)), program.call_spec.out_spec)
    paths, _ = pytree.tree_flatten_with_path(tree)
    names = []
    for path, _leaf in paths:
        keys = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", "")))) for k in path]
        numbered = not keys or keys[0].isdigit()
        names.append(("output" if numbered else "") + "/".join(keys))
    return names if len(set(names)) == len(names) else [f"output{i}" for i in range(count)]
