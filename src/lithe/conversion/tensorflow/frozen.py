"""Frozen graphs: a GraphDef whose weights are constants. Inputs are its placeholders, or tensors that are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lithe.errors import InputError, ModelError

NOT_RESULTS = {"Const", "NoOp", "Assert", "Placeholder"}


def read_graph(path: str) -> Any:
    """The GraphDef in a file."""
    import tensorflow as tf

    try:
        graph = tf.compat.v1.GraphDef.FromString(Path(path).read_bytes())
    except Exception as cause:  # of the library of protocol buffers that is installed
        raise ModelError(f"{path} holds no graph of TensorFlow: {cause}") from cause
    if not graph.node:
        raise ModelError(f"{path} holds no graph of TensorFlow")
    return graph


def traced(graph: Any, wanted: list[str]) -> tuple[Any, dict[str, Any], tuple[str, ...]]:
    """(function, inputs by name, names of results) of a GraphDef; `wanted` names the inputs, else its placeholders."""
    import tensorflow as tf

    def load() -> None:
        tf.graph_util.import_graph_def(graph, name="")

    try:
        whole = tf.compat.v1.wrap_function(load, [])
    except Exception as cause:  # TensorFlow's errors derive from Exception alone
        raise ModelError(f"TensorFlow cannot read the graph: {str(cause).splitlines()[0]}") from cause
    operations = whole.graph.get_operations()
    names = wanted or [op.name for op in operations if op.type == "Placeholder"]
    known = {op.name: op.outputs[0] for op in operations if op.outputs}
    missing = [name for name in names if name not in known]
    if missing:
        places = ", ".join(op.name for op in operations if op.type == "Placeholder")
        raise InputError(f"the graph has no '{missing[0]}'", hint=f"its placeholders are {places or 'none'}")
    read = {t.op.name for op in operations for t in op.inputs}
    results = [op for op in operations if op.outputs and op.name not in read and op.type not in NOT_RESULTS]
    if not names or not results:
        raise InputError("the graph has no placeholders, or nothing that it computes", hint="name its inputs")
    inputs = {name: known[name] for name in names}
    titles = [op.name if i == 0 else f"{op.name}_{i}" for op in results for i in range(len(op.outputs))]
    function = whole.prune(list(inputs.values()), [t for op in results for t in op.outputs])
    return function, dict(zip(names, function.graph.inputs, strict=False)), tuple(titles)
