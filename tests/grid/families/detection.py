"""Suppression of overlapping boxes."""

from __future__ import annotations

import numpy as np

from tests.grid.draw import Draw, Operand, Trial
from tests.grid.families.registry import generates


@generates("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5")
def suppression(d: Draw) -> Trial:
    count = d.choice((1, 2, 5, 16, 17, 33))
    corners = d.random.uniform(0, 1, (count, 2))
    sizes = d.random.uniform(0.05, 0.6, (count, 2))
    boxes = np.concatenate([corners, corners + sizes], 1)
    scores = d.random.permutation(np.linspace(0.01, 0.99, count))
    most = d.integer(1, count + 2)
    inputs: list[Operand | None] = [
        d.operand(d.type("float32", boxes.shape), boxes),
        d.operand(d.type("float32", scores.shape), scores),
        d.index("int32", np.array(most)),
        d.index("float32", np.array(d.uniform(0.05, 0.9))),
        d.index("float32", np.array(d.choice((0.0, 0.2, d.uniform(0, 1))))),
    ]
    if d.op == "NON_MAX_SUPPRESSION_V5":
        inputs.append(d.index("float32", np.array(d.choice((0.0, 0.5, d.uniform(0.1, 1))))))
    outputs = [d.type(word, ()) for word in d.outputs]
    return d.trial(inputs, outputs, inferred=True)
