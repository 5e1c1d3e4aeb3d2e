"""Every code block of the documentation is run, and what it prints is what the page says it prints.

    ```python        run; a ```text block right after it is the expected output, "..." standing for anything
    ```bash          lines that start with `lithe` are run and must succeed
    ```python with "# path/in/the/project.py" as its first line: that text stands in that file, word for word

The examples work in a folder that holds what `lithe demo --save digits --number 3` writes.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from lithe.cli.main import main

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    *(p for p in sorted((CHECKOUT / "docs").rglob("*.md")) if p.name != "languages.md"),  # has its own test
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)\)")


@dataclass(frozen=True)
class Block:
    """One example: its language, its text, and the output that the page shows for it (None: not shown)."""

    page: Path
    line: int
    language: str
    text: str
    output: str | None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    content = page.read_text(encoding="utf-8")
    found = list(BLOCK.finditer(content))
    result = []
    for match, following in zip(found, [*found, None][1:], strict=True):
        between = content[match.end() : following.start()].strip() if following else ""
        shown = following is not None and following[1] == "text" and between in ("", "printed")
        line = content.count("\n", 0, match.start()) + 1
        result.append(Block(page, line, match[1], match[2], following[2] if following and shown else None))
    return result


ALL = [block for page in PAGES for block in blocks(page)]
FRAMEWORK = re.compile(r"^(?:import|from) (keras|jax|torch|onnx|tensorflow|flax)\b", re.MULTILINE)
EXCERPT = re.compile(r"# (\S+\.py)\n")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--save", "digits", "--number", "3"]) == 0
    return tmp_path


def printed_as_shown(printed: str, shown: str) -> bool:
    parts = [re.escape(part) for part in shown.strip().split("...")]
    return re.fullmatch(".*?".join(parts), printed.strip(), re.DOTALL) is not None


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "python" and not EXCERPT.match(b.text)], ids=str)
def test_python(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FRAMEWORK.findall(block.text):
        monkeypatch.setenv("KERAS_BACKEND", "jax")
        pytest.importorskip(name, reason=f"{name} is not installed")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.text, str(block), "exec", dont_inherit=True), {"__name__": "example"})
    if block.output is not None:
        assert printed_as_shown(printed.getvalue(), block.output), printed.getvalue()


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "bash"], ids=str)
def test_commands(block: Block, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in block.text.splitlines() if line.startswith("lithe ")]
    assert lines, "a bash block without a lithe command is not tested: mark it as text"
    if any("--against official" in line for line in lines):
        pytest.importorskip("ai_edge_litert")
    for line in lines:
        capfd.readouterr()
        assert main(shlex.split(line)[1:]) == 0, line
    if block.output is not None:
        printed = capfd.readouterr().out
        assert printed_as_shown(printed, block.output), printed


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "python" and EXCERPT.match(b.text)], ids=str)
def test_excerpts_stand_in_the_source(block: Block) -> None:
    first, text = block.text.split("\n", 1)
    assert text in (CHECKOUT / first.removeprefix("# ")).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [t for t in LINK.findall(page.read_text(encoding="utf-8")) if not t.startswith("http")]
    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_the_readme_names_every_verb() -> None:
    from lithe.cli.main import VERBS

    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert f"`{' '.join(VERBS)}`" in readme
    reference = (CHECKOUT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert all(f"| `{verb}" in reference for verb in VERBS)


def test_comparison_of_outputs() -> None:
    assert printed_as_shown("a 12 ms b\n", "a ... b\n")
    assert not printed_as_shown("a 12 ms c\n", "a ... b\n")
