"""The runtimes that can be compared, as data. Each is imported where it is used, and none is needed otherwise."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lithe.errors import InputError, MissingDependency


class Loaded(Protocol):
    """A model in memory, ready to run. Tensors have the names and the order of the model file."""

    def feed(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Sets every input."""

    def run(self) -> object:
        """One inference, as cheaply as the runtime allows it from Python."""

    def results(self, names: Sequence[str]) -> list[np.ndarray]:
        """A copy of every output."""


@dataclass(frozen=True)
class Peer:
    """A runtime.

    package  what to install, and whose version counts.
    entry    the module that has what `load` uses.
    load     (path, threads) -> the model in memory.
    suffix   of the file that it reads, beside the .tflite where that is another.
    """

    name: str
    title: str
    package: str
    entry: str
    load: Callable[[Path, int], Loaded]
    suffix: str = ".tflite"

    def file(self, model: Path) -> Path | None:
        """The file to load for a model; None when this runtime reads another format and there is no such file."""
        path = model if model.suffix == self.suffix else model.with_suffix(self.suffix)
        return path if path == model or path.exists() else None

    def version(self) -> str:
        """The installed version. Raises MissingDependency."""
        try:
            importlib.import_module(self.entry)
            return version(self.package)
        except (ImportError, PackageNotFoundError) as error:
            raise MissingDependency(
                f"{self.title} is not installed", where=self.name, hint=f"pip install {self.package}"
            ) from error


class TFLiteInterpreter:
    """Lithe's interpreter and the official one, which have the same interface."""

    def __init__(self, interpreter: Any) -> None:
        interpreter.allocate_tensors()
        self._interpreter = interpreter
        self.run: Callable[[], object] = interpreter.invoke

    def feed(self, arrays: Mapping[str, np.ndarray]) -> None:
        for detail, array in zip(self._interpreter.get_input_details(), arrays.values(), strict=True):
            self._interpreter.set_tensor(detail["index"], array)

    def results(self, names: Sequence[str]) -> list[np.ndarray]:
        return [self._interpreter.get_tensor(d["index"]) for d in self._interpreter.get_output_details()]


class OpenVINORequest:
    """A compiled model of OpenVINO, whose inputs and outputs are found by name where it kept the names."""

    def __init__(self, compiled: Any) -> None:
        self._compiled, self._request = compiled, compiled.create_infer_request()

    def feed(self, arrays: Mapping[str, np.ndarray]) -> None:
        from openvino import Tensor

        ports = _in_order(self._compiled.inputs, list(arrays))
        for port, array in zip(ports, arrays.values(), strict=True):
            self._request.set_tensor(port, Tensor(np.array(array, order="C")))

    def run(self) -> object:
        return self._request.infer(share_outputs=True)

    def results(self, names: Sequence[str]) -> list[np.ndarray]:
        return [np.array(self._request.get_tensor(p).data) for p in _in_order(self._compiled.outputs, names)]


def _in_order(ports: Sequence[Any], names: Sequence[str]) -> list[Any]:
    by_name = {name: port for port in ports for name in port.get_names()}
    return [by_name[name] for name in names] if all(name in by_name for name in names) else list(ports)


class ONNXSession:
    """A session of ONNX Runtime; tensors are in the order of the .onnx, which must be that of the .tflite."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._feeds: dict[str, np.ndarray] = {}
        self._results: list[np.ndarray] = []

    def feed(self, arrays: Mapping[str, np.ndarray]) -> None:
        wanted = self._session.get_inputs()
        shapes = [tuple(array.shape) for array in arrays.values()]
        if [tuple(i.shape) for i in wanted] != shapes:
            raise InputError(f"the .onnx takes {[tuple(i.shape) for i in wanted]}, the .tflite {shapes}")
        self._feeds = {i.name: array for i, array in zip(wanted, arrays.values(), strict=True)}

    def run(self) -> object:
        self._results = self._session.run(None, self._feeds)
        return self._results

    def results(self, names: Sequence[str]) -> list[np.ndarray]:
        return [np.array(result) for result in self._results]


def _lithe(path: Path, threads: int) -> Loaded:
    from lithe import Interpreter

    return TFLiteInterpreter(Interpreter(model_path=str(path), num_threads=threads))


def _official(path: Path, threads: int) -> Loaded:
    from ai_edge_litert.interpreter import Interpreter

    return TFLiteInterpreter(Interpreter(model_path=str(path), num_threads=threads))


def _openvino(path: Path, threads: int, **options: Any) -> Loaded:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, **options}
    return OpenVINORequest(openvino.Core().compile_model(str(path), "CPU", settings))


def _openvino_strict(path: Path, threads: int) -> Loaded:
    return _openvino(path, threads, INFERENCE_PRECISION_HINT="f32")


def _onnxruntime(path: Path, threads: int) -> Loaded:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return ONNXSession(onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))


def _lithe_fast(path: Path, threads: int) -> Loaded:
    from lithe import Interpreter

    return TFLiteInterpreter(Interpreter(model_path=str(path), num_threads=threads, precision="fast"))


LITHE = Peer("lithe", "Lithe", "lithe", "lithe.runtime.interpreter", _lithe)
LITHE_FAST = Peer("lithe-fast", "Lithe, precision fast", "lithe", "lithe.runtime.interpreter", _lithe_fast)
PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "official", "the official runtime with XNNPACK", "ai-edge-litert", "ai_edge_litert.interpreter", _official
        ),
        Peer("openvino", "OpenVINO", "openvino", "openvino", _openvino),
        LITHE_FAST,
        Peer("openvino-strict", "OpenVINO in float32 throughout", "openvino", "openvino", _openvino_strict),
        Peer("onnxruntime", "ONNX Runtime", "onnxruntime", "onnxruntime", _onnxruntime, ".onnx"),
    )
}


def peers(names: Sequence[str]) -> list[Peer]:
    """The peers of these names. Raises InputError for an unknown one, MissingDependency for one not installed."""
    for name in names:
        if name not in PEERS:
            raise InputError(f"there is no peer '{name}'", hint=f"the peers are {', '.join(PEERS)}")
        PEERS[name].version()
    return [PEERS[name] for name in dict.fromkeys(names)]
