"""A model on its way into memory: read and verified at once, or, when its code is kept, not before it must be.

What is kept beside compiled code (see `lithe.runtime.outline`) describes inputs, outputs and signatures of a
model that was verified when the code was made. It is found by the digest of the model's bytes, so starting
such a model takes no reading, and none of the imports that reading needs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lithe.errors import CompileError, FileMissing, InputError, MissingDependency, ModelError
from lithe.ir.graph import Module
from lithe.runtime.compiled import Artifact, cache_key, cached, key
from lithe.runtime.digest import digest
from lithe.runtime.known_files import known_digest
from lithe.runtime.outline import module_of

if TYPE_CHECKING:
    from lithe.ops.verify import Limits


class Source:
    """A model from a path (mapped into memory), from its bytes, or in memory already.

    keep    compiled code may be kept on disk and taken from there.
    limits  what the model may ask for; with limits of one's own nothing is kept, and the model is always verified.

    tuned   for how many threads the code is to be tuned; 0: it is not.

    digest  of the model's bytes, the precision and `tuned`, None when no code is kept for it: the file does not hold it
            all, or changed while it was read, or the model was made in memory, or has operators that users registered.
    kept    the code of its main graph at the declared shapes, when there is some.

    Raises FileMissing when the path cannot be opened, ModelError when the content is not a sound model.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | Module,
        limits: Limits | None = None,
        *,
        keep: bool = True,
        precision: str = "strict",
        tuned: int = 0,
    ) -> None:
        self._model: str | bytes = b""
        self._limits = limits
        self._manner = [] if precision == "strict" and not tuned else [precision, str(tuned)]
        self._whole: Module | None = None
        self._outline: Module | None = None
        self.digest: bytes | None = None
        self.kept: Artifact | None = None
        if isinstance(model, Module):
            self._whole = model
            return
        self._model = model if isinstance(model, bytes) else _existing(model)
        if keep and limits is None:  # kept code was verified against the usual limits
            self._find_kept()
            if self._outline is None:  # a compile process gets ready while the model is read
                from lithe.codegen.llvm.processes import start_ahead

                start_ahead()
        if self._outline is None:
            self._whole = self._read()

    @property
    def module(self) -> Module:
        """What is known now: all of the model, or only its main graph's inputs and outputs, and its signatures."""
        return self._outline if self._whole is None and self._outline is not None else self.whole()

    @property
    def is_whole(self) -> bool:
        return self._whole is not None

    def whole(self) -> Module:
        """The model with everything in it; it is read when this is first asked."""
        if self._whole is None:
            self._whole = self._read()
        return self._whole

    @property
    def limits(self) -> Limits:
        """What the model may ask for."""
        from lithe.ops.verify import Limits

        return self._limits or Limits()

    def forget_kept(self) -> None:
        """The module was changed: no kept code is its."""
        self.whole()
        self.digest = self.kept = self._outline = None

    def _find_kept(self) -> None:
        self.digest = self._digest()
        try:
            found = cached(cache_key(self.digest, 0, {}))
        except (MissingDependency, CompileError):  # said when code is to be made
            return
        if found is not None and found.outline:
            self.kept, self._outline = found, module_of(found.outline)

    def _read(self) -> Module:
        from pathlib import Path

        from lithe.formats.tflite import open_model, read
        from lithe.ops.op import REGISTRY
        from lithe.ops.verify import verify

        limits, model = self.limits, self._model
        module = read(model, limits=limits) if isinstance(model, bytes) else open_model(Path(model), limits=limits)
        if self.digest is not None and self._digest() != self.digest:
            if self._outline is not None:
                raise ModelError(f"'{model!s}' changed after it was opened", hint="load it again")
            self.digest = None
        verify(module, limits)
        nodes = (n for g in module.graphs for n in g.nodes)
        if "external_buffers" in module.extras or any(n.op is REGISTRY.users.get(n.op.name) for n in nodes):
            self.digest = None  # nor for operators of users, whose code may change between runs
        return module

    def _digest(self) -> bytes:
        found = digest(self._model) if isinstance(self._model, bytes) else known_digest(self._model)
        return key(found, *self._manner) if self._manner else found


def _existing(path: str | os.PathLike[str]) -> str:
    try:
        found = os.fsdecode(path)
    except TypeError as cause:
        raise InputError(f"a model is a path or bytes: {cause}") from cause
    if not os.path.isfile(found):
        raise FileMissing(f"Could not open '{found}'.", hint="check the path: there is no such file")
    if not os.access(found, os.R_OK):
        raise FileMissing(f"Could not open '{found}'.", hint="check the permissions")
    return found
