"""Delegates and operator resolvers, as far as they mean something where one compiler serves every device."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from typing import Any

from lithe.errors import InputError

DEVICES = ("cpu",)


@enum.unique
class OpResolverType(enum.Enum):
    """Which kernels run a model.

    AUTO, BUILTIN                      compiled code.
    BUILTIN_REF                        the reference executor: each operator's definition in numpy.
    BUILTIN_WITHOUT_DEFAULT_DELEGATES  compiled code; Lithe has no default delegates to leave out.
    """

    AUTO = 0
    BUILTIN = 1
    BUILTIN_REF = 2
    BUILTIN_WITHOUT_DEFAULT_DELEGATES = 3


class Delegate:
    """A device to run on, by name. Shared libraries made for other runtimes cannot be taken in."""

    def __init__(self, library: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> None:
        name = os.fspath(library)
        if name not in DEVICES:
            raise InputError(
                f"Failed to load delegate from {name}\nLithe generates code itself and cannot run another "
                "runtime's delegate library.",
                hint=f"leave the delegate out, or name a device: {', '.join(DEVICES)}",
            )
        self.device = name
        self.options = dict(options or {})

    def __repr__(self) -> str:
        return f"Delegate({self.device!r})"


def load_delegate(library: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Delegate:
    """Returns the Delegate of a device named by `library`; anything else is a ValueError, as callers expect."""
    return Delegate(library, options)
