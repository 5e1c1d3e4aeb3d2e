"""Golden texts: `golden(text, "name")` compares with the file that lies beside the test.

A folder of tests takes the fixture by importing both names in its conftest.py. After a change that is meant,
run that folder with `--update-golden` and read the difference before you commit it.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    with contextlib.suppress(ValueError):  # another folder has added it
        parser.addoption("--update-golden", action="store_true", help="write the golden texts instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with golden/NAME in the test's folder; --update-golden rewrites that file."""
    folder = request.path.parent / "golden"
    update = request.config.getoption("--update-golden", default=False)

    def compare(text: str, name: str) -> None:
        __tracebackhide__ = True
        path = folder / name
        if update:
            folder.mkdir(exist_ok=True)
            path.write_text(text)
            return
        if not path.exists():
            pytest.fail(f"{path} is missing: run pytest {folder.parent} --update-golden")
        expected = path.read_text()
        if text != expected:
            lines = difflib.unified_diff(expected.splitlines(), text.splitlines(), "golden", "now", lineterm="")
            pytest.fail("\n".join([*lines, f"if this is meant: pytest {folder.parent} --update-golden"]), pytrace=False)

    return compare
