"""The command line in this process: `lithe("run", model, "--json")` gives exit code, output and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lithe.cli.demo import DATA
from lithe.cli.main import main


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Ended]


@pytest.fixture
def lithe(capfd: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> Ended:
        code = main([str(a) for a in arguments])
        captured = capfd.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A folder with the demo's models and one digit (a float array)."""
    import numpy as np

    with np.load(DATA / "digits_held_out.npz") as file:
        image, label = file["image"], file["label"]
    chosen = int(np.flatnonzero(label == 7)[0])
    np.save(tmp_path / "seven.npy", (image[chosen][None, :, :, None] / 16).astype(np.float32))
    for name in ("digits_float32.tflite", "digits_int8.tflite"):
        (tmp_path / name).write_bytes((DATA / name).read_bytes())
    return tmp_path
