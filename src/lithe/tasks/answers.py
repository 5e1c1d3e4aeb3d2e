"""What a model answered: class scores with names, or a summary of an array."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Choice:
    """One class: its number, its name ("" where nobody gave one) and its score."""

    index: int
    label: str
    score: float

    def __str__(self) -> str:
        return f"{self.score:8.4f}  {self.label or f'class {self.index}'}"


def is_class_scores(shape: tuple[int, ...], labels: int = 0) -> bool:
    """Whether an output looks like one score for each class (of one example)."""
    classes = shape[-1] if shape else 0
    single = all(n == 1 for n in shape[:-1])
    return single and (classes == labels > 0 or classes >= 3)


def best(scores: np.ndarray, labels: list[str], count: int) -> list[Choice]:
    """The classes with the greatest scores, greatest first; equal scores in the order of the classes."""
    flat = scores.reshape(-1)
    order = np.argsort(-flat.astype(np.float64), kind="stable")[:count]
    return [Choice(int(i), labels[i] if i < len(labels) else "", float(flat[i])) for i in order]


def parse_labels(text: str) -> list[str]:
    """One name a line; numbers in front ("0  background") are taken off when they count the lines."""
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    numbered = [re.fullmatch(r"(\d+)[\s:,]+(\S.*)", line) for line in lines]
    if lines and all(m is not None and int(m[1]) == i for i, m in enumerate(numbered)):
        return [m[2] for m in numbered if m is not None]
    return lines


def summary(array: np.ndarray, count: int = 8) -> str:
    """The first values of an array, and the range of them all."""
    flat = array.reshape(-1)
    if array.dtype.kind in "OSU":
        shown = " ".join(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in flat[:count])
        return shown + (" ..." if flat.size > count else "")
    shown = " ".join(f"{v:.6g}" if array.dtype.kind == "f" else str(v) for v in flat[:count].tolist())
    if flat.size <= count:
        return shown
    return f"{shown} ...  (least {flat.min():.6g}, greatest {flat.max():.6g}, mean {flat.mean():.6g})"
