"""lithe doctor: does everything work here, and what would make it better?"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import click

from lithe.cli.output import bytes_text, print_json, table, working

SHOWN_FEATURES = ("avx2", "fma", "avx512f", "avx512vnni", "avxvnni", "amx-int8", "neon", "dotprod", "i8mm", "sve")
EXTRAS = (  # distribution, module, what it is for, the command that installs it
    ("Pillow", "PIL", "pictures", 'pip install "lithe[image]"'),
    ("soxr", "soxr", "resampling of sounds", 'pip install "lithe[audio]"'),
    ("ai-edge-litert", "ai_edge_litert", "comparison with the official runtime", "pip install ai-edge-litert"),
)


@dataclass(frozen=True)
class Check:
    """status: "ok", "missing" (optional) or "failed"; fix: the one command that helps, or ""."""

    name: str
    status: str
    value: str
    fix: str = ""


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Show the processor, versions and cache, what is missing, and the one command for it."""
    with working("looking"):
        checks = list(examine())
    failed = any(check.status == "failed" for check in checks)
    if as_json:
        print_json("doctor", {"healthy": not failed, "checks": [asdict(check) for check in checks]})
    else:
        click.echo(table([(c.status, c.name, c.value + (f"   -> {c.fix}" if c.fix else "")) for c in checks]))
    context.exit(1 if failed else 0)


def examine() -> Iterator[Check]:
    """Every check, cheap ones first."""
    yield Check("lithe", "ok", version("lithe"))
    yield Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    from lithe.targets.host import host

    machine = host()
    known = " ".join(name for name in SHOWN_FEATURES if machine.has(name))
    yield Check("processor", "ok", f"{machine.name or machine.architecture}, {machine.cores} core(s) usable")
    yield Check("features", "ok", known or "the baseline of the architecture")
    for name in ("numpy", "llvmlite", "ml_dtypes", "threadpoolctl", "click", "rich"):
        try:
            yield Check(name, "ok", version(name))
        except PackageNotFoundError:
            yield Check(name, "failed", "not installed", f"{sys.executable} -m pip install {name}")
    yield from _cache()
    yield _compiled()
    for distribution, module, purpose, fix in EXTRAS:
        if find_spec(module) is None:
            yield Check(distribution, "missing", f"optional: {purpose}", fix)
        else:
            yield Check(distribution, "ok", f"{version(distribution)}, {purpose}")


def _cache() -> Iterator[Check]:
    from lithe.cli.cache import contents

    facts = contents()
    if facts["reason"]:
        yield Check(
            "code cache", "missing", f"off: {facts['reason']}", "LITHE_CACHE_DIR=/a/folder/of/yours lithe doctor"
        )
    else:
        count = len(facts["entries"])
        yield Check("code cache", "ok", f"{count} entries, {bytes_text(facts['bytes'])}, in {facts['directory']}")


def _compiled() -> Check:
    """Compiles and runs a model that the package carries, past the cache."""
    import logging

    import lithe
    from lithe.cli.demo import DATA

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("lithe")
    logger.addHandler(handler)
    try:
        started = time.perf_counter()
        lithe.load(DATA / "digits_int8.tflite", cache=False).benchmark(1, warmup=0)
        spent = (time.perf_counter() - started) * 1e3
    except lithe.LitheError as error:
        return Check("compiler", "failed", error.problem, error.hint)
    finally:
        logger.removeHandler(handler)
    if said:
        return Check("compiler", "failed", said[0])
    return Check("compiler", "ok", f"compiled and ran a small model in {spent:.0f} ms")
