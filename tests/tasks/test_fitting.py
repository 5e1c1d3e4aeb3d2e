"""Decoded files to tensors."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from lithe.errors import InputError, MissingDependency
from lithe.tasks.fitting import Wanted, dequantize, fit, quantize
from lithe.tasks.media import Arrays, Picture, Sound, Text
from lithe.types import FLOAT32, INT8, INT16, INT32, STRING, UINT8, DType, Quantization, TensorType


def wanted(dtype: DType, shape: tuple[int, ...], q: Quantization | None = None, **more: Any) -> Wanted:
    signature = more.pop("signature", shape)
    return Wanted("x", TensorType(dtype, shape, q), signature, **more)


def one(scale: float, zero_point: int) -> Quantization:
    return Quantization((scale,), (zero_point,))


@pytest.fixture
def picture() -> Picture:
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 0] = (255, 0, 51)
    return Picture(image.fromarray(pixels))


def test_pixels_pass_unchanged_into_uint8(picture: Picture) -> None:
    got = fit(picture, wanted(UINT8, (1, 2, 2, 3), one(1 / 128, 128)))
    assert got.dtype == np.uint8
    assert got[0, 0, 0].tolist() == [255, 0, 51]


def test_pixels_into_int8(picture: Picture) -> None:
    said: list[str] = []
    got = fit(picture, wanted(INT8, (1, 2, 2, 3), one(0.5, 3)), said.append)
    assert got[0, 0, 0].tolist() == [127, -128, -77]
    assert "pixel - 128" in said[0]
    normalized = wanted(INT8, (1, 2, 2, 3), one(1 / 127, 0), mean=(127.5,), std=(127.5,))
    assert fit(picture, normalized)[0, 0, 0].tolist() == [127, -127, -76]


def test_pixels_into_floats(picture: Picture) -> None:
    said: list[str] = []
    got = fit(picture, wanted(FLOAT32, (1, 2, 2, 3)), said.append)
    assert got.dtype == np.float32
    assert got[0, 0, 0].tolist() == pytest.approx([1, -1, -0.6])
    assert "--mean" in said[0]
    channels = wanted(FLOAT32, (1, 2, 2, 3), mean=(0, 1, 2), std=(1, 1, 7))
    assert fit(picture, channels)[0, 0, 0].tolist() == pytest.approx([255, -1, 7])
    assert fit(picture, wanted(INT32, (1, 2, 2, 3), mean=(0,), std=(1,)))[0, 0, 0].tolist() == [255, 0, 51]


def test_layouts_of_pictures(picture: Picture) -> None:
    assert fit(picture, wanted(UINT8, (1, 3, 5, 7))).shape == (1, 3, 5, 7)  # channels first
    assert fit(picture, wanted(UINT8, (5, 7, 3))).shape == (5, 7, 3)
    assert fit(picture, wanted(UINT8, (5, 7))).shape == (5, 7)
    free = wanted(UINT8, (1, 1, 1, 3), signature=(-1, -1, -1, 3))
    assert fit(picture, free).shape == (1, 2, 2, 3)


@pytest.mark.parametrize(
    ("target", "match"),
    [
        (wanted(UINT8, (1, 10)), None),
        (wanted(UINT8, (1, 5, 5, 7)), "no axis"),
        (wanted(UINT8, (4,)), "does not fit"),
        (wanted(FLOAT32, (1, 2, 2, 3), mean=(0, 0), std=(1,)), "channels"),
        (wanted(FLOAT32, (1, 2, 2, 3), mean=(0,), std=(0,)), "deviation of 0"),
    ],
)
def test_pictures_that_do_not_fit(picture: Picture, target: Wanted, match: str | None) -> None:
    if match is None:
        assert fit(picture, target).shape == target.type.shape
        return
    with pytest.raises(InputError, match=match):
        fit(picture, target)


def test_quantize_needs_one_scale() -> None:
    assert quantize(np.array([0.26, 99.0]), TensorType(INT8, (2,), one(0.5, 1))).tolist() == [2, 127]
    with pytest.raises(InputError, match="no scale"):
        quantize(np.zeros(1), TensorType(INT8, (1,)))
    stored = np.array([3, 1], np.int8)
    assert dequantize(stored, TensorType(INT8, (2,), one(0.5, 1))).tolist() == [1, 0]
    assert dequantize(stored, TensorType(INT8, (2,))) is stored


def test_sounds_are_cut_padded_and_scaled() -> None:
    sound = Sound(np.array([[0.5, 0.0], [-1.0, -1.0]], np.float32), 16000)
    said: list[str] = []
    assert fit(sound, wanted(FLOAT32, (1, 3)), said.append).tolist() == [[0.25, -1, 0]]
    assert "padded to 3" in said[1]
    assert fit(sound, wanted(FLOAT32, (1,)), said.append).tolist() == [0.25]
    assert "cut to 1" in said[3]
    assert fit(sound, wanted(INT16, (2,), rate=16000)).tolist() == [8192, -32768]
    assert fit(sound, wanted(INT8, (2,), one(1 / 128, 0))).tolist() == [32, -128]
    assert fit(sound, wanted(FLOAT32, (1, 1), signature=(1, -1))).tolist() == [[0.25, -1]]


def test_resampling_needs_soxr(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "soxr":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match=r"lithe\[audio\]"):
        fit(Sound(np.zeros((4, 1), np.float32), 8000), wanted(FLOAT32, (4,), rate=16000))


def test_text() -> None:
    assert fit(Text("hi"), wanted(STRING, (1,))).tolist() == [b"hi"]
    with pytest.raises(InputError, match="text does not fit"):
        fit(Text("hi"), wanted(FLOAT32, (1,)))


def test_arrays_take_the_type_and_shape_of_the_input() -> None:
    def put(array: Any, target: Wanted) -> np.ndarray:
        return fit(Arrays({"": np.asarray(array)}), target)

    assert put([1.5, 2.5], wanted(FLOAT32, (1, 2))).tolist() == [[1.5, 2.5]]
    assert put([0.5], wanted(INT8, (1,), one(0.5, 0))).tolist() == [1]
    assert put(np.array([7], np.int64), wanted(INT32, (1,))).dtype == np.int32
    assert put(np.ones((5, 4)), wanted(FLOAT32, (1, 4))).shape == (5, 4)
    assert put(np.ones((3, 3)), wanted(FLOAT32, (1, 4))).shape == (3, 3)
    assert put(np.array(["a"]), wanted(STRING, (1,))).tolist() == ["a"]
    with pytest.raises(InputError, match="cannot hold"):
        put(np.array([1000], np.int64), wanted(INT8, (1,)))
    with pytest.raises(InputError, match="got text"):
        put(np.array(["a"]), wanted(FLOAT32, (1,)))
    with pytest.raises(InputError, match="takes text"):
        put([1.0], wanted(STRING, (1,)))


def test_arrays_are_chosen_by_name() -> None:
    two = Arrays({"x": np.ones(1, np.float32), "y": np.zeros(1, np.float32)})
    assert fit(two, wanted(FLOAT32, (1,))).tolist() == [1]
    with pytest.raises(InputError, match="no array named 'x'; there are y, z"):
        fit(Arrays({"y": np.ones(1), "z": np.ones(1)}), wanted(FLOAT32, (1,)))
