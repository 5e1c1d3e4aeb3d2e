"""Files to arrays, and errors that say what is wrong with a file."""

from __future__ import annotations

import builtins
import io
import wave
import zipfile
from typing import Any

import numpy as np
import pytest

from lithe.errors import InputError, MissingDependency
from lithe.tasks import media
from lithe.tasks.media import Arrays, Picture, Sound, Text, decode, table


def npy(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def wav(frames: bytes, width: int, channels: int = 1, rate: int = 16000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(frames)
    return file.getvalue()


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def test_numpy_files() -> None:
    got = decode(npy(np.arange(6).reshape(2, 3)))
    assert isinstance(got, Arrays)
    assert got.arrays[""].tolist() == [[0, 1, 2], [3, 4, 5]]
    file = io.BytesIO()
    np.savez(file, a=np.ones(2), b=np.zeros(1))
    got = decode(file.getvalue())
    assert isinstance(got, Arrays)
    assert sorted(got.arrays) == ["a", "b"]


def test_numpy_files_with_objects_or_damage_are_refused() -> None:
    with pytest.raises(InputError, match="Python objects"):
        decode(npy(np.array([{}], object), allow_pickle=True), "evil.npy")
    with pytest.raises(InputError, match="damaged"):
        decode(npy(np.arange(100))[:-8], "cut.npy")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY nonsense")
    with pytest.raises(InputError, match=r"not a \.npz"):
        decode(file.getvalue(), "odd.npz")
    with pytest.raises(InputError, match=r"not a \.npz"):
        decode(b"nothing", "odd.npz")


@pytest.mark.parametrize(
    ("frames", "width", "expected"),
    [
        (bytes([0, 128, 255]), 1, [-1, 0, 127 / 128]),
        (np.array([-32768, 0, 16384], "<i2").tobytes(), 2, [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30], "<i4").tobytes(), 4, [-1, 0, 0.5]),
    ],
)
def test_sounds(frames: bytes, width: int, expected: list[float]) -> None:
    got = decode(wav(frames, width))
    assert isinstance(got, Sound)
    assert got.rate == 16000
    assert got.samples[:, 0].tolist() == expected


def test_stereo_and_damaged_sounds() -> None:
    got = decode(wav(np.array([[1, 2], [3, 4]], "<i2").tobytes(), 2, channels=2))
    assert isinstance(got, Sound)
    assert got.samples.shape == (2, 2)
    with pytest.raises(InputError, match="24 bits"):
        decode(wav(bytes(6), 3))
    with pytest.raises(InputError, match="WAV"):
        decode(b"RIFF\x04\x00\x00\x00WAVE", "empty.wav")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG"])
def test_pictures(kind: str) -> None:
    pixels = np.full((4, 6, 3), (200, 100, 50), np.uint8)
    got = decode(png(pixels, kind))
    assert isinstance(got, Picture)
    assert got.pixels(6, 4, 3).astype(int) == pytest.approx(pixels.astype(int), abs=3)
    assert got.pixels(3, 2, 1).shape == (2, 3, 1)
    assert got.pixels(3, 2, 4).shape == (2, 3, 4)
    with pytest.raises(InputError, match="2"):
        got.pixels(3, 2, 2)


def test_damaged_and_huge_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    data = png(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    with pytest.raises(InputError, match="damaged"):
        decode(data[: len(data) // 2], "cut.png")
    monkeypatch.setattr(media, "MOST_PIXELS", 100)
    with pytest.raises(InputError, match="64x64"):
        decode(data, "huge.png")


def test_pictures_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("PIL"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match=r'pip install "lithe\[image\]"'):
        decode(b"BM" + bytes(60))


def test_tables() -> None:
    assert table("1,2\n3,4\n", ",").tolist() == [[1, 2], [3, 4]]
    assert table("length,width\n1,2\n", ",").tolist() == [[1, 2]]
    got = decode(b"1\t2.5\n", "numbers.tsv")
    assert isinstance(got, Arrays)
    assert got.arrays[""].tolist() == [[1, 2.5]]
    got = decode(b"0.5 1e3\n-2 4\n", "-")
    assert isinstance(got, Arrays)
    assert got.arrays[""].tolist() == [[0.5, 1000], [-2, 4]]


@pytest.mark.parametrize(
    ("text", "match"),
    [("1,2\n3\n", "common length"), ("1,2\nx,4\n", "row 2"), ("", "common length"), ("a,b\n", "common length")],
)
def test_bad_tables(text: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        table(text, ",", "t.csv")


def test_text_and_bytes_of_no_kind() -> None:
    assert decode(b"What a movie!\n") == Text("What a movie!")
    assert decode(b"42", "answer.txt") == Text("42")
    with pytest.raises(InputError, match="not a picture"):
        decode(b"\xfe\x00\x01", "blob")
