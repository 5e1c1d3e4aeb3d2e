"""What a measurement is about: the processor, the versions of everything that took part, and Lithe's commit."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lithe.bench.peers import Peer
from lithe.targets.host import host

TOLD = re.compile(r"avx|fma|amx|sve|neon|dotprod|i8mm|bf16|f16c|gfni")  # features that kernels are chosen by


def machine() -> dict[str, Any]:
    """The processor as far as the system tells: name, caches in bytes by level, cores of this process, features."""
    facts = host()
    return {
        "name": facts.name or facts.architecture,
        "vendor": facts.vendor, "family": facts.family, "model": facts.model, "cores": facts.cores,
        "caches": {f"L{level}": size for level, size in sorted(facts.caches.items())},
        "features": sorted(f for f in facts.features if TOLD.search(f)),
        "system": f"{platform.system()} {platform.release()}",
    }  # fmt: skip


def versions(peers: Sequence[Peer]) -> dict[str, str]:
    """Versions of Python, of what Lithe stands on, and of the peers' packages, those that are installed."""
    found = {"python": platform.python_version()}
    for package in ("lithe", "numpy", "llvmlite", *(peer.package for peer in peers)):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit of the checkout that this code stands in, "+changes" behind it where files differ; "" without git."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    name = git("rev-parse", "--short=10", "HEAD")
    if not name:
        return ""
    return name + ("+changes" if git("status", "--porcelain", "--untracked-files=no", ".") else "")
