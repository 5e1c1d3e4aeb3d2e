"""Which room may import which: the table of the architecture, held for every import statement."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "lithe"

GROUND = {"errors", "types"}
PUBLIC = {"lithe"}  # the public names, `import lithe` and `from lithe import ...`

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "types": {"errors"},
    "ir": GROUND,
    "ops": GROUND | {"ir"},
    "formats": GROUND | {"ir", "ops"},
    "passes": GROUND | {"ir", "ops"},
    "targets": GROUND | {"ir"},
    "lower": GROUND | {"ir", "ops", "targets"},
    "codegen": GROUND | {"ir", "targets"},
    "runtime": GROUND | {"ir", "ops", "formats", "passes", "targets", "lower", "codegen"},
    "conversion": GROUND | {"ir", "ops", "formats", "passes", "optimize", "runtime"},
    "optimize": GROUND | {"ir", "ops", "formats", "passes", "runtime"},
    "train": GROUND | {"ir", "ops", "passes", "runtime"},
    "tasks": GROUND | {"runtime", "formats"},
    "maker": GROUND | {"conversion", "optimize", "train", "tasks", "runtime"},
}
BELOW_EXPORT = set(ALLOWED) - {"tasks", "maker"}
ALLOWED["export"] = BELOW_EXPORT
# The doors stand in front of the whole house; what they may not do is import each other.
ALLOWED["bench"] = ALLOWED["view"] = set(ALLOWED) | PUBLIC
ALLOWED["cli"] = set(ALLOWED) | PUBLIC | {"data"}
ALLOWED["studio"] = set(ALLOWED) | PUBLIC
ALLOWED["__main__"] = {"cli"}
ALLOWED["lite"] = {"lithe", "runtime", "conversion", "optimize", *GROUND}
ALLOWED["data"] = set()
ALLOWED["optimize"] |= PUBLIC  # training goes on with models of Keras, which `lithe.convert` reads
FRONT = {"lithe"}  # __init__.py of the package gathers public names from any room but the doors


def imported_rooms(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """(line, room) for every import of lithe in a file, inside functions and `if` too."""
    parts = ("lithe", *path.relative_to(package).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = parts[: len(parts) - node.level + 1]
                module = ".".join([*base, *([node.module] if node.module else [])])
            else:
                module = node.module or ""
            # `from lithe import x` names a room or a public name; both are judged by x
            names = [f"lithe.{alias.name}" for alias in node.names] if module == "lithe" else [module]
        for name in names:
            if name == "lithe":
                yield node.lineno, "lithe"
            elif name.startswith("lithe."):
                yield node.lineno, name.split(".")[1]


def forbidden_imports(package: Path) -> Iterator[str]:
    """One line for each import that the table does not allow."""
    rooms = {path.stem if path.is_file() else path.name for path in package.iterdir()}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        place = path.relative_to(package)
        for line, used in imported_rooms(path, package):
            target = used if used in rooms else "lithe"
            if room == "__init__":
                if target in {"cli", "studio"}:
                    yield f"{place}:{line}: nobody may import the door '{target}'"
            elif room not in ALLOWED:
                yield f"{place}:{line}: room '{room}' is not in the table"
            elif target != room and target not in ALLOWED[room]:
                yield f"{place}:{line}: '{room}' may not import '{target}'"


def test_every_import_is_allowed() -> None:
    assert list(forbidden_imports(PACKAGE)) == []


def test_front_ends_know_nothing_of_each_other() -> None:
    """Keras alone stands on others: those that trace its models, whose names are those of its backends."""
    fronts = {"jax", "keras", "onnx", "tensorflow", "tflite", "torch"}
    assert {p.name for p in (PACKAGE / "conversion").iterdir() if (p / "__init__.py").exists()} <= fronts
    for front in fronts:
        others = fronts - {front} - ({"jax", "tensorflow", "torch"} if front == "keras" else set())
        for path in (PACKAGE / "conversion" / front).glob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert [o for o in others if f"lithe.conversion.{o}" in text] == [], path.name


def test_every_room_is_in_the_table() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms - set(ALLOWED) - {"__init__"} == set()


def test_planted_faults_are_found(tmp_path: Path) -> None:
    package = tmp_path / "lithe"
    for room in ("ops", "codegen", "runtime", "cli", "ir"):
        (package / room).mkdir(parents=True)
        (package / room / "__init__.py").write_text("")
    (package / "__init__.py").write_text("from .cli import main\n")
    (package / "ops" / "inside.py").write_text("def f():\n    from lithe.codegen.llvm import build\n")
    (package / "ops" / "relative.py").write_text("from ..runtime import model\n")
    (package / "ops" / "named.py").write_text("if True:\n    import lithe.cli.main\n")
    (package / "ops" / "front.py").write_text("from lithe import runtime, load\n")
    (package / "ir" / "fine.py").write_text("from .graph import Graph\nfrom lithe.errors import LitheError\n")
    (package / "attic").mkdir()
    (package / "attic" / "__init__.py").write_text("import lithe.ir\n")
    assert sorted(forbidden_imports(package)) == [
        "__init__.py:1: nobody may import the door 'cli'",
        "attic/__init__.py:1: room 'attic' is not in the table",
        "ir/fine.py:2: 'ir' may not import 'lithe'",
        "ops/front.py:1: 'ops' may not import 'lithe'",
        "ops/front.py:1: 'ops' may not import 'runtime'",
        "ops/inside.py:2: 'ops' may not import 'codegen'",
        "ops/named.py:2: 'ops' may not import 'cli'",
        "ops/relative.py:1: 'ops' may not import 'runtime'",
    ]
