"""Which LLVM is installed, found without loading it."""

from __future__ import annotations

import importlib.util
import os
from hashlib import sha256

from lithe.errors import CompileError, MissingDependency


def llvm_folder() -> str:
    """The folder on the import path that holds llvmlite, found without importing it."""
    spec = importlib.util.find_spec("llvmlite")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency(
            "compiling needs llvmlite, which is not installed",
            hint="pip install llvmlite",
        )
    return os.path.dirname(next(iter(spec.submodule_search_locations)))


def llvm_stamp() -> str:
    """Names the installed LLVM for cache keys: its version file and the size of its library.

    Reading these takes well under a millisecond; importing llvmlite to ask takes about a hundred.
    """
    package = os.path.join(llvm_folder(), "llvmlite")
    mark = sha256()
    try:
        with open(os.path.join(package, "_version.py"), "rb") as version:
            mark.update(version.read())
        for file in sorted(os.scandir(os.path.join(package, "binding")), key=lambda f: f.name):
            if file.name.endswith((".so", ".dylib", ".dll")):
                mark.update(f"{file.name} {file.stat().st_size}\n".encode())
    except OSError as error:
        raise CompileError(
            f"the installed llvmlite cannot be read: {error}", hint="pip install --force-reinstall llvmlite"
        ) from error
    return mark.hexdigest()[:32]
