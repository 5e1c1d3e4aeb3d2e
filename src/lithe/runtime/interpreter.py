"""The drop-in for `tf.lite.Interpreter`: same methods, keys, defaults, copies and error texts."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lithe.errors import InputError, ResizeError, StateError, UnsupportedOp
from lithe.ir.graph import Module, Tensor
from lithe.runtime.delegate import Delegate, OpResolverType
from lithe.runtime.details import node_details, tensor_details
from lithe.runtime.instance import Instance, Options, checked_precision, checked_tune
from lithe.runtime.session import Session
from lithe.runtime.signature import SignatureRunner
from lithe.runtime.source import Source
from lithe.runtime.values import Views, as_given, set_value

if TYPE_CHECKING:
    from lithe.ops.op import Op

_VIEW_IS_HELD = """There is at least 1 reference to internal data
      in the interpreter in the form of a numpy array or slice. Be sure to
      only hold the function returned from tensor() if you are using raw
      data access."""

_PRESERVE_WARNING = (
    "Warning: Enabling `experimental_preserve_all_tensors` with the BUILTIN or AUTO op resolver is intended for"
    " debugging purposes only. Be aware that this can significantly increase memory usage by storing all"
    " intermediate tensors. If you encounter memory problems or are not actively debugging, consider disabling"
    " this option."
)


class Interpreter:
    """Runs a model step by step: allocate_tensors, set_tensor, invoke, get_tensor.

    model_path, model_content        one of them: a path, or the model's bytes.
    num_threads                      threads that share an inference; None is 1.
    experimental_delegates           see `lithe.lite.load_delegate`.
    experimental_op_resolver_type    see `lithe.lite.OpResolverType`.
    experimental_preserve_all_tensors  intermediate tensors can be read after `invoke`, which makes it slow.

    precision, tune                  see `lithe.load`; additions of ours.

    The other arguments steer delegates of the official runtime; they are accepted and change nothing.

    Raises FileMissing, ModelError (both ValueError) when there is no such model or it is not sound.

    >>> interpreter = Interpreter("digits.tflite")                          # doctest: +SKIP
    >>> interpreter.allocate_tensors()                                      # doctest: +SKIP
    >>> interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)   # doctest: +SKIP
    >>> interpreter.invoke()                                                # doctest: +SKIP
    >>> interpreter.get_tensor(interpreter.get_output_details()[0]["index"])         # doctest: +SKIP
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str] | None = None,
        model_content: bytes | bytearray | memoryview | None = None,
        experimental_delegates: Sequence[Delegate] | None = None,
        num_threads: int | None = None,
        experimental_op_resolver_type: OpResolverType = OpResolverType.AUTO,
        experimental_preserve_all_tensors: bool = False,
        experimental_disable_delegate_clustering: bool = False,
        experimental_default_delegate_latest_features: bool = False,
        experimental_compress_quantization_zero_points: bool = False,
        experimental_disable_delegate_node_fusion: bool = False,
        experimental_force_delegate_node_profiling: bool = False,
        *,
        precision: Literal["strict", "bf16x3", "fast"] = "strict",
        tune: bool | float = False,
    ) -> None:
        self._experimental_compress_quantization_zero_points = experimental_compress_quantization_zero_points
        resolver = experimental_op_resolver_type
        if experimental_preserve_all_tensors and resolver in (OpResolverType.AUTO, OpResolverType.BUILTIN):
            warnings.warn(_PRESERVE_WARNING, stacklevel=2)
        # The official enum is not ours, though its members are: the same name is the same resolver.
        name = resolver.name if type(resolver).__name__ == "OpResolverType" else None
        if name not in OpResolverType.__members__:
            raise InputError(f"Unrecognized passed in op resolver type: {resolver}")
        if num_threads is not None:
            if not isinstance(num_threads, int):
                raise InputError("type of num_threads should be int")
            if num_threads < 1:
                raise InputError("num_threads should >= 1")
        for delegate in experimental_delegates or ():
            if not isinstance(delegate, Delegate):
                raise InputError(
                    f"a delegate is a lithe.lite.Delegate, got {type(delegate).__name__}",
                    hint="leave experimental_delegates out: Lithe compiles for this machine by itself",
                )
        self._delegates = list(experimental_delegates or ())
        self._options = Options(
            reference=name == "BUILTIN_REF",
            num_threads=int(num_threads or 1),
            preserve_all=bool(experimental_preserve_all_tensors),
            precision=checked_precision(precision),
            tune=checked_tune(tune),
        )
        self._source = self._open(model_path, model_content)
        self._instance = Instance(self._source, self._options)
        self._main = Session(self._instance)
        self._sessions = {0: self._main}
        self._views = Views()
        self._signatures = {s.key: s for s in self._source.module.signatures}

    @property
    def _module(self) -> Module:
        """The whole model. What runs a model does not ask for it, so that a kept one starts without being read."""
        return self._source.whole()

    def _open(self, path: str | os.PathLike[str] | None, content: Any) -> Source:
        options = self._options
        how: dict[str, Any] = {
            "keep": options.may_keep(), "precision": options.precision, "tuned": options.tuned_for()
        }  # fmt: skip
        if path and not content:
            return Source(path, **how)
        if content and not path:
            if not isinstance(content, bytes | bytearray | memoryview):
                raise InputError(f"`model_content` must be bytes, got {type(content).__name__}")
            return Source(bytes(content), **how)
        if not content and not path:
            raise InputError("`model_path` or `model_content` must be specified.")
        raise InputError("Can't both provide `model_path` and `model_content`")

    def __repr__(self) -> str:
        graph = self._module.main
        return f"<lithe.Interpreter of {len(graph.nodes)} operators, {len(self._module.graphs)} subgraphs>"

    # life

    def allocate_tensors(self) -> None:
        """Plans memory and code for the current input shapes; to be called before `set_tensor` and after a resize."""
        self._ensure_safe()
        self._main.allocate()

    def invoke(self) -> None:
        """Runs the model once on the inputs that are set."""
        if self._views.alive:
            self._ensure_safe()
        self._main.invoke()

    def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int], strict: bool = False) -> None:
        """Gives an input another shape; `allocate_tensors` must follow.

        strict  only dimensions that are -1 in `shape_signature` may change.
        """
        self._ensure_safe()
        try:
            shape = np.array(tensor_size, dtype=np.int32)
        except (ValueError, OverflowError, TypeError) as cause:
            raise ResizeError(f"the shape is not a list of int32 numbers: {cause}") from cause
        if shape.ndim != 1:
            raise ResizeError(f"Shape should be 1D instead of {shape.ndim}.")
        session = self._main
        tensor = session.tensor(input_index)
        if tensor is None:
            raise ResizeError(f"tensor #{input_index} does not exist", hint="see get_input_details()")
        if strict:
            _require_open_dimensions(tensor, shape)
        session.resize(tensor.index, shape.tolist())

    def reset_all_variables(self) -> None:
        """Puts the state that the model keeps between runs back to its start."""
        self._main.reset_variables()

    # values

    def set_tensor(self, tensor_index: int, value: Any) -> None:
        """Copies `value` into an input tensor; dtype and shape must be the tensor's."""
        if type(tensor_index) is not int or not self._main.put(tensor_index, value):
            self._set(tensor_index, as_given(value), 0)

    def get_tensor(self, tensor_index: int, subgraph_index: int = 0) -> np.ndarray:
        """A copy of a tensor's value: of an input, an output, a constant; of others when all are preserved."""
        storage = self._main.array(tensor_index) if type(tensor_index) is int and not subgraph_index else None
        if storage is None:
            storage = self._storage(tensor_index, subgraph_index)
        return storage.copy() if storage.ndim else storage.copy()[()]

    def tensor(self, tensor_index: int) -> Callable[[], np.ndarray]:
        """A function that gives a view of a tensor's storage. Hold the function; a held view blocks `invoke`."""

        def view() -> np.ndarray:
            return self._views.of(self._storage(tensor_index, 0))

        return view

    # descriptions

    def get_input_details(self) -> list[dict[str, Any]]:
        """Of each input of the model: name, index, shape, shape_signature, dtype, quantization, ..."""
        return [self._get_tensor_details(t.index, 0) for t in self._source.module.main.inputs]

    def get_output_details(self) -> list[dict[str, Any]]:
        """The same of each output."""
        return [self._get_tensor_details(t.index, 0) for t in self._source.module.main.outputs]

    def get_tensor_details(self, subgraph_index: int = 0) -> list[dict[str, Any]]:
        """The same of every tensor of a subgraph."""
        count = self.num_subgraphs()
        if subgraph_index < 0 or subgraph_index >= count:
            raise InputError(
                f"subgraph_index is out of range: {subgraph_index} for the model, which has {count} subgraphs."
            )
        return [self._get_tensor_details(t.index, subgraph_index) for t in self._module.graphs[subgraph_index].tensors]

    def get_signature_list(self) -> dict[str, dict[str, list[str]]]:
        """{key: {"inputs": names, "outputs": names}}"""
        return {key: {"inputs": list(s.inputs), "outputs": list(s.outputs)} for key, s in self._signatures.items()}

    def get_signature_runner(self, signature_key: str | None = None) -> SignatureRunner:
        """The signature as a callable; the key may be left out when there is exactly one."""
        if signature_key is None:
            if len(self._signatures) != 1:
                raise InputError(
                    f"SignatureDef signature_key is None and model has {len(self._signatures)} Signatures. "
                    "None is only allowed when the model has 1 SignatureDef"
                )
            signature_key = next(iter(self._signatures))
        return SignatureRunner(interpreter=self, signature_key=signature_key)

    def num_subgraphs(self) -> int:
        return len(self._module.graphs)

    @property
    def experimental_compress_quantization_zero_points(self) -> bool:
        return self._experimental_compress_quantization_zero_points

    def _get_full_signature_list(self) -> dict[str, dict[str, dict[str, int]]]:
        def indices(names: dict[str, Tensor]) -> dict[str, int]:
            return {name: t.index for name, t in names.items()}

        return {k: {"inputs": indices(s.inputs), "outputs": indices(s.outputs)} for k, s in self._signatures.items()}

    def _get_tensor_details(self, tensor_index: int, subgraph_index: int) -> dict[str, Any]:
        tensor = self._tensor(tensor_index, subgraph_index)
        return tensor_details(tensor, self._session(subgraph_index).shape(tensor.index))

    def _get_op_details(self, op_index: int) -> dict[str, Any]:
        nodes = self._module.main.nodes
        if not 0 <= op_index < len(nodes):
            raise InputError(f"Invalid node index {op_index}: the model has {len(nodes)} operators")
        return node_details(int(op_index), nodes[op_index])

    def _get_ops_details(self) -> list[dict[str, Any]]:
        return [node_details(i, node) for i, node in enumerate(self._module.main.nodes)]

    def _native_handle(self) -> int:
        raise UnsupportedOp("there is no native interpreter behind lithe.Interpreter, so no handle to one")

    # inside

    def _session(self, subgraph_index: int) -> Session:
        if subgraph_index not in self._sessions:
            count = self.num_subgraphs()
            if not 0 <= subgraph_index < count:
                raise InputError(f"Invalid subgraph index {subgraph_index} exceeds max subgraph index {count}")
            self._sessions[subgraph_index] = Session(self._instance, subgraph_index)
        return self._sessions[subgraph_index]

    def _tensor(self, tensor_index: int, subgraph_index: int) -> Tensor:
        try:
            index = operator.index(tensor_index)
        except TypeError as cause:
            raise InputError(f"a tensor index is an integer, got {tensor_index!r}") from cause
        session = self._session(subgraph_index)
        tensor = session.tensor(index)
        if tensor is None:
            count = len(session.graph.tensors)
            raise InputError(f"Invalid tensor index {index} exceeds max tensor index {count}")
        return tensor

    def _storage(self, tensor_index: int, subgraph_index: int) -> np.ndarray:
        tensor = self._tensor(tensor_index, subgraph_index)
        storage = self._session(subgraph_index).array(tensor.index)
        if storage is None:
            raise InputError(
                "Tensor data is null. Run allocate_tensors() first",
                where=f"tensor {tensor!r}",
                hint="experimental_preserve_all_tensors=True keeps intermediate values",
            )
        return storage

    def _set(self, tensor_index: int, value: np.ndarray, subgraph_index: int) -> None:
        tensor, session = self._tensor(tensor_index, subgraph_index), self._session(subgraph_index)
        if tensor.is_constant:
            raise InputError("Cannot set tensor: it is a constant of the model", where=f"tensor {tensor!r}")
        storage = session.array(tensor.index) if session.ready else None
        if storage is None:
            raise InputError("Cannot set tensor: Tensor is unallocated. Try calling allocate_tensors() first")
        set_value(storage, tensor.type.dtype, value, tensor.index, tensor.name)

    def _ensure_safe(self) -> None:
        if self._views.alive:
            raise StateError(_VIEW_IS_HELD)


def _require_open_dimensions(tensor: Tensor, shape: np.ndarray) -> None:
    allowed = tensor.type.shape if tensor.shape_signature is None else tensor.shape_signature
    if len(allowed) != len(shape) or any(a not in (-1, d) for a, d in zip(allowed, shape.tolist(), strict=True)):
        raise ResizeError(
            f"strict=True allows only the dimensions that are -1 in {list(allowed)} to change, got {shape.tolist()}",
            where=f"tensor {tensor!r}",
            hint="leave strict out",
        )


class CustomOps:
    """What a registerer of `InterpreterWithCustomOps` is given: it calls `add` with its operator classes."""

    def __init__(self) -> None:
        self.by_name: dict[str, type[Op]] = {}

    def add(self, op: type[Op]) -> None:
        """Raises InputError when the class lacks what an operator needs (see `lithe.register_op`)."""
        from lithe.ops.registration import checked_op

        self.by_name[checked_op(op).name] = op


class InterpreterWithCustomOps(Interpreter):
    """An Interpreter that knows the caller's operators.

    custom_op_registerers  operator classes (see `lithe.register_op`, which makes them known everywhere), or functions
                           that take a `CustomOps` and add such classes to it. They come before Lithe's own.
    """

    def __init__(
        self, custom_op_registerers: Sequence[type[Op] | Callable[[CustomOps], None]] | None = None, **arguments: Any
    ) -> None:
        self._custom = CustomOps()
        for register in custom_op_registerers or ():
            if isinstance(register, type):
                self._custom.add(register)
            elif callable(register):
                register(self._custom)
            else:
                raise InputError(
                    f"a custom op registerer is a Python function, got {register!r}", hint="or an operator class"
                )
        super().__init__(**arguments)

    def _open(self, path: str | os.PathLike[str] | None, content: Any) -> Source:
        from lithe.formats.tflite.options import read_custom
        from lithe.ops.verify import verify

        source = super()._open(path, content)
        nodes = [n for g in source.whole().graphs for n in g.nodes if n.op.code is None]
        theirs = [n for n in nodes if n.op.name in self._custom.by_name]
        for node in theirs:
            node.op = self._custom.by_name[node.op.name]
            node.attrs = read_custom(node.op, bytes(node.extras.get("custom_options", b"")))
        if theirs:
            source.forget_kept()
            verify(source.whole(), source.limits)
        return source
