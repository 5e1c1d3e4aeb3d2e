"""Pictures whose pixels come from elsewhere."""

from __future__ import annotations

import numpy as np

from tests.ops.cases import Case, f32

OTHERS = {"official": False, "reason": "the official Python runtime registers no kernel of this name"}
FAR = np.array([[[[-1.0, 0.0], [-0.5, 0.0], [2.5, 1.5]], [[3.0, 1.0], [1e9, -1e9], [np.nan, 1.0]]]])

CASES = [
    *(Case(op, "random", (f32(2, 4, 5, 3), f32(2, 4, 5, 2)), (f32(2, 4, 5, 3),), low=-6, high=6, **OTHERS)
      for op in ("Resampler", "DenseImageWarp")),
    *(Case(op, "far", (f32(1, 2, 3, 1), f32(1, 2, 3, 2)), (f32(1, 2, 3, 1),), values={1: FAR}, **OTHERS)
      for op in ("Resampler", "DenseImageWarp")),
    Case("Resampler", "one row", (f32(1, 1, 4, 2), f32(1, 1, 4, 2)), (f32(1, 1, 4, 2),), low=-1, high=3, **OTHERS),
]  # fmt: skip
