"""A few numbers in the place of many: where they start, and which stands for each weight. Plain functions on arrays.

    linear    from the least value to the greatest in even steps
    density   at even steps of the share of values below
    random    values drawn from those that are there
    kmeans++  values drawn one after another, the farther from those drawn before the likelier

Source: Arthur and Vassilvitskii, k-means++: the advantages of careful seeding, 2007; Lloyd, 1982.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lithe.errors import InputError

LEAST, MOST = 2, 256


def _linear(values: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    return np.linspace(values.min(), values.max(), count)


def _density(values: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    return np.quantile(values, (np.arange(count) + 0.5) / count)


def _random(values: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    distinct = np.unique(values)
    return random.choice(distinct, count, replace=len(distinct) < count)


def _careful(values: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    chosen = [random.choice(values)]
    distance = (values - chosen[0]) ** 2
    while len(chosen) < count and distance.any():
        chosen.append(random.choice(values, p=distance / distance.sum()))
        distance = np.minimum(distance, (values - chosen[-1]) ** 2)
    return np.array(chosen + chosen[-1:] * (count - len(chosen)))  # fewer values than clusters


STARTS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "linear": _linear,
    "density": _density,
    "random": _random,
    "kmeans++": _careful,
}


def check(clusters: int, start: str) -> None:
    """Raises InputError where there cannot be so many clusters, or none that start so."""
    if isinstance(clusters, bool) or not isinstance(clusters, int) or not LEAST <= clusters <= MOST:
        raise InputError(f"there cannot be {clusters!r} clusters", hint=f"give a whole number from {LEAST} to {MOST}")
    if start not in STARTS:
        raise InputError(f"clusters do not start {start!r}", hint=f"starts are {', '.join(STARTS)}")


def starting(values: np.ndarray, count: int, start: str, seed: int = 0) -> np.ndarray:
    """Where so many centroids of real numbers start: float64 [count], ascending. Raises InputError where some are none.

    >>> starting(np.array([0.0, 1.0, 3.0]), 4, "linear")
    array([0., 1., 2., 3.])
    """
    flat = values.ravel().astype(np.float64)
    if not np.isfinite(flat).all():
        raise InputError("weights with NaN or infinity have no clusters", hint="train the model anew")
    if not flat.size:
        return np.zeros(count)
    return np.sort(STARTS[start](flat, count, np.random.default_rng(seed)))


def nearest(values: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The index of the centroid next to each value, int64 of the values' shape; halfway, the smaller one's."""
    order = np.argsort(centroids, kind="stable")
    ascending = centroids[order].astype(np.float64)
    between = (ascending[1:] + ascending[:-1]) / 2
    return order[np.searchsorted(between, values.astype(np.float64), side="left")]


def settled(values: np.ndarray, centroids: np.ndarray, rounds: int = 100) -> np.ndarray:
    """Centroids as the means of the values that they are next to, after so many rounds or when they stay (k-means).

    float64 [clusters]; a centroid without values stays where it is.

    >>> settled(np.array([0.0, 2.0, 10.0]), np.array([0.0, 9.0]))
    array([ 1., 10.])
    """
    flat, centroids = values.ravel().astype(np.float64), centroids.astype(np.float64)
    for _ in range(rounds):
        member = nearest(flat, centroids)
        count = np.bincount(member, minlength=len(centroids))
        means = np.bincount(member, flat, len(centroids)) / np.maximum(count, 1)
        moved = np.where(count > 0, means, centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


@dataclass(frozen=True)
class Clusters:
    """Weights [outputs, inputs] in few numbers.

    centroids  float64 [groups, count]: one group for all weights, or one for each output.
    members    int64 [outputs, inputs]: which centroid of its group stands for a weight.
    stays      bool [outputs, inputs]: False where a zero is kept beside the centroids.
    """

    centroids: np.ndarray
    members: np.ndarray
    stays: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """What the weights have become: float64 [outputs, inputs]."""
        groups = np.arange(len(self.centroids))[:, None]
        return np.where(self.stays, self.centroids[groups, self.members], 0.0)


def clustered(
    weights: np.ndarray,
    clusters: int,
    start: str = "kmeans++",
    *,
    per_channel: bool = False,
    preserve_zeros: bool = True,
    rounds: int = 0,
    seed: int = 0,
) -> Clusters:
    """Weights [outputs, inputs] in at most so many numbers, or in so many for each output.

    preserve_zeros  weights that are zero stay so; if there are any, zero is one of the numbers.
    rounds          of k-means after the start.
    """
    check(clusters, start)
    stays = weights != 0 if preserve_zeros else np.ones(weights.shape, bool)
    count = clusters - (0 if stays.all() else 1)
    groups = [w[s] for w, s in zip(weights, stays, strict=True)] if per_channel else [weights[stays]]
    centroids = np.array([settled(values, starting(values, count, start, seed), rounds) for values in groups])
    return Clusters(centroids, members(weights, centroids), stays)


def members(weights: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Which centroid of its group each weight is next to: int64 [outputs, inputs]; see `Clusters`."""
    if len(centroids) == 1:
        return nearest(weights, centroids[0])
    return np.array([nearest(row, own) for row, own in zip(weights, centroids, strict=True)])
