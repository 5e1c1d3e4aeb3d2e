"""Runs a graph as machine code: one native call for a whole inference.

A graph becomes an `Artifact` (objects, packed constants, layout of the arena), by lowering and compiling it
(see `lithe.runtime.compilation`) or from the code cache; the executor maps it into memory. Neither way loads LLVM
into this process, and a cached model is not even lowered: this module imports no more than that takes.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lithe.codegen.llvm.installed import llvm_stamp
from lithe.codegen.llvm.threads import MEMORY
from lithe.errors import ExecutionError
from lithe.runtime.cache import Cache, Entry, key, numbered
from lithe.runtime.loader import Image
from lithe.runtime.workers import ALIGNMENT, ALONE, RUN, Run, Workers, address_of, aligned, sync_block
from lithe.targets.host import machine_stamp
from lithe.types import DTYPES, dtype_of

if TYPE_CHECKING:
    from lithe.ops.op import Environment

ENTRY = "lithe_entry"
LAYOUT = 6  # of artifacts; part of every key
COMPILER_ROOMS = (
    ".", "ir", "ops", "ops/flex", "ops/recurrent", "ops/signal", "ops/stablehlo", "ops/text",
    "passes", "passes/deflex", "targets", "lower", "codegen", "codegen/llvm",
    "runtime", "formats", "formats/tflite",
)  # fmt: skip
INSTALLED = ("site-packages", "dist-packages")  # folders that installers alone write to


class Place(NamedTuple):  # not a dataclass: seven times as quick to make, at every start
    """Where a tensor lies: `offset` bytes into the arena or the constants."""

    index: int  # type: ignore[assignment]  # tuple.index is not wanted
    offset: int
    dtype: str
    shape: tuple[int, ...]
    constant: bool = False
    variable: bool = False
    zero: int = 0  # what a variable starts with
    resource: str = ""  # the key of a variable that other graphs see too
    read_first: bool = False  # it must have a value before the run


class Layout(NamedTuple):
    """What an executor must know beside the code.

    private_bytes  that each further thread needs behind the arena.
    is_shared      whether several threads have something to do.
    """

    arena_bytes: int
    places: tuple[Place, ...]
    messages: tuple[str, ...]
    name: str = ""
    once: tuple[int, ...] = ()  # graphs to be run once before this one
    private_bytes: int = 0
    is_shared: bool = False

    def room(self, threads: int) -> int:
        """Bytes of working memory for so many threads."""
        return self.arena_bytes + (threads - 1) * self.private_bytes

    def text(self) -> bytes:
        return json.dumps(self).encode()

    @staticmethod
    def parse(text: bytes) -> Layout:
        arena_bytes, places, messages, name, once, private_bytes, is_shared = json.loads(text)
        read = tuple(Place(index, at, dtype, tuple(shape), *rest) for index, at, dtype, shape, *rest in places)
        return Layout(arena_bytes, read, tuple(messages), name, tuple(once), private_bytes, is_shared)


class Artifact(NamedTuple):
    """A compiled graph: relocatable objects, the constants' bytes, the layout.

    outline  the model's interface (see `lithe.runtime.outline`), empty when it is not kept.
    first    what graphs that are run once leave in variables, by graph, of those that do nothing else.
    """

    objects: tuple[bytes | memoryview, ...]
    constants: np.ndarray
    layout: Layout
    outline: bytes = b""
    first: Mapping[int, Mapping[str, np.ndarray]] = {}


def cache_key(source: bytes, graph: int, shapes: dict[int, tuple[int, ...]]) -> bytes:
    """Names an artifact: what it was made from, by which compiler, for which CPU.

    source  digest of the model's bytes.
    """
    sizes = repr(sorted(shapes.items()))
    loop_work = os.environ.get("LITHE_LOOP_WORK", "")  # of `lithe.ops.verify.Limits`: longer loops become no code
    return key(source, str(graph), sizes, loop_work, compiler_stamp(), llvm_stamp(), machine_stamp())


def part_key(whole: bytes, number: int) -> bytes:
    """Names the artifact of a part of a graph that is not compiled as a whole."""
    return key(whole, "part", str(number))


@lru_cache(None)
def compiler_stamp() -> str:
    """Names this copy of Lithe, by dates that change with every version, and in a checkout with every edit.

    An installer puts new files in the place of old ones, which dates the folder: one question, in the place of one for
    each of 250 files, which take a millisecond.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if os.path.basename(os.path.dirname(package)) in INSTALLED:
        folder = os.stat(package)
        return repr((LAYOUT, package, folder.st_ino, folder.st_mtime_ns, folder.st_ctime_ns))
    found = [_source_stamp(f"{package}/{room}") for room in COMPILER_ROOMS]
    return sha256(repr((LAYOUT, package, found)).encode()).hexdigest()


def _source_stamp(room: str) -> list[tuple[str, int, int]]:
    """Files of a checkout may be written in place: the size and date of each."""
    with os.scandir(room) as files:
        sources = [(f.name, f.stat()) for f in files if f.name.endswith(".py")]
    return sorted((name, status.st_size, status.st_mtime_ns) for name, status in sources)


def cached(name: bytes, cache: Cache | None = None) -> Artifact | None:
    """The artifact stored under a key, or None."""
    entry = (cache or Cache()).get(name)
    if entry is None:
        return None
    constants = np.frombuffer(entry.part("constants"), np.uint8)
    layout, outline = Layout.parse(bytes(entry.part("layout"))), bytes(entry.part("outline"))
    return Artifact(tuple(entry.sequence("object")), constants, layout, outline, _read_first(entry))


def store(name: bytes, artifact: Artifact, cache: Cache | None = None) -> bool:
    """Keeps an artifact for the next start; whether it is on disk."""
    parts: dict[str, Any] = {
        "layout": artifact.layout.text(), "outline": artifact.outline, "constants": artifact.constants.data,
    }  # fmt: skip
    parts |= numbered("object", [bytes(o) for o in artifact.objects])
    return (cache or Cache()).put(name, {**parts, **_first_parts(artifact)})


def _first_parts(artifact: Artifact) -> dict[str, Any]:
    """The first values of variables: what they are, then the bytes of each."""
    if not artifact.first:
        return {}
    values = [(number, key, value) for number, leaves in artifact.first.items() for key, value in leaves.items()]
    table = json.dumps(
        [list(artifact.first), [(n, key, dtype_of(value).name, value.shape) for n, key, value in values]]
    )
    return {"first": table.encode(), **numbered("value", [value.tobytes() for _, _, value in values])}


def _read_first(entry: Entry) -> dict[int, dict[str, np.ndarray]]:
    if "first" not in entry.parts:
        return {}
    numbers, table = json.loads(bytes(entry.part("first")))
    found: dict[int, dict[str, np.ndarray]] = {number: {} for number in numbers}
    for (number, name, dtype, shape), data in zip(table, entry.sequence("value"), strict=True):
        found[number][name] = np.frombuffer(data, DTYPES[dtype].numpy).reshape(shape)
    return found


class CompiledExecutor:
    """Executes an artifact. Arrays of tensors are views of the arena (see `lithe.runtime.executors.Executor`).

    A variable that other graphs see too is in the arena of the executor that ran last: the model's resources hold
    a view of it, and the next executor that needs it copies it over.

    workers  the threads that share an inference; None, or when there is nothing to share: the caller's own alone.
    direct   a whole inference as one native call, which returns the number of a failure; None where it takes more.
    """

    def __init__(
        self, artifact: Artifact, environment: Environment | None = None, workers: Workers | None = None
    ) -> None:
        self._layout = artifact.layout
        self._workers = workers if artifact.layout.is_shared else None
        self._arena = aligned(artifact.layout.room(self._workers.threads if self._workers else 1))
        self._constants = artifact.constants
        if self._constants.size and address_of(self._constants) % ALIGNMENT:
            self._constants = aligned(artifact.constants.size)
            self._constants[:] = artifact.constants
        self._sync = sync_block()
        memory = [address_of(block) for block in (self._arena, self._constants, self._sync)]
        self._image = Image(artifact.objects, dict(zip(MEMORY, memory, strict=True)))
        self._run_alone = self._image.function(ALONE, ctypes.c_int)
        if self._workers is not None:
            pointer, number = ctypes.c_void_p, ctypes.c_int
            self._run: Run = self._image.function(RUN, number, pointer, pointer, pointer, number, pointer)
            self._job = (self._image.address(ENTRY), *memory[:2])
        self._arrays = {p.index: self._view(p) for p in artifact.layout.places}
        self._variables = {p.index for p in artifact.layout.places if p.variable}
        self._shared = [(p, self._arrays[p.index]) for p in artifact.layout.places if p.resource]
        self._first = artifact.first
        self._takes_over = environment if self._shared or artifact.layout.once else None
        alone = self._workers is None and self._takes_over is None
        self.direct: Callable[[], int] | None = self._run_alone if alone else None
        self.reset_variables()

    def _view(self, p: Place) -> np.ndarray:
        block = self._constants if p.constant else self._arena
        return np.ndarray(p.shape, DTYPES[p.dtype].numpy, block, p.offset)

    def array(self, index: int) -> np.ndarray | None:
        """The live storage of an input, output or variable; None for any other tensor."""
        return self._arrays.get(index)

    def variable(self, index: int) -> np.ndarray | None:
        """The storage of a tensor that is a variable, else None."""
        return self._arrays[index] if index in self._variables else None

    def invoke(self) -> None:
        """Runs the graph once. Raises ExecutionError when the data cannot be used."""
        if self._takes_over is not None:
            self._take_over(self._takes_over)
        workers = self._workers
        failure = self._run_alone() if workers is None else workers.run(self._image, self._run, *self._job)
        if failure:
            self.fail(failure)

    def fail(self, failure: int) -> None:
        """Raises the ExecutionError of a failure's number."""
        where, _, problem = self._layout.messages[failure - 1].partition(": ")
        raise ExecutionError(problem, where=where)

    def _take_over(self, environment: Environment) -> None:
        """Brings shared variables into the arena, and runs what is to be run once."""
        for number in self._layout.once:
            environment.call_once(number, self._first.get(number))
        for place, array in self._shared:
            held = environment.resources.get(place.resource)
            if held is array:
                continue
            if held is not None and (held.shape != array.shape or held.dtype != array.dtype):
                raise ExecutionError(
                    f"the variable holds {held.dtype}{list(held.shape)}, this graph was made for "
                    f"{array.dtype}{list(array.shape)}",
                    where=place.resource,
                )
            if held is not None:
                array[...] = held
            elif place.read_first:
                raise ExecutionError("the variable is read before anything was assigned to it", where=place.resource)
            environment.resources[place.resource] = array

    def reset_variables(self) -> None:
        for p in self._layout.places:
            if p.variable and not p.resource:
                self._arrays[p.index][...] = p.zero
