"""Decoded files to tensors: resized, normalized and quantized as an input of a model wants them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lithe.errors import InputError, MissingDependency
from lithe.tasks.media import Arrays, Media, Picture, Sound, Text
from lithe.types import Shape, TensorType

Notice = Callable[[str], None]
MINUS_ONE_TO_ONE = (127.5,), (127.5,)


@dataclass(frozen=True)
class Wanted:
    """What an input takes.

    signature  the declared shape, -1 where any size will do.
    mean, std  pixel = (stored - mean) / std, one number or one a channel; None where nothing says it.
    rate       samples a second of a sound, None where nothing says it.
    """

    name: str
    type: TensorType
    signature: Shape
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    rate: int | None = None

    def __str__(self) -> str:
        return f"'{self.name}' {self.type}"


def fit(media: Media, wanted: Wanted, notice: Notice = lambda text: None) -> np.ndarray:
    """The tensor for an input. What had to be assumed is told to `notice`."""
    match media:
        case Picture():
            return _fit_picture(media, wanted, notice)
        case Sound():
            return _fit_sound(media, wanted, notice)
        case Text():
            return _fit_text(media, wanted)
        case Arrays():
            return _fit_array(_chosen(media, wanted), wanted)


def quantize(real: np.ndarray, type: TensorType) -> np.ndarray:
    """Stored values of real ones, for a tensor with one scale and one zero point."""
    q = type.quantization
    if q is None or len(q.scale) != 1:
        raise InputError(f"real values cannot be stored in {type}: it has no scale", hint="give integers")
    stored = np.rint(real / np.float64(q.scale[0])) + q.zero_point[0]
    return np.clip(stored, type.dtype.minimum, type.dtype.maximum).astype(type.dtype.numpy)


def dequantize(stored: np.ndarray, type: TensorType) -> np.ndarray:
    """Real values of a tensor; as they are when it has no single scale."""
    q = type.quantization
    if q is None or len(q.scale) != 1 or not type.dtype.is_integer:
        return stored
    return (stored.astype(np.float64) - q.zero_point[0]) * q.scale[0]


def _picture_layout(wanted: Wanted) -> tuple[bool, int, int, int]:
    """(channels first, height, width, channels); a size of -1 is free."""
    shape = tuple(-1 if s == -1 else n for n, s in zip(wanted.type.shape, wanted.signature, strict=True))
    if len(shape) == 4 and shape[0] in (1, -1):
        shape = shape[1:]
    elif len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3:
        raise InputError(f"a picture does not fit input {wanted}", hint="give a .npy file of that shape")
    if shape[2] in (1, 3, 4):
        return False, *shape
    if shape[0] in (1, 3, 4):
        return True, shape[1], shape[2], shape[0]
    raise InputError(
        f"a picture does not fit input {wanted}: no axis has 1, 3 or 4 channels", hint="give a .npy file of that shape"
    )


def _fit_picture(picture: Picture, wanted: Wanted, notice: Notice) -> np.ndarray:
    first, height, width, channels = _picture_layout(wanted)
    width = picture.image.width if width == -1 else width
    height = picture.image.height if height == -1 else height
    pixels = picture.pixels(width, height, channels)
    values = _normalized(pixels, wanted, notice)
    if first:
        values = values.transpose(2, 0, 1)
    if wanted.type.rank == 2:
        return values.reshape(values.shape[:2])
    return values[None] if wanted.type.rank == 4 else values


def _normalized(pixels: np.ndarray, wanted: Wanted, notice: Notice) -> np.ndarray:
    """Pixels 0..255 as the tensor stores them."""
    dtype = wanted.type.dtype
    if dtype.name == "uint8":
        return pixels  # by convention of the format an 8-bit picture is stored as it is
    mean, std = wanted.mean, wanted.std
    if mean is None or std is None:
        if dtype.name == "int8":
            notice(f"input {wanted}: stored value = pixel - 128, as its 8 bits cover the range of a pixel")
            return (pixels.astype(np.int16) - 128).astype(np.int8)
        mean, std = MINUS_ONE_TO_ONE
        notice(
            f"input {wanted}: the model does not say how pixels are normalized; "
            "0..255 became -1..1 (choose with --mean and --std)"
        )
    if 0 in std:
        raise InputError("a pixel cannot be divided by a standard deviation of 0", hint="give --std another number")
    if any(len(part) not in (1, pixels.shape[2]) for part in (mean, std)):
        raise InputError(f"{max(len(mean), len(std))} means or deviations for {pixels.shape[2]} channels")
    real = (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    if dtype.is_float:
        return real.astype(dtype.numpy)
    if wanted.type.quantization is None:
        return real.astype(dtype.numpy)
    return quantize(real, wanted.type)


def _fit_sound(sound: Sound, wanted: Wanted, notice: Notice) -> np.ndarray:
    samples = sound.samples.mean(axis=1)
    if wanted.rate and wanted.rate != sound.rate:
        samples = _resampled(samples, sound.rate, wanted.rate)
    elif not wanted.rate:
        notice(f"input {wanted}: the model does not say its sample rate; the sound has {sound.rate} a second")
    if -1 in wanted.signature:
        shape: Shape = (*(1 for _ in wanted.type.shape[:-1]), len(samples))
    else:
        shape = wanted.type.shape
        length = wanted.type.size
        if len(samples) != length:
            done = "cut" if len(samples) > length else "padded"
            notice(f"input {wanted}: {len(samples)} samples were {done} to {length}")
        samples = np.pad(samples[:length], (0, max(0, length - len(samples))))
    dtype = wanted.type.dtype
    if dtype.is_float:
        return samples.reshape(shape).astype(dtype.numpy)
    if wanted.type.quantization is None:  # integer samples, full scale
        return (
            np.clip(np.rint(samples * (dtype.maximum + 1)), dtype.minimum, dtype.maximum)
            .reshape(shape)
            .astype(dtype.numpy)
        )
    return quantize(samples, wanted.type).reshape(shape)


def _resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    try:
        import soxr
    except ImportError as error:
        raise MissingDependency(
            f"the sound has {rate} samples a second and the model takes {wanted}; resampling needs soxr",
            hint='pip install "lithe[audio]"',
        ) from error
    resampled: np.ndarray = soxr.resample(samples, rate, wanted)
    return resampled


def _fit_text(text: Text, wanted: Wanted) -> np.ndarray:
    if wanted.type.dtype.kind != "string":
        raise InputError(f"a text does not fit input {wanted}", hint="give numbers: a .csv or .npy file")
    shape = wanted.type.shape if wanted.type.size == 1 else (1,)
    return np.full(shape, text.text.encode(), object)


def _chosen(media: Arrays, wanted: Wanted) -> np.ndarray:
    if wanted.name in media.arrays:
        return media.arrays[wanted.name]
    if len(media.arrays) == 1:
        return next(iter(media.arrays.values()))
    raise InputError(f"no array named '{wanted.name}'; there are {', '.join(sorted(media.arrays))}")


def _fit_array(array: np.ndarray, wanted: Wanted) -> np.ndarray:
    """The array in the tensor's element type; a missing or split-up batch axis is put right."""
    type = wanted.type
    if array.dtype.kind in "OSU":
        if type.dtype.kind != "string":
            raise InputError(f"got text, input {wanted} takes {type.dtype}")
        return array
    if type.dtype.kind == "string":
        raise InputError(f"got {array.dtype}{list(array.shape)}, input {wanted} takes text")
    if array.dtype == type.dtype.numpy:
        values = array
    elif type.quantization is not None and type.dtype.is_integer and array.dtype.kind == "f":
        values = quantize(array, type)
    elif type.dtype.is_float and array.dtype.kind in "fiub":
        values = array.astype(type.dtype.numpy)
    else:
        values = array.astype(type.dtype.numpy)
        if not np.array_equal(values, array):
            raise InputError(f"got {array.dtype}{list(array.shape)}, input {wanted} cannot hold its values")
    if values.size == type.size:
        return values.reshape(type.shape)
    rows = type.size // type.shape[0] if type.rank and type.shape[0] else 0
    if rows and values.ndim and values.size == values.shape[0] * rows:  # many rows for a model of one
        return values.reshape(-1, *type.shape[1:])
    return values  # the model says whether it can take this shape
