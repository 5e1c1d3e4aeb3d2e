"""Operations of Keras that one builtin says: they are written as such, and not as what their backend makes of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

from lithe.conversion.builder import Builder
from lithe.conversion.jax.opaque import opaque
from lithe.conversion.keras.recurrent import KINDS, loop_of_layer
from lithe.ir.graph import Tensor

RESIZES = {"bilinear": "RESIZE_BILINEAR", "nearest": "RESIZE_NEAREST_NEIGHBOR"}
Around = Callable[[Callable[..., Any]], Callable[..., Any]]


def _activation(builtin: str, attribute: str, default: float) -> Around:
    """An activation with one number, which is the builtin's attribute."""

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(x: Any, *args: Any, **options: Any) -> Any:
            import jax

            number = float(next(iter((*args, *options.values())), default))
            attrs: dict[str, Any] = {attribute: number} if attribute else {}
            if x.dtype != "float32" or (not attribute and number != default):
                return original(x, *args, **options)

            def write(b: Builder, x: Tensor) -> Tensor:
                return b(builtin, x, **attrs)

            return opaque(write, builtin, [jax.ShapeDtypeStruct(x.shape, x.dtype)], x)[0]

        return replacement

    return around


def _resize(original: Callable[..., Any]) -> Callable[..., Any]:
    def replacement(images: Any, size: Any, interpolation: str = "bilinear", antialias: bool = False,
                    **options: Any) -> Any:  # fmt: skip
        import jax

        plain = not any(options.get(k) for k in ("crop_to_aspect_ratio", "pad_to_aspect_ratio")) and not antialias
        layout = options.get("data_format") or importlib.import_module("keras").config.image_data_format()
        plain = plain and layout == "channels_last" and len(images.shape) == 4
        if interpolation not in RESIZES or not plain or images.dtype != "float32":
            return original(images, size, interpolation, antialias, **options)
        batch, _, _, channels = images.shape
        height, width = int(size[0]), int(size[1])

        def write(b: Builder, x: Tensor) -> Tensor:
            shape = (batch, height, width, channels)
            return b.sized(RESIZES[interpolation], [x, b.constant([height, width])], shape, align_corners=False,
                           half_pixel_centers=True)  # fmt: skip

        result = jax.ShapeDtypeStruct((batch, height, width, channels), images.dtype)
        return opaque(write, f"resize ({interpolation})", [result], images)[0]

    return replacement


# module of the backend, function: what stands around it
OPERATIONS: dict[tuple[str, str], Around] = {
    ("nn", "elu"): _activation("ELU", "", 1.0),
    ("nn", "leaky_relu"): _activation("LEAKY_RELU", "alpha", 0.2),
    ("image", "resize"): _resize,
}


@contextmanager
def builtins_stand_for_operations(unroll: bool = False) -> Iterator[None]:
    """While a model is traced, operations and recurrent layers are written as the builtins that they are.

    unroll  write the steps of recurrent layers one by one also where a builtin says the same.
    """
    backend, keras = importlib.import_module("keras.src.backend.jax"), importlib.import_module("keras")
    found = [(getattr(backend, module), name, around) for (module, name), around in OPERATIONS.items()]
    loop = partial(loop_of_layer, unroll=unroll)
    found += [(getattr(keras.layers, layer), "inner_loop", loop) for layer in KINDS]
    with ExitStack() as replaced:
        for owner, name, around in found:
            replaced.enter_context(mock.patch.object(owner, name, around(getattr(owner, name))))
        yield
