"""What a source of TensorFlow is, and its functions as graphs with named inputs and outputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lithe.conversion.builder import Conversion
from lithe.conversion.signature import input_spec, named_inputs
from lithe.conversion.tensorflow.frozen import read_graph, traced
from lithe.conversion.tensorflow.program import Program, dtype_of
from lithe.conversion.tensorflow.resources import Store, find_assigned
from lithe.conversion.tensorflow.values import Resource, Value
from lithe.errors import InputError, MissingDependency, ModelError
from lithe.types import TensorType

MARK = "saved_model.pb"
DEFAULT = "serving_default"
CALLS = ("PartitionedCall", "StatefulPartitionedCall")


@dataclass(frozen=True)
class Function:
    """A function of the source that becomes a signature.

    concrete  as TensorFlow has it: a graph, and what it captures.
    inputs    a placeholder of the graph for each name; outputs: names in the order of the graph's results.
    call      runs it: results for tensors in the order of the inputs.
    owner     keeps variables alive.
    """

    key: str
    concrete: Any
    inputs: dict[str, Any]
    outputs: tuple[str, ...]
    call: Callable[..., Any]
    owner: Any = None


def convert_source(conversion: Conversion, sources: Mapping[str, Any], described: Mapping[str, Any]) -> None:
    """Writes every function of the sources as a graph with a signature. They share the variables they capture."""
    functions = [
        function
        for key, source in sources.items()
        for function in functions_of(source, described.get(key), key, conversion.signatures)
    ]
    given = described if set(described) >= {f.key for f in functions} else described.get(next(iter(sources)))
    write_functions(conversion, functions, inputs_of(functions, given))


def inputs_of(functions: Sequence[Function], given: Any) -> dict[str, Any]:
    """What is said about the inputs of each function: by its key, or by names that several may have."""
    keys = [f.key for f in functions]
    if not isinstance(given, Mapping) or set(given) <= set(keys):
        return dict(given) if isinstance(given, Mapping) else dict.fromkeys(keys, given)
    names = {name for f in functions for name in f.inputs}
    return {f.key: {n: v for n, v in given.items() if n in f.inputs or n not in names} for f in functions}


def write_functions(conversion: Conversion, functions: Sequence[Function], described: Mapping[str, Any]) -> None:
    """Writes functions as graphs with signatures; `described` says by key what their inputs leave open."""
    program = Program(Store())
    for function in functions:
        captures = [external for external, _ in function.concrete.graph.captures]
        program.store.names.update({id(v.handle): _short(v.name) for v in function.concrete.graph.variables})
        arguments = [None] * (len(function.concrete.graph.inputs) - len(captures)) + list(map(_handle, captures))
        program.know(function.concrete.graph)
        find_assigned(program, function.concrete.graph, arguments)
    graphs = [_write(conversion, program, f, described.get(f.key)) for f in functions]
    for b in graphs:
        program.store.call_once(b)


def _short(name: str) -> str:
    return str(name).split(":")[0]


def _handle(captured: Any) -> Any:
    return captured if captured.dtype.name == "resource" else None


def _write(conversion: Conversion, program: Program, function: Function, described: Any) -> Any:
    graph = function.concrete.graph
    types = input_types(conversion, function, described)
    b = conversion.graph("main" if not conversion.graphs else function.key)
    tensors = {name: b.input(name, t.shape, t.dtype) for name, t in types.items()}
    values: dict[str, Value] = {function.inputs[name].name: t for name, t in tensors.items()}
    for external, internal in graph.captures:
        values[internal.name] = captured(b, external)
    made = program.write(b, graph, [values[t.name] for t in graph.inputs])
    outputs = {
        name: b.output(t, name) for name, t in zip(function.outputs, (program.tensor(b, v) for v in made), strict=True)
    }
    conversion.sign(function.key, b, tensors, outputs, reference(function))
    return b


def captured(b: Any, external: Any) -> Value:
    """What a function sees of the world around it."""
    if not hasattr(external, "numpy"):
        raise InputError(
            f"the function uses {external.name}, a tensor of another graph",
            hint="give it as an argument, or as a constant",
        )
    if external.dtype.name == "resource":
        return Resource(external)
    return b.constant(external.numpy(), dtype_of(external))


def input_types(conversion: Conversion, function: Function, described: Any) -> dict[str, TensorType]:
    """The types of a function's inputs; `described` gives sizes that the source leaves open."""
    given = named_inputs(described)
    names = list(function.inputs)
    if given and not isinstance(described, Mapping):
        given = dict(zip(names, given.values(), strict=False))
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise InputError(f"there is no input '{unknown[0]}'", hint=f"inputs of {function.key} are {', '.join(names)}")
    types = {}
    for name, placeholder in function.inputs.items():
        dims = None if placeholder.shape.rank is None else tuple(placeholder.shape.as_list())
        if name not in given and dims is None:
            raise InputError(
                f"the source does not say how many dimensions input '{name}' has",
                hint=f"give its shape: inputs={{'{name}': (1, 28, 28)}}",
            )
        spec = input_spec(given.get(name, dims), name, dtype_of(placeholder))
        spec = type(spec)(spec.shape, dtype_of(placeholder))
        fits = dims is None or (
            len(dims) == len(spec.shape) and all(d in (None, s) for d, s in zip(dims, spec.shape, strict=True))
        )
        if not fits:
            raise InputError(f"input '{name}' has the shape {list(dims or ())} in the source, {spec.shape} was given")
        types[name] = spec.type(conversion.sizes)
    return types


def reference(function: Function) -> Any:
    """Runs the source: its results in the order of the signature."""

    def run(arrays: dict[str, Any]) -> list[Any]:
        import tensorflow as tf

        given = [tf.constant(arrays[name], t.dtype) for name, t in function.inputs.items()]
        return [t.numpy() for t in tf.nest.flatten(function.call(*given))]

    return run


# sources


def functions_of(source: Any, inputs: Any, key: str, wanted: Sequence[str]) -> list[Function]:
    """The functions of a source: the signatures of a SavedModel, or the one that it is."""
    try:
        import tensorflow as tf
    except ImportError as cause:
        raise MissingDependency("TensorFlow is not installed", hint="pip install 'lithe[tensorflow]'") from cause
    if isinstance(source, str):
        source = _load(tf, source)
    signatures = getattr(source, "signatures", None)
    if isinstance(signatures, Mapping) and signatures:
        missing = [name for name in wanted if name not in signatures]
        if missing:
            raise InputError(f"there is no signature '{missing[0]}'", hint=f"signatures are {', '.join(signatures)}")
        return [signed(name, signatures[name], source) for name in wanted or _different(signatures)]
    if wanted:
        raise InputError(f"a {type(source).__name__} has no signatures to choose from", hint="leave out `signatures`")
    if isinstance(source, tf.compat.v1.GraphDef):
        function, placeholders, outputs = traced(source, list(inputs) if isinstance(inputs, Mapping) else [])
        return [Function(key, function, placeholders, outputs, function)]
    return [signed(key, concrete(tf, source, inputs), source)]


def _different(signatures: Mapping[str, Any]) -> list[str]:
    """The keys of signatures, of those that are the same function one: the default one, or else the first."""
    kept: dict[Any, str] = {}
    for name in sorted(signatures, key=lambda name: name != DEFAULT):
        kept.setdefault(_callee(signatures[name]) or name, name)
    return [name for name in signatures if name in kept.values()]


def _callee(function: Any) -> Any:
    """What a signature calls with all that it has, and what it calls the results."""
    calls = [op for op in function.graph.get_operations() if op.type in CALLS]
    if len(calls) != 1 or len(calls[0].inputs) != len(function.graph.inputs):
        return None
    return calls[0].get_attr("f").name, str(function.structured_input_signature), str(function.structured_outputs)


def _load(tf: Any, path: str) -> Any:
    path = os.path.dirname(path) if os.path.basename(path) == MARK else path
    if os.path.isdir(path):
        try:
            return tf.saved_model.load(path)
        except Exception as cause:  # TensorFlow's errors derive from Exception alone
            raise ModelError(f"TensorFlow cannot load {path}: {_first_line(cause)}") from cause
    return read_graph(path)


def concrete(tf: Any, source: Any, inputs: Any) -> Any:
    """The traced function that a function of TensorFlow is for inputs like these."""
    if hasattr(source, "captured_inputs") and hasattr(source, "structured_input_signature"):
        return source
    given = named_inputs(inputs)
    if not given and getattr(source, "inputs", None):  # a model of Keras says what it takes
        given = {_short(t.name): t for t in source.inputs}
        source = partial(_run_model, source)
    function = source if hasattr(source, "get_concrete_function") else getattr(source, "__call__", source)  # noqa: B004
    if not hasattr(function, "get_concrete_function"):
        if not callable(source):
            raise InputError(f"a {type(source).__name__} has no signatures and cannot be called")
        function = tf.function(source)
    specs = [
        tf.TensorSpec([d if isinstance(d, int) else None for d in s.shape], s.dtype.name, name=name)
        for name, s in ((name, input_spec(value, name)) for name, value in given.items())
    ]
    if not specs and getattr(function, "input_signature", None) is None:
        raise InputError("the inputs of a function must be described", hint="convert(f, inputs={'x': (None, 28, 28)})")
    try:
        return function.get_concrete_function(*specs)
    except (TypeError, ValueError) as cause:
        raise InputError(f"the function does not take {', '.join(given)}: {_first_line(cause)}") from cause


def _run_model(model: Any, *given: Any) -> Any:
    return model(list(given) if len(given) > 1 else given[0], training=False)


def signed(key: str, function: Any, owner: Any) -> Function:
    """A concrete function with names for its inputs and outputs."""
    import tensorflow as tf

    args, kwargs = function.structured_input_signature
    specs = [s for s in tf.nest.flatten((args, kwargs)) if isinstance(s, tf.TensorSpec)]
    placeholders = function.graph.inputs[: len(function.graph.inputs) - len(function.graph.captures)]
    by_key = {id(spec): name for name, spec in kwargs.items()} if isinstance(kwargs, Mapping) else {}
    names = [by_key.get(id(s)) or s.name or _short(p.name) for s, p in zip(specs, placeholders, strict=True)]
    outputs = _output_names(function.structured_outputs, len(function.graph.outputs))

    def call(*given: Any) -> Any:
        args, kwargs = tf.nest.pack_sequence_as(function.structured_input_signature, given)
        return function(*args, **kwargs)

    return Function(key, function, dict(zip(names, placeholders, strict=True)), outputs, call, owner)


def _output_names(made: Any, count: int) -> tuple[str, ...]:
    """The keys of results that have some, output0, output1, ... otherwise."""
    if isinstance(made, Mapping):
        names = [f"{key}{i or ''}" for key in sorted(made) for i in range(_leaves(made[key]))]
        return tuple(map(str, names))
    return ("output",) if count == 1 else tuple(f"output{i}" for i in range(count))


def _leaves(value: Any) -> int:
    import tensorflow as tf

    return len(tf.nest.flatten(value))


def _first_line(cause: Exception) -> str:
    return next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
