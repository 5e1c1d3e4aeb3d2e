"""What a random case of each operator looks like: one function for each kind of operator, a file a family."""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.grid.families.registry import GENERATORS, Generator

for _path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
    importlib.import_module(f"{__name__}.{_path.stem}")

# Builtin operators that no random case can be drawn for in the grid, and what holds them instead.
WITHOUT: dict[str, str] = {}

__all__ = ["GENERATORS", "WITHOUT", "Generator"]
