"""Which LLVM is installed, found without loading it."""

from __future__ import annotations

import os
import sys

from lithe.errors import CompileError, MissingDependency

LIBRARY = "binding/" + {"win32": "llvmlite.dll", "darwin": "libllvmlite.dylib"}.get(sys.platform, "libllvmlite.so")


def llvm_folder() -> str:
    """The folder on the import path that holds llvmlite, found without importing it."""
    for folder in sys.path:  # where it nearly always is; asking the import system takes a tenth of a millisecond
        if os.path.isfile(os.path.join(folder, "llvmlite", "__init__.py")):
            return folder or os.curdir
    import importlib.util

    spec = importlib.util.find_spec("llvmlite")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency(
            "compiling needs llvmlite, which is not installed",
            hint="pip install llvmlite",
        )
    return os.path.dirname(next(iter(spec.submodule_search_locations)))


def llvm_stamp() -> str:
    """Names the installed LLVM for cache keys, by the place, sizes and dates of its version file and its library.

    Asking for these takes a twentieth of a millisecond; importing llvmlite takes about a hundred.
    """
    package = os.path.join(llvm_folder(), "llvmlite")
    try:
        version, library = (os.stat(os.path.join(package, name)) for name in ("_version.py", LIBRARY))
    except OSError as error:
        raise CompileError(
            f"the installed llvmlite cannot be read: {error}", hint="pip install --force-reinstall llvmlite"
        ) from error
    return repr((package, *((f.st_size, f.st_mtime_ns, f.st_ino) for f in (version, library))))
