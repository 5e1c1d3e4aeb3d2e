"""A converted PyTorch model against PyTorch: in Lithe and in the official runtime."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as trees

import lithe
from lithe.conversion.door import convert
from lithe.ir.graph import Module


@dataclass
class Checked:
    """A model that agrees: what it was converted to, and how many operators of each kind it has."""

    module: Module
    operators: Counter[str]


def tensors(tree: Any) -> list[np.ndarray]:
    return [t.detach().numpy() for t in trees.tree_leaves(tree) if isinstance(t, torch.Tensor)]


def official(path: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the official runtime gives; without it, nothing to compare."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return {}
    results: dict[str, np.ndarray] = Interpreter(path).get_signature_runner()(**feed)
    return results


def distance(got: np.ndarray, want: np.ndarray) -> float:
    """The largest difference over the largest element; NaN and infinite elements must be the same."""
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if want.dtype.kind != "f":
        return float(np.max(got != want, initial=0))
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    size = np.max(np.abs(want[finite]), initial=0)
    difference = np.max(np.abs(got[finite].astype(np.float64) - want[finite]), initial=0)
    return float(difference / size) if size else float(difference)


def check(
    model: Any,
    *inputs: Any,
    path: Any,
    tolerance: float = 1e-5,
    describe: Any = None,
    in_official: bool = True,
    **named: Any,
) -> Checked:
    """Converts, saves, loads and runs; `describe` stands for the inputs where they are described otherwise."""
    program = isinstance(model, torch.export.ExportedProgram)
    described = None if program else (named or inputs) if describe is None else describe
    module = convert(model, inputs=described, kind="torch").module
    file = str(path / "model.tflite")
    lithe.Model(module).save(file)
    with torch.no_grad():
        runnable = model.module() if program else model.eval()
        want = tensors(runnable(*inputs, **named))
    loaded = lithe.load(file)
    feed = dict(zip(module.signatures[0].inputs, tensors((inputs, named)), strict=True))
    names = list(module.signatures[0].outputs)
    assert len(names) == len(want)
    made = loaded(**feed)
    results = made if isinstance(made, dict) else {names[0]: made}
    runs = [results, official(file, feed) if in_official else {}]
    for run in filter(None, runs):
        for name, expected in zip(names, want, strict=True):
            assert distance(np.asarray(run[name]), expected) <= tolerance, name
    return Checked(module, Counter(n.op.name for g in module.graphs for n in g.nodes))
