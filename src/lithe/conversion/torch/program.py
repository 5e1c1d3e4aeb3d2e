"""PyTorch's models as programs of ATen's operators: `torch.export`, and what is taken apart further."""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.conversion.signature import FORMS, InputSpec, input_spec
from lithe.conversion.sizes import Sizes
from lithe.conversion.torch.rules import rule_for
from lithe.errors import InputError, MissingDependency, UnsupportedOp
from lithe.types import DType, TensorType

EXAMPLE = 61  # the size with which an open dimension is traced, odd ones after it for further names: few layers have it


@dataclass(frozen=True)
class Spec:
    """An input as the caller describes it: an example, and names of open dimensions by axis."""

    example: Any
    names: Mapping[int, str]


def import_torch() -> Any:
    """The package, or the error that says how to install it."""
    try:
        import torch
    except ImportError as cause:
        raise MissingDependency("PyTorch is needed to read its models", hint="pip install 'lithe[torch]'") from cause
    return torch


def exported(source: Any, inputs: Any, sizes: Sizes) -> tuple[Any, dict[Any, int]]:
    """The program of a model, and the number that stands for each of its open dimensions' symbols."""
    torch = import_torch()
    if isinstance(source, torch.export.ExportedProgram):
        program = source
        if inputs is not None:
            raise InputError("an exported program has its own inputs", hint="leave `inputs` out")
        named: list[Mapping[int, str]] = []
    elif isinstance(source, torch.nn.Module):
        if inputs is None:
            raise InputError("a PyTorch module has no shapes of its own", hint="give `inputs`: examples or shapes")
        require_arguments(source, inputs)
        args, kwargs = specified(inputs)
        named = [s.names for s in (*leaves(args), *leaves(kwargs))]
        with in_evaluation(source):
            program = export(torch, source, args, kwargs)
    else:
        raise InputError(
            f"a PyTorch model is a torch.nn.Module or a torch.export.ExportedProgram, got {type(source).__name__}",
            hint="wrap a function in a module",
        )
    program = taken_apart(torch, program)
    return program, stand_ins(program, named, sizes)


def require_arguments(module: Any, inputs: Any) -> None:
    """Raises InputError where inputs are named as no argument of the module's `forward` is."""
    arguments = inspect.signature(module.forward).parameters
    if not isinstance(inputs, Mapping) or any(a.kind is a.VAR_KEYWORD for a in arguments.values()):
        return
    for name in inputs:
        if name not in arguments:
            raise InputError(
                f"{type(module).__name__}.forward has no argument '{name}'",
                hint=f"its arguments are {', '.join(arguments)}; or give the inputs in order, as a tuple",
            )


@contextlib.contextmanager
def in_evaluation(module: Any) -> Iterator[None]:
    """The module as it is used after training; afterwards each part is as it was."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, mode in modes:
            m.training = mode


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What torch warns of and logs while it traces concerns its own insides; what goes wrong is raised, too."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def export(torch: Any, module: Any, args: Any, kwargs: Any) -> Any:
    """torch.export, with its many errors as one."""
    dimensions = torch.export.Dim.DYNAMIC
    examples, named = mapped(args, lambda s: s.example), mapped(kwargs, lambda s: s.example)

    def dynamic(s: Spec) -> Any:
        return dict.fromkeys(s.names, dimensions) or None

    shapes = None
    if any(s.names for s in (*leaves(args), *leaves(kwargs))):
        shapes = by_parameter(module, mapped(args, dynamic), mapped(kwargs, dynamic))
    with refused("trace"), torch.no_grad(), quiet():
        return torch.export.export(module, examples, named or None, dynamic_shapes=shapes)


def taken_apart(torch: Any, program: Any) -> Any:
    """The program without changes in place, and in operators that have a rule where torch knows how."""
    with refused("take apart"), quiet():
        return program.run_decompositions(decompositions(torch))


@contextlib.contextmanager
def refused(what: str) -> Iterator[None]:
    """Whatever torch raises, as one error of ours."""
    try:
        yield
    except Exception as cause:  # torch's own errors and those of the model's code, which share no other base
        problem, where = reason(cause)
        raise UnsupportedOp(
            f"PyTorch cannot {what} this model: {problem}",
            where=where,
            hint="the example inputs must fit, and what the model does must not depend on values (see torch.cond)",
        ) from cause


def by_parameter(module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of inputs, by the names of the parameters of `forward`."""
    import inspect

    made: dict[str, Any] = {}
    rest = list(args)
    for name, parameter in inspect.signature(module.forward).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            made[name] = tuple(rest)
            rest = []
        elif rest:
            made[name] = rest.pop(0)
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            made[name] = {k: v for k, v in kwargs.items() if k not in made}
        elif name in kwargs:
            made[name] = kwargs[name]
    return made


def reason(cause: Exception) -> tuple[str, str]:
    """The first line that says something, and the place in the user's code where torch gives one."""
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    place = ""
    for line in lines:
        if line.startswith('File "') and "/torch/" not in line:
            place = line
    said = [line for line in lines if not line.startswith(("Traceback", "File", "For more"))] or [type(cause).__name__]
    more = said[1] if len(said) > 1 and said[1].startswith("- ") else ""
    first = said[0].split(" For more information")[0]
    return f"{first} {more}".strip()[:400], place


def decompositions(torch: Any) -> Any:
    """What torch can say in simpler operators, for those that have no rule here."""
    table = torch.export.default_decompositions().items()
    return {op: function for op, function in table if rule_for(name_of(op)) is None}


def name_of(op: Any) -> str:
    """ "add.Tensor" for an operator of ATen, its full name for others."""
    name = op._schema.name if hasattr(op, "_schema") else str(op)
    overload = getattr(op, "_overloadname", "")
    short: str = name.removeprefix("aten::")
    return f"{short}.{overload}" if overload and overload != "default" else short


def stand_ins(program: Any, named: Sequence[Mapping[int, str]], sizes: Sizes) -> dict[Any, int]:
    """A number for each symbol in the shapes of the inputs, under the caller's name where there is one."""
    found: dict[Any, int] = {}
    users = [s.arg.name for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    tensors = [name for name in users if hasattr(values.get(name), "shape")]
    for i, name in enumerate(tensors):
        for axis, size in enumerate(values[name].shape):
            wanted = named[i].get(axis) if i < len(named) else None
            expression = getattr(getattr(size, "node", None), "expr", None)
            if expression is None or not expression.free_symbols:
                continue
            for symbol in expression.free_symbols:
                label = wanted if expression == symbol and wanted else str(symbol)
                found.setdefault(symbol, sizes.stand_in(label))
    return found


# what the caller gives as inputs


def specified(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named inputs, each leaf a Spec."""
    numbers: dict[str, int] = {}
    if isinstance(inputs, Mapping):
        return (), {str(k): spec(v, str(k), numbers) for k, v in inputs.items()}
    if not isinstance(inputs, (tuple, list)) or is_shape(inputs):
        inputs = (inputs,)
    return tuple(spec(v, f"x{i}", numbers) for i, v in enumerate(inputs)), {}


def is_shape(value: Any) -> bool:
    """A shape, or a shape and an element type."""
    if not isinstance(value, (tuple, list)) or not value:
        return False
    if all(isinstance(n, (int, str)) or n is None for n in value):
        return True
    return (
        len(value) == 2
        and (value[0] == () or is_shape(value[0]))
        and isinstance(value[1], (str, type, np.dtype, DType))
    )


def spec(value: Any, name: str, numbers: dict[str, int]) -> Any:
    """An example tensor or array, a TensorType, a shape (with a type), or a tree of them."""
    import torch

    if isinstance(value, torch.Tensor):
        return Spec(value, {})
    if isinstance(value, np.ndarray):
        return Spec(torch.from_numpy(np.asarray(value, order="C")), {})
    if isinstance(value, (TensorType, InputSpec)) or is_shape(value):
        return shaped(input_spec(value, name), numbers)
    if isinstance(value, (tuple, list)):
        return type(value)(spec(v, f"{name}_{i}", numbers) for i, v in enumerate(value))
    if isinstance(value, Mapping):
        return {k: spec(v, f"{name}_{k}", numbers) for k, v in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return Spec(value, {})
    raise InputError(f"input '{name}' is described by {value!r}", hint=f"give {FORMS}")


def shaped(described: InputSpec, numbers: dict[str, int]) -> Spec:
    """An example of a shape; each open dimension has a size that no other has."""
    import torch

    names = {axis: d for axis, d in enumerate(described.shape) if isinstance(d, str)}
    for name in names.values():
        numbers.setdefault(name, EXAMPLE + 2 * len(numbers))
    dims = [numbers[d] if isinstance(d, str) else d for d in described.shape]
    return Spec(torch.zeros(dims, dtype=getattr(torch, described.dtype.name)), names)


def mapped(tree: Any, function: Any) -> Any:
    if isinstance(tree, Spec):
        return function(tree)
    if isinstance(tree, dict):
        return {k: mapped(v, function) for k, v in tree.items()}
    return type(tree)(mapped(v, function) for v in tree)


def leaves(tree: Any) -> Iterator[Spec]:
    """The specs of tensors in a tree, in torch's order."""
    if isinstance(tree, Spec):
        if hasattr(tree.example, "shape"):
            yield tree
    else:
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(value)
