"""What a start may import: the names of modules in a fresh process, so that no timing is needed."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

MODEL = files("lithe.data") / "digits_int8.tflite"
SLOW = {  # of the standard library; milliseconds each
    "asyncio", "concurrent", "email", "http", "importlib.metadata", "logging", "multiprocessing", "pathlib", "socket",
    "subprocess", "tempfile", "unittest", "urllib",
}  # fmt: skip
KEPT = {
    "lithe", "lithe.codegen", "lithe.codegen.llvm", "lithe.codegen.llvm.installed", "lithe.errors", "lithe.ir",
    "lithe.ir.graph", "lithe.targets", "lithe.targets.host", "lithe.types", "lithe.runtime",
    *(f"lithe.runtime.{name}" for name in (
        "cache", "compiled", "digest", "executors", "instance", "known_files", "loader", "outline", "private_folder",
        "session", "source", "values", "workers",
    )),
    "lithe.runtime.details",  # names of types in errors
    "lithe.codegen.llvm.threads",  # the size of what threads share
}  # fmt: skip
DOORS = {
    "lithe.load": {"lithe.runtime.model", "lithe.runtime.function"},
    "lithe.Interpreter": {"lithe.runtime.interpreter", "lithe.runtime.delegate", "lithe.runtime.signature"},
}
RUNS = {
    "lithe.load": "lithe.load(path)(numpy.zeros((1, 8, 8, 1), numpy.int8))",
    "lithe.Interpreter": (
        "i = lithe.Interpreter(model_path=path)\n"
        "i.allocate_tensors()\n"
        "i.set_tensor(i.get_input_details()[0]['index'], numpy.zeros((1, 8, 8, 1), numpy.int8))\n"
        "i.invoke()\n"
        "i.get_tensor(i.get_output_details()[0]['index'])"
    ),
}


def modules_after(code: str) -> set[str]:
    """The modules that a program brings in, beside those that numpy does."""
    program = f"import sys, numpy\nbefore = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


def foreign(modules: set[str]) -> set[str]:
    """Modules that belong neither to Lithe nor to the standard library."""
    return {m for m in modules if m.partition(".")[0] not in {"lithe", *sys.stdlib_module_names}}


def slow(modules: set[str]) -> set[str]:
    return {m for m in modules if m in SLOW or m.partition(".")[0] in SLOW}


def test_importing_lithe_imports_nothing():
    found = modules_after("import lithe")
    assert {m for m in found if m.startswith("lithe")} == {"lithe"}
    assert (foreign(found), slow(found)) == (set(), set())


@pytest.mark.parametrize("door", DOORS)
def test_a_kept_model_starts_with_few_modules(door: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LITHE_CACHE_DIR", str(tmp_path / "cache"))
    code = f"path = {str(MODEL)!r}\nimport lithe\n{RUNS[door]}"
    first = modules_after(code)
    assert {"lithe.ops", "lithe.lower.lower"} <= first  # it compiles
    found = modules_after(code)
    assert {m for m in found if m.startswith("lithe")} == KEPT | DOORS[door]
    assert (foreign(found), slow(found)) == (set(), set())


def test_compiling_loads_llvm_in_another_process_alone():
    found = modules_after(
        f"import os\nos.environ['LITHE_CACHE'] = '0'\npath = {str(MODEL)!r}\nimport lithe\n{RUNS['lithe.load']}"
    )
    assert "lithe.codegen.llvm.toolchain" in found
    assert not {m for m in found if m.startswith(("llvmlite", "ml_dtypes", "click", "rich", "flatbuffers"))}
