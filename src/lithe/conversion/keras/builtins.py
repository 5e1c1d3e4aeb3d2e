"""Operations of Keras that one builtin says: they are written as such, and not as what their backend makes of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

from lithe.conversion.builder import Builder
from lithe.conversion.keras.recurrent import KINDS, loop_of_layer
from lithe.conversion.keras.steps import unrolled
from lithe.conversion.keras.tracing import Tracer
from lithe.ir.graph import Tensor
from lithe.types import BOOL, FLOAT32

RESIZES = {"bilinear": "RESIZE_BILINEAR", "nearest": "RESIZE_NEAREST_NEIGHBOR"}
Operation = Callable[..., Any]
Around = Callable[[Tracer, Operation], Operation]


def is_float32(x: Any) -> bool:
    return str(x.dtype).rsplit(".", 1)[-1].strip("'<> ") == "float32"


def _activation(builtin: str, attribute: str, default: float) -> Around:
    """An activation with one number, which is the builtin's attribute."""

    def around(tracer: Tracer, original: Operation) -> Operation:
        def replacement(x: Any, *args: Any, **options: Any) -> Any:
            number = float(next(iter((*args, *options.values())), default))
            attrs: dict[str, Any] = {attribute: number} if attribute else {}
            if not is_float32(x) or (not attribute and number != default):
                return original(x, *args, **options)

            def write(b: Builder, x: Tensor) -> Tensor:
                return b(builtin, x, **attrs)

            return tracer.opaque(write, builtin, lambda shape: [shape], x)[0]

        return replacement

    return around


def _resize(tracer: Tracer, original: Operation) -> Operation:
    def replacement(images: Any, size: Any, interpolation: str = "bilinear", antialias: bool = False,
                    **options: Any) -> Any:  # fmt: skip
        plain = not any(options.get(k) for k in ("crop_to_aspect_ratio", "pad_to_aspect_ratio")) and not antialias
        layout = options.get("data_format") or importlib.import_module("keras").config.image_data_format()
        plain = plain and layout == "channels_last" and len(images.shape) == 4
        if interpolation not in RESIZES or not plain or not is_float32(images):
            return original(images, size, interpolation, antialias, **options)
        height, width = int(size[0]), int(size[1])

        def resized(shape: Any) -> Any:
            return [(shape[0], height, width, shape[3])]

        def write(b: Builder, x: Tensor) -> Tensor:
            (shape,) = resized(x.type.shape)
            return b.sized(RESIZES[interpolation], [x, b.constant([height, width])], shape, align_corners=False,
                           half_pixel_centers=True)  # fmt: skip

        return tracer.opaque(write, f"resize ({interpolation})", resized, images)[0]

    return replacement


def _take(tracer: Tracer, original: Operation) -> Operation:
    """Rows of a table, as an embedding looks them up; negative numbers count from its end.

    JAX gives NaNs for numbers that are too large, which takes more operators than the look-up. Here they are an error
    when the model runs, as with TensorFlow.
    """

    def replacement(x: Any, indices: Any, axis: int | None = None) -> Any:
        operations = importlib.import_module("keras").ops
        table, places = operations.convert_to_tensor(x), operations.convert_to_tensor(indices)
        whole = str(places.dtype).rsplit(".", 1)[-1].strip("'<> ") == "int32"
        if axis != 0 or len(table.shape) != 2 or not is_float32(table) or not whole:
            return original(x, indices, axis=axis)

        def write(b: Builder, table: Tensor, places: Tensor) -> Tensor:
            negative = b("LESS", places, b.constant(0), dtype=BOOL)
            from_end = b("ADD", places, b.constant(table.type.shape[0]))
            return b(
                "GATHER",
                table,
                b("SELECT_V2", negative, from_end, places, dtype=places.type.dtype),
                dtype=FLOAT32,
                axis=0,
                batch_dims=0,
            )

        return tracer.opaque(write, "take", lambda table, places: [(*places, table[1])], table, places)[0]

    return replacement


def _in_layer(tracer: Tracer, original: Operation) -> Operation:
    """The context that Keras opens for each layer also tells the tracer."""

    @contextmanager
    def replacement(name: str, *args: Any, **options: Any) -> Iterator[Any]:
        scopes = importlib.import_module("keras.src.backend.common.name_scope")
        with original(name, *args, **options) as scope, tracer.part(scopes.current_path()):
            yield scope

    return replacement


def _attention(tracer: Tracer, original: Operation) -> Operation:
    """softmax(scale q kT + bias) v of heads, in four dimensions: JAX's own function makes five of them."""

    def replacement(query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, scale: Any = None,
                    is_causal: bool = False, flash_attention: Any = None, attn_logits_soft_cap: Any = None
                    ) -> Any:  # fmt: skip
        plain = is_float32(query) and query.shape[2] == key.shape[2] and not is_causal and attn_logits_soft_cap is None
        if tracer.backend != "jax" or not plain:
            return original(query, key, value, bias, mask, scale, is_causal, flash_attention, attn_logits_soft_cap)
        ops = importlib.import_module("keras").ops
        scaled = query * (query.shape[-1] ** -0.5 if scale is None else scale)
        scores = ops.einsum("bqnh,bknh->bnqk", scaled, key)
        scores = scores if bias is None else scores + bias
        scores = scores if mask is None else ops.where(ops.cast(mask, "bool"), scores, LEAST)
        return ops.einsum("bnqk,bknh->bqnh", ops.softmax(scores, axis=-1), value)

    return replacement


def _layer_norm(tracer: Tracer, original: Operation) -> Operation:
    """(x - mean) / sqrt(variance + epsilon) gamma + beta, in the fewest operators; Keras adds two products."""

    def replacement(x: Any, gamma: Any = None, beta: Any = None, axis: Any = -1, epsilon: Any = None,
                    rms_scaling: bool = False) -> Any:  # fmt: skip
        last = axis in (-1, [-1], (-1,)) or axis in (len(x.shape) - 1, [len(x.shape) - 1])
        if not is_float32(x) or not last or rms_scaling or epsilon is None:
            return original(x, gamma, beta, axis, epsilon, rms_scaling)
        ops = importlib.import_module("keras").ops
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        y = centred * ops.rsqrt(ops.mean(ops.square(centred), axis=-1, keepdims=True) + epsilon)
        y = y if gamma is None else y * ops.convert_to_tensor(gamma)
        return y if beta is None else y + ops.convert_to_tensor(beta)

    return replacement


LEAST = -0.7 * 3.4028235e38  # a score that no other comes near to, as in JAX's function

# module of Keras (with its backend's name), function: what stands around it
OPERATIONS: dict[tuple[str, str], Around] = {
    ("keras.src.backend.{backend}.nn", "elu"): _activation("ELU", "", 1.0),
    ("keras.src.backend.{backend}.nn", "leaky_relu"): _activation("LEAKY_RELU", "alpha", 0.2),
    ("keras.src.backend.{backend}.image", "resize"): _resize,
    ("keras.src.backend.{backend}.nn", "dot_product_attention"): _attention,
    ("keras.src.ops.nn", "_layer_normalization"): _layer_norm,
    ("keras.src.backend.{backend}.numpy", "take"): _take,
    ("keras.src.backend", "rnn"): unrolled,
    ("keras.src.backend", "name_scope"): _in_layer,
}


@contextmanager
def builtins_stand_for_operations(tracer: Tracer, unroll: bool, held: Collection[Tensor]) -> Iterator[None]:
    """While a model is traced and written, operations and recurrent layers are the builtins that they are.

    unroll  write the steps of recurrent layers one by one also where a builtin says the same.
    held    the tensors of what the model keeps from run to run.
    """
    keras = importlib.import_module("keras")
    found = [
        (importlib.import_module(module.format(backend=tracer.backend)), name, partial(around, tracer))
        for (module, name), around in OPERATIONS.items()
    ]
    loop = partial(loop_of_layer, tracer, unroll=unroll, held=held)
    found += [(getattr(keras.layers, layer), "inner_loop", loop) for layer in KINDS]
    with ExitStack() as replaced:
        for owner, name, around in found:
            replaced.enter_context(mock.patch.object(owner, name, around(getattr(owner, name))))
        yield
