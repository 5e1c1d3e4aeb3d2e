"""What a model is in one phrase, such as "int8 CNN", so that figures can be gathered by kind.

First the numbers of most of its weighted operators (those of activations and weights, "dynamic range" where integers
weigh floats), then the family. A file under SMALL bytes without a recurrent layer is "small", whatever is in it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from lithe.formats import tflite
from lithe.ir.graph import Node, Tensor

SMALL = 400_000
SPARSE = 0.5  # of a model's weights are zero
WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "UNIDIRECTIONAL_SEQUENCE_LSTM"}
FAMILIES = (  # a family, and operators of which one must be there
    ("recurrent", {"UNIDIRECTIONAL_SEQUENCE_LSTM", "LSTM", "WHILE"}),
    ("encoder", {"BATCH_MATMUL"}),
    ("CNN", {"CONV_2D", "DEPTHWISE_CONV_2D"}),
    ("network", {"FULLY_CONNECTED"}),
)


def kind_of(path: Path) -> str:
    """The phrase. Raises ModelError for a file that is no model."""
    nodes = [node for graph in tflite.read(path.read_bytes()).graphs for node in graph.nodes]
    family = next((family for family, marks in FAMILIES if any(n.op.name in marks for n in nodes)), "other")
    if path.stat().st_size < SMALL and family != "recurrent":
        return "small"
    made = {id(t): node for node in nodes for t in node.outputs}
    schemes: Counter[str] = Counter()
    zeros = weights = 0
    for node in nodes:
        constant = _weight(node, made)
        if constant is not None and node.inputs[0] is not None:
            schemes[_scheme(node.inputs[0].type.dtype.name, constant.type.dtype.name)] += 1
            if isinstance(constant.data, np.ndarray) and constant.data.dtype.kind in "fi":
                zeros, weights = zeros + int((constant.data == 0).sum()), weights + constant.data.size
    scheme = max(schemes, key=schemes.__getitem__, default="")
    sparse = "sparse" if zeros > SPARSE * weights else ""
    return " ".join(word for word in (sparse, scheme, family) if word)


def _weight(node: Node, made: dict[int, Node]) -> Tensor | None:
    """The constant that an operator weighs its input with, as it is stored."""
    if node.op.name not in WEIGHTED:
        return None
    found = next((t for t in node.inputs[1:] if t is not None and t.type.rank > 1), None)
    while found is not None and found.data is None and (maker := made.get(id(found))) is not None:
        found = maker.inputs[0]  # stored smaller: DEQUANTIZE, DENSIFY
    return None if found is None or found.data is None else found


def _scheme(activations: str, weights: str) -> str:
    if activations == weights:
        return weights
    if activations == "int16":
        return f"int16x{weights.removeprefix('int')}"
    return "dynamic range" if weights.startswith("int") else f"{weights} weights"
