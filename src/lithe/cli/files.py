"""Files named on the command line: read whole, and written whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from lithe.errors import FileMissing, InputError


def read_bytes(path: Path | str) -> bytes:
    """The content of a file; "-" is standard input."""
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileMissing(
            f"'{path}' cannot be opened: {error.strerror}", hint="check the name and the folder"
        ) from error


def write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Writes beside the target and moves into place, so that no half-written file is ever left."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            write(file)
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"'{path}' cannot be written: {error.strerror}", hint="name a folder that exists") from error
    finally:
        partial.unlink(missing_ok=True)
