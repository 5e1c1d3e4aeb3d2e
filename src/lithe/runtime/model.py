"""The friendly door: a model is a function with named inputs and outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lithe.errors import InputError
from lithe.ir.graph import Module, Tensor
from lithe.runtime.function import Function, TensorInfo
from lithe.runtime.instance import Instance, Options, checked_precision, checked_tune
from lithe.runtime.source import Source

if TYPE_CHECKING:
    from lithe.ops.verify import Limits
    from lithe.runtime.advice import Advice
    from lithe.runtime.benchmark import Timing
    from lithe.runtime.summary import Summary


def load(
    model: str | os.PathLike[str] | bytes,
    *,
    num_threads: int | None = None,
    precision: Literal["strict", "bf16x3", "fast"] = "strict",
    cache: bool = True,
    limits: Limits | None = None,
    tune: bool | float = False,
) -> Model:
    """Returns the model in a file (a path) or in bytes, ready to be called.

    num_threads  threads that share an inference, where there is enough to do for them; None: one. Results do not
                 depend on it. The threads start with the first call and end with the model.
    precision    of products of floats. "strict": float32. "fast": factors are rounded to bfloat16 (8 bits, a relative
                 error of up to 2**-8 each) where the processor multiplies those faster, and sums stay float32.
                 "bf16x3": factors are sums of two bfloat16 numbers (16 bits, up to 2**-16), and three products stand
                 for one; where the processor multiplies tiles of them (AMX), else float32.
    cache        keep compiled code on disk, so that the next start is quick.
    limits       a `lithe.ops.verify.Limits`: what a model may ask for at most.
    tune         look for the quickest code by running it, when the model is called first: True for a minute at most, or
                 the seconds. What is found is kept beside the compiled code, and later loads with `tune` take it
                 from there. Integers stay the same bits, floats within the tolerance of their precision.

    Raises FileMissing when there is no such file, ModelError when it is not a sound model, InputError for options that
    are none, and, at the first call, where no part of a model to be tuned is compiled.

    >>> model = lithe.load("mobilenet.tflite")           # doctest: +SKIP
    >>> model(image)                                     # doctest: +SKIP
    """
    if num_threads is not None and (not isinstance(num_threads, int) or num_threads < 1):
        raise InputError(f"num_threads is an integer of at least 1, got {num_threads!r}")
    given = bytes(model) if isinstance(model, bytearray | memoryview) else model
    options = Options(
        num_threads=num_threads or 1, keep=cache, precision=checked_precision(precision), tune=checked_tune(tune)
    )
    source = Source(given, limits, keep=options.may_keep(), precision=precision, tuned=options.tuned_for())
    name = "" if isinstance(given, bytes) else os.path.basename(os.fspath(given))
    return Model(source, options, name=name)


class Model:
    """A loaded model: `model(x)` or `model(image=x)`.

    inputs, outputs  {name: TensorInfo}. Names are those of the model's signature, else of its tensors.
    signatures       {key: function}; each takes and returns named arrays.
    metadata         {name: bytes} as the file holds it.
    """

    def __init__(self, model: Module | Source, options: Options | None = None, *, name: str = "") -> None:
        self._source = model if isinstance(model, Source) else Source(model)
        self.name = name
        module = self._source.module
        self._instance = Instance(self._source, options)
        self.signatures: Mapping[str, Function] = MappingProxyType(
            {s.key: Function(s.key, self._instance, s.inputs, s.outputs, s.graph) for s in module.signatures}
        )
        main = module.main
        signature = next((s for s in module.signatures if s.graph == 0), None)
        self._main = Function(
            "model",
            self._instance,
            named(main.inputs, signature.inputs if signature else {}),
            named(main.outputs, signature.outputs if signature else {}),
        )

    @property
    def module(self) -> Module:
        """The model's graphs; a model whose code is kept is read when this is first asked."""
        return self._source.whole()

    @property
    def inputs(self) -> Mapping[str, TensorInfo]:
        return MappingProxyType(self._main.inputs)

    @property
    def outputs(self) -> Mapping[str, TensorInfo]:
        return MappingProxyType(self._main.outputs)

    @property
    def main(self) -> Function:
        """The main graph as a function: it returns {name: output} even where there is one."""
        return self._main

    @property
    def metadata(self) -> Mapping[str, bytes]:
        return MappingProxyType(self.module.metadata)

    def __call__(self, /, *arrays: Any, **named_arrays: Any) -> np.ndarray | dict[str, np.ndarray]:
        """Runs the model on arrays by position or by name: its output, or {name: output} if it has several.

        An array must have the dtype and shape of its input (`model.inputs`); a list of numbers takes the dtype.
        Raises InputError that says both sides. The results are the caller's own.
        """
        results = self._main(*arrays, **named_arrays)
        return next(iter(results.values())) if len(results) == 1 else results

    def __repr__(self) -> str:
        takes = ", ".join(f"{name}: {info}" for name, info in self.inputs.items())
        gives = ", ".join(f"{name}: {info}" for name, info in self.outputs.items())
        title = f" '{self.name}'" if self.name else ""
        return f"<lithe.Model{title} ({takes}) -> ({gives}), {len(self.module.main.nodes)} operators>"

    def prepare(self) -> None:
        """Makes the code for the declared shapes now, tunes it where that was asked for; else the first call does."""
        self._main.session()

    def reset(self) -> None:
        """Forgets the state that the model keeps between calls."""
        self._instance.reset()
        for function in (self._main, *self.signatures.values()):
            function.reset()

    def labels(self, output: int = 0) -> list[str] | None:
        """The class names of an output, from the file that the model carries for it; None without one."""
        from lithe.formats.metadata import labels

        return labels(self.module, output)

    def summary(self) -> Summary:
        """Operators, shapes, weights, multiply-accumulates and working memory; `print` shows a table."""
        from lithe.passes import prepare
        from lithe.runtime.summary import summarize

        return summarize(prepare(self.module.main, self._instance, keep_all=True))

    def sparsity(self) -> list[Advice]:
        """For each layer what it would gain by zeros, in bytes and in time, see `lithe.runtime.advice`."""
        from lithe.passes import prepare
        from lithe.runtime.advice import advice

        return advice(prepare(self.module.main, self._instance), self._instance)

    def benchmark(self, runs: int = 50, *, warmup: int = 3, seconds: float | None = None) -> Timing:
        """Times inference on fixed random input: milliseconds, see `lithe.runtime.benchmark.measure`."""
        from lithe.runtime.benchmark import measure

        session = self._main.session()
        random = np.random.default_rng(0)
        for info in self.inputs.values():
            storage = session.array(info.index)
            if storage is not None and storage.dtype.kind in "fiu":
                storage[...] = random.integers(0, 2, storage.shape).astype(storage.dtype)
        return measure(session.invoke, runs=runs, warmup=warmup, seconds=seconds)

    def __bytes__(self) -> bytes:
        """The model as a `.tflite` file holds it; `load` takes it."""
        from lithe.formats.tflite import write

        return write(self.module)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model as a `.tflite` file; a failure leaves no half-written file."""
        from pathlib import Path

        from lithe.formats.tflite import save

        save(self.module, Path(os.fspath(path)))


def named(tensors: list[Tensor], names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{name: tensor} in the graph's order: the signature's name, else the tensor's, with its number if not unique."""
    by_tensor = {t: name for name, t in names.items()}
    found: dict[str, Tensor] = {}
    for tensor in tensors:
        name = by_tensor.get(tensor) or tensor.name or f"tensor_{tensor.index}"
        found[name if name not in found else f"{name}#{tensor.index}"] = tensor
    return found
