"""Pruning without training: the weights that matter least become zero, and what remains makes up for them.

Without samples, those of the least magnitude. With samples, weight w_j of an output costs w_j^2 / [H^-1]_jj, which is
the error that the best change of the others leaves (H: see `moments`), and what remains of each output is the
least-squares solution: of trace((w - v) H (w - v)^T) over the v with these zeros. That is done in rounds.

Sources: Hassibi and Stork, Second order derivatives for network pruning: optimal brain surgeon, 1993; Frantar and
Alistarh, SparseGPT, 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from lithe.errors import InputError
from lithe.ir.graph import Node
from lithe.ops.verify import verify
from lithe.optimize.moments import WEIGHTS_OPERAND, Layer, Moments, layers, observed, rebiased
from lithe.optimize.sparsity import Structure, masks
from lithe.optimize.sparsity import structure as named
from lithe.optimize.storage import Source, compact, opened, unfolded
from lithe.runtime.model import Model
from lithe.types import FLOAT32

ROUNDS = 8  # in which weights become zero, each after the last one's solution: one alone leaves far more error
STEPS = 10  # of conjugate gradients, at most
ENOUGH = 1e-4  # of the gradient at the start; the solution is then as good as the samples


def prune(
    model: Source,
    sparsity: float = 0.5,
    structure: str | Structure = "unstructured",
    samples: Iterable[Any] | None = None,
    *,
    scope: str = "",
    together: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> Model:
    """Returns a copy of a model in which a share of the weights is zero, stored without these where that is smaller.

    model      a Model, or a file: its convolutions and matrix products of float32 weights, or of int8 ones.
    sparsity   the share of zeros, of each layer: over 0 and below 1. Small layers, also depthwise ones, stay whole.
    structure  where zeros lie: "unstructured"; in blocks of 4 or 16 along the inputs of an output ("1x4", "1x16"), or
               of 4 outputs ("4x1"); "2:4": at most two of each four neighbours stay, with a sparsity of 0.5.
    samples    what the model is called with, as for `lithe.quantize`, but not for their ranges: with a few hundred of
               them, the outputs change far less. None: by magnitude alone. Weights of integers are pruned so anyhow.
    scope      a regular expression that is searched for in the names of the layers' results; "": in all.
    together   rank the weights of all layers together, so that some layers lose more than others.
    progress   is told how many samples were run.

    Raises InputError for what is none of these, where samples do not fit or are not finite, and where nothing in the
    model can be pruned.

    >>> small = lithe.optimize.prune("model.tflite", 0.8, samples=images[:200])         # doctest: +SKIP
    >>> small.save("model_80.tflite")                                                   # doctest: +SKIP
    """
    of = named(structure)
    if isinstance(sparsity, bool) or not isinstance(sparsity, int | float) or not 0 < sparsity < 1:
        raise InputError(f"a sparsity of {sparsity!r} is no share of weights", hint="give one over 0 and below 1")
    if of.group and sparsity > of.most:
        raise InputError(f"{of} leaves out {of.most:g} of the weights, and {sparsity:g} is asked for",
                         hint=f"sparsity={of.most:g}")  # fmt: skip
    given, name = opened(model)
    module = unfolded(given)
    found = layers(module, scope, integers=True)
    seen = observed(module, samples, found, progress) if samples is not None else {}
    for layer, (v, kept) in zip(found, _pruned(found, seen, sparsity, of, together=together), strict=True):
        if layer.weights.type.dtype != FLOAT32:
            layer.node.inputs[WEIGHTS_OPERAND] = layer.store(v, kept)
            continue
        if layer.node in seen and layer.bias is not None:
            rebiased(layer, layer.matrix - v, seen[layer.node].mean)
        layer.node.inputs[WEIGHTS_OPERAND] = layer.store(v)
    module.main.renumber()
    verify(module)
    return compact(Model(module, name=name), ("sparse",))


def _pruned(
    found: list[Layer], seen: dict[Node, Moments], sparsity: float, of: Structure, *, together: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each layer its new weights, and which of them were kept; in rounds, in each of which the same share goes."""
    moments = [seen[n.node].matrix(centred=n.bias is not None) if n.node in seen else None for n in found]
    free = [np.diagonal(np.linalg.inv(h), axis1=1, axis2=2)[:, None] if h is not None else 1.0 for h in moments]
    first = [layer.matrix for layer in found]
    now, rounds = first, ROUNDS if seen else 1
    for n in range(1, rounds + 1):
        share = 1 - (1 - sparsity) ** (n / rounds)
        costs = [(v / np.sqrt(f)).reshape(-1, v.shape[2]) for v, f in zip(now, free, strict=True)]
        ranked = masks(costs, share, of) if together else [masks([one], share, of)[0] for one in costs]
        kept = [mask.reshape(v.shape) for mask, v in zip(ranked, now, strict=True)]
        now = [_solved(*one) for one in zip(first, now, kept, moments, strict=True)]
    return list(zip(now, kept, strict=True))


def _solved(first: np.ndarray, now: np.ndarray, kept: np.ndarray, h: np.ndarray | None) -> np.ndarray:
    if h is None:
        return np.where(kept, now, 0.0)
    return np.stack([least_squares(*one) for one in zip(first, kept, h, now, strict=True)])


def least_squares(w: np.ndarray, kept: np.ndarray, h: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """The v with v = 0 where not kept that has the least trace((w - v) H (w - v)^T).

    w, kept  [outputs, inputs]; h  [inputs, inputs], positive definite; start  what is near it already.

    By conjugate gradients on all outputs at once, each scaled by the diagonal of H.
    Source: Shewchuk, An introduction to the conjugate gradient method without the agonizing pain, 1994.

    >>> least_squares(np.array([[1.0, 1.0]]), np.array([[True, False]]), np.array([[1.0, 0.5], [0.5, 1.0]]))
    array([[1.5, 0. ]])
    """
    v = np.where(kept, w if start is None else start, 0.0)
    scale = 1 / np.diagonal(h)
    residual = np.where(kept, (w - v) @ h, 0.0)
    direction = residual * scale
    power = (residual * direction).sum(axis=1, keepdims=True)
    enough = ENOUGH**2 * power.sum()
    for _ in range(STEPS):
        if power.sum() <= enough:
            break
        turned = np.where(kept, direction @ h, 0.0)
        step = power / np.maximum((direction * turned).sum(axis=1, keepdims=True), 1e-300)
        v += step * direction
        residual -= step * turned
        before, power = power, (residual * residual * scale).sum(axis=1, keepdims=True)
        direction = residual * scale + power / np.maximum(before, 1e-300) * direction
    return v
