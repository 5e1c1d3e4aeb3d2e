"""What repairs have to know of the values that a float model computes on samples."""

from __future__ import annotations

import numpy as np


class Channels:
    """Of each place along the last axis: the least and the greatest value, the mean, and the mean square."""

    def __init__(self) -> None:
        self.count = 0
        self.low = self.high = self.total = self.squares = np.zeros(0)

    def see(self, array: np.ndarray) -> None:
        rows = array.reshape(-1, array.shape[-1])
        low, high = rows.min(0), rows.max(0)
        total, squares = rows.sum(0, dtype=np.float64), np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
        if not self.count:
            self.low, self.high, self.total, self.squares = low, high, total, squares
        else:
            self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
            self.total, self.squares = self.total + total, self.squares + squares
        self.count += len(rows)

    @property
    def mean(self) -> np.ndarray:
        return self.total / max(self.count, 1)

    @property
    def mean_square(self) -> np.ndarray:
        return self.squares / max(self.count, 1)

    @property
    def largest(self) -> np.ndarray:
        return np.maximum(-self.low, self.high).astype(np.float64)

    def scaled(self, factors: np.ndarray) -> None:
        """As if every value had been multiplied with the positive factor of its place."""
        self.low, self.high, self.total = self.low * factors, self.high * factors, self.total * factors
        self.squares = self.squares * factors**2
