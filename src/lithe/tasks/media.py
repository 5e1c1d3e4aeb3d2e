"""Files to arrays: pictures, sounds, NumPy files, tables and text, told apart by what they hold.

decode(bytes, name) -> Picture | Sound | Arrays | Text
"""

from __future__ import annotations

import csv
import io
import re
import wave
import zipfile
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from lithe.errors import InputError, MissingDependency

NUMPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK\x03\x04"
PICTURE_MAGICS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"GIF8")
MOST_PIXELS = 1 << 28  # refuse pictures that would not fit in memory when decoded
SAMPLE_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.uint8),
    2: np.dtype("<i2"),
    4: np.dtype("<i4"),
}  # by bytes, RIFF WAVE


@dataclass(frozen=True)
class Picture:
    """A decoded picture; `image` is a PIL image, so that it can be resized as its tensor wants it."""

    image: Any

    def pixels(self, width: int, height: int, channels: int) -> np.ndarray:
        """uint8 [height, width, channels], resized with PIL's bilinear filter; 1, 3 or 4 channels."""
        from PIL import Image

        mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels)
        if mode is None:
            raise InputError(f"a picture has 1, 3 or 4 channels, the input has {channels}")
        image = self.image.convert(mode)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(image, np.uint8).reshape(height, width, channels)


@dataclass(frozen=True)
class Sound:
    """float32 samples [frames, channels] in -1..1, and how many frames make a second."""

    samples: np.ndarray
    rate: int


@dataclass(frozen=True)
class Arrays:
    """Arrays by name; a file with a single array names it ""."""

    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class Text:
    """A text, without the newline at its end."""

    text: str


Media = Picture | Sound | Arrays | Text


def decode(data: bytes, name: str = "") -> Media:
    """What a file holds. `name` helps with .csv and .txt, and names the file in errors."""
    suffix = PurePath(name).suffix.lower()
    if data.startswith(NUMPY_MAGIC):
        return Arrays({"": _numpy_file(io.BytesIO(data), name)})
    if data.startswith(ZIP_MAGIC) or suffix == ".npz":
        return _numpy_archive(data, name)
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        return _wave(data, name)
    if data.startswith(PICTURE_MAGICS) or (data.startswith(b"RIFF") and data[8:12] == b"WEBP"):
        return _picture(data, name)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"'{name}' is not a picture, a WAV, a NumPy file or UTF-8 text",
            hint="png, jpg, bmp, wav, npy, npz, csv and text files can be read",
        ) from error
    if suffix in (".csv", ".tsv"):
        return Arrays({"": table(text, "\t" if suffix == ".tsv" else ",", name)})
    if suffix != ".txt" and re.fullmatch(r"[\s\d.,;+\-eE]*\d[\s\d.,;+\-eE]*", text):
        return Arrays({"": table(re.sub(r"[ \t;]+", ",", text.strip()), ",", name)})
    return Text(text.rstrip("\r\n"))


def table(text: str, delimiter: str, name: str = "") -> np.ndarray:
    """float64 [rows, columns] of a table of numbers; a first row of words is a heading, and skipped."""
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
    values: list[list[float]] = []
    for number, row in enumerate(rows):
        try:
            values.append([float(cell) for cell in row if cell.strip()])
        except ValueError as error:
            if number == 0:
                continue
            raise InputError(
                f"row {number + 1} of '{name}' is not all numbers: {delimiter.join(row)[:80]}",
                hint="keep the columns that the model takes, for example with cut",
            ) from error
    if not values or any(len(row) != len(values[0]) for row in values):
        raise InputError(f"the rows of '{name}' do not have one common length")
    return np.asarray(values, np.float64)


def _numpy_file(file: io.BytesIO, name: str) -> np.ndarray:
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"'{name}' is a damaged NumPy file, or one that holds Python objects: {error}") from error


def _numpy_archive(data: bytes, name: str) -> Arrays:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return Arrays({key: archive[key] for key in archive.files})
    except (ValueError, EOFError, OSError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"'{name}' is not a .npz file that can be read: {error}") from error


def _wave(data: bytes, name: str) -> Sound:
    try:
        with wave.open(io.BytesIO(data)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise InputError(f"'{name}' is not a WAV file that can be read: {error}") from error
    if width not in SAMPLE_TYPES:
        raise InputError(f"'{name}' has samples of {8 * width} bits; 8, 16 and 32 can be read")
    usable = len(frames) - len(frames) % (width * channels)
    stored = np.frombuffer(frames[:usable], SAMPLE_TYPES[width]).astype(np.float64)
    if width == 1:
        stored -= 128
    samples = stored / float(1 << (8 * width - 1))
    return Sound(samples.reshape(-1, channels).astype(np.float32), rate)


def _picture(data: bytes, name: str) -> Picture:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingDependency(
            "pictures need Pillow, which is not installed", hint='pip install "lithe[image]"'
        ) from error
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MOST_PIXELS:
            raise InputError(f"'{name}' has {image.width}x{image.height} pixels, more than {MOST_PIXELS}")
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"'{name}' is a damaged picture: {error}") from error
    return Picture(image)
