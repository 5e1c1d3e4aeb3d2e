"""Clustering without training: the weights of a layer become a few numbers, stored as indices into a table.

Without samples, k-means: each weight becomes the nearest number. With samples (H: see `moments`), the inputs of an
output are taken one after another, and what the change of one costs is made up for by those that follow; then the
numbers are those with the least trace((w - v) H (w - v)^T) for these indices.

Source: Frantar, Ashkboos, Hoefler and Alistarh, GPTQ: accurate post-training quantization, 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from lithe.errors import InputError
from lithe.ir.graph import Node
from lithe.ops.verify import verify
from lithe.optimize.clusters import Clusters, check, clustered, nearest
from lithe.optimize.moments import WEIGHTS_OPERAND, Layer, Moments, layers, observed, rebiased
from lithe.optimize.storage import Source, compact, opened, unfolded
from lithe.runtime.model import Model

ROUNDS = 30  # of k-means
TABLES = ("table", "rows", "micro")


def cluster(
    model: Source,
    clusters: int = 16,
    samples: Iterable[Any] | None = None,
    *,
    start: str = "kmeans++",
    form: str = "table",
    scope: str = "",
    progress: Callable[[int], None] = lambda count: None,
) -> Model:
    """Returns a copy of a model in which each layer's weights are a few numbers, stored as indices and a table.

    model     a Model, or a file: its convolutions and matrix products of float32 weights. Small layers, depthwise ones
              among them, stay as they are.
    clusters  how many numbers a layer has, from 2 to 256. Weights that are zero stay zero, and that is one of them.
    samples   what the model is called with, as for `lithe.quantize`: with a few hundred, the outputs change less.
    start     of k-means: "kmeans++", "linear", "density" or "random".
    form      how they are stored, see `lithe.optimize.compact`: "table" takes the fewest bytes; "rows" twice as many,
              and the official runtime makes the weights once, not at each run; "micro" for TensorFlow Lite Micro.
    scope     a regular expression that is searched for in the names of the layers' results; "": in all.
    progress  is told how many samples were run.

    Raises InputError for what is none of these, where samples do not fit or are not finite, and where nothing in the
    model can be clustered.

    >>> small = lithe.optimize.cluster("model.tflite", 16, images[:200])         # doctest: +SKIP
    >>> small.save("model_16.tflite")                                            # doctest: +SKIP
    """
    check(clusters, start)
    if form not in TABLES:
        raise InputError(f"clusters cannot be stored as {form!r}", hint=f"forms are {', '.join(TABLES)}")
    given, name = opened(model)
    module = unfolded(given)
    found = layers(module, scope)
    seen = observed(module, samples, found, progress) if samples is not None else {}
    for layer in found:
        _cluster(layer, clusters, start, seen)
    module.main.renumber()
    verify(module)
    return compact(Model(module, name=name), ("sparse", form))


def _cluster(layer: Layer, count: int, start: str, seen: dict[Node, Moments]) -> None:
    w = layer.matrix
    flat = w.reshape(-1, w.shape[2])
    first = clustered(flat, count, start, rounds=ROUNDS)
    v = first.weights
    if layer.node in seen:
        moments = seen[layer.node]
        h = moments.matrix(centred=layer.bias is not None)
        v = fitted(w, first, h)
        if layer.bias is not None:
            rebiased(layer, w - v.astype(np.float32), moments.mean)
    layer.node.inputs[WEIGHTS_OPERAND] = layer.store(v)


def fitted(w: np.ndarray, first: Clusters, h: np.ndarray) -> np.ndarray:
    """What weights [groups, outputs, inputs] become with second moments h [groups, inputs, inputs].

    first  the clusters to begin with: one group, of all weights.
    """
    stays = first.stays.reshape(w.shape)
    centroids = np.unique(first.centroids[0])
    places = np.stack([chosen(*one, centroids) for one in zip(w, stays, h, strict=True)])
    left, right = np.zeros((len(centroids),) * 2), np.zeros(len(centroids))
    for rows, at, kept, moments in zip(w, places, stays, h, strict=True):
        for n in range(len(rows)):  # v = A c, where A[j, i] is 1 if input j has number i
            a = (at[n][:, None] == np.arange(len(centroids))) & kept[n][:, None]
            weighted = moments @ a.astype(np.float64)
            left += a.T @ weighted
            right += rows[n] @ weighted
    used = np.diagonal(left) > 0
    better = centroids.copy()
    better[used] = np.linalg.lstsq(left[np.ix_(used, used)], right[used], rcond=1e-9)[0]
    return np.where(stays, better[places], 0.0)


def chosen(w: np.ndarray, stays: np.ndarray, h: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Which number each of the weights [outputs, inputs] becomes: the nearest to what is left to make up for there."""
    left = w.astype(np.float64).copy()
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    places = np.zeros(w.shape, np.int64)
    for j in range(w.shape[1]):
        places[:, j] = nearest(left[:, j], centroids)
        became = np.where(stays[:, j], centroids[places[:, j]], 0.0)
        error = (left[:, j] - became) / upper[j, j]
        left[:, j + 1 :] -= error[:, None] * upper[j, j + 1 :]
    return places
