"""`make` lists every command, and each listed command is one that can be made."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_alone_lists_every_command() -> None:
    printed = subprocess.run(["make"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    for name in phony.split():
        assert re.search(rf"^  make {name} +\S+ \S+", printed, re.MULTILINE), name


def test_only_lower_bounds_are_asked_for() -> None:
    text = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    requirements = re.findall(r'"([A-Za-z_-]+[^"]*[<>=~!]=?[^"]*)"', text)
    assert requirements
    assert [r for r in requirements if re.search(r"==|<|~=", r)] == []
