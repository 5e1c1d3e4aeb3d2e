"""How types, numbers and names are written in C."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np

from lithe.ir.loops import INDEX, Const
from lithe.types import BFLOAT16, BOOL, DTYPES, FLOAT16, FLOAT32, FLOAT64, DType

LINE = 110

# What must not name a local: C99's words, and the functions that generated code calls by name.
_WORDS = """
    auto break case char const continue default do double else enum extern float for goto if inline int long
    register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
    asm typeof arena status memcpy sqrtf fabsf floorf ceilf truncf rintf fmodf sqrt fabs floor ceil trunc rint
    fmod fmaf lrintf main errno stdin stdout stderr unix linux i386
"""
RESERVED = frozenset(_WORDS.split())


def storage_type(dtype: DType) -> str:
    """The C type of an element in memory."""
    if dtype is INDEX:
        return "lithe_index"
    if dtype == FLOAT32:
        return "float"
    if dtype == FLOAT64:
        return "double"
    if dtype in (FLOAT16, BFLOAT16):
        return "uint16_t"
    if dtype == BOOL:
        return "uint8_t"
    if dtype.is_integer:
        return f"{'u' if dtype.kind == 'uint' else ''}int{dtype.bits}_t"
    if is_word(dtype):
        return f"uint{dtype.bits}_t"
    raise TypeError(f"C printer has no rule for elements of type {dtype}")


def is_word(dtype: DType) -> bool:
    """Whether C has no such numbers and moves them as words."""
    return dtype.name.startswith("float8") or dtype.name == "complex64"


def value_type(dtype: DType) -> str:
    """The C type of a computed value: as in memory, and int (0 or 1) for bool."""
    return "int" if dtype == BOOL else storage_type(dtype)


def suffix(dtype: DType) -> str:
    """The type in names of functions: i32, f32, index."""
    if dtype is INDEX:
        return "index"
    if dtype == BFLOAT16:
        return "bf16"
    if dtype == BOOL:
        return "u8"
    kinds = {"int": "i", "uint": "u", "float": "f"}
    bits = dtype.stored_bits if dtype.is_integer else dtype.bits
    return f"{kinds[dtype.kind]}{bits}"


def is_narrow(dtype: DType) -> bool:
    """Whether C computes with an int in place of the type."""
    return dtype.is_integer and dtype.bits < 32


def literal(x: Const) -> str:
    """A constant with exactly its value."""
    return number(x.value, x.dtype)


def number(value: float | int | bool, dtype: DType) -> str:
    if dtype == BOOL:
        return "1" if value else "0"
    if dtype in (FLOAT32, FLOAT64):
        return real(float(value), dtype)
    if dtype in (FLOAT16, BFLOAT16):
        return f"0x{int(np.array(value, dtype.numpy).view(np.uint16)):04x}u"
    if is_word(dtype):
        return f"UINT64_C({int(np.array(value, dtype.numpy).view(f'u{dtype.bytes}'))})"
    if not dtype.is_integer:
        raise TypeError(f"C printer has no rule for constants of type {dtype}")
    value = int(np.array(int(value) & ((1 << dtype.bits) - 1), f"u{dtype.bytes}").astype(dtype.numpy))
    if dtype is INDEX:
        return str(value) if abs(value) < 1 << 31 else f"(lithe_index)INT64_C({value})"
    if dtype.kind == "uint":
        return f"UINT64_C({value})" if dtype.bits == 64 else f"{value}u" if dtype.bits == 32 else str(value)
    if dtype.bits >= 32 and value == dtype.minimum:
        return f"INT{dtype.bits}_MIN"
    return f"INT64_C({value})" if dtype.bits == 64 else str(value)


def real(value: float, dtype: DType) -> str:
    """A float literal that reads back as the same bits: decimal where that is short and exact, else hexadecimal."""
    single = dtype == FLOAT32
    value = float(np.float32(value)) if single else value
    end = "f" if single else ""
    if math.isnan(value):
        return "NAN" if single else "(double)NAN"
    if math.isinf(value):
        sign = "-" if value < 0 else ""
        return f"{sign}INFINITY" if single else f"{sign}(double)INFINITY"
    if 1e-3 <= abs(value) < 1e6 or value == 0:
        short = repr(value)
        if len(short) <= 10 and (value * 1024).is_integer():
            return short + end
    mantissa, exponent = value.hex().split("p")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}p{exponent}{end}"


def elements(data: np.ndarray, dtype: DType) -> Iterator[str]:
    """The lines of an array's initializer."""
    flat = np.ascontiguousarray(data).reshape(-1)
    if is_word(dtype):
        dtype = DTYPES[f"uint{dtype.bits}"]
        flat = flat.view(dtype.numpy)
    plain = dtype.is_integer and dtype.bits < 32
    words = (str(v) if plain else number(v, dtype) for v in flat.tolist())
    line = "   "
    for word in words:
        if len(line) + len(word) + 2 > LINE:
            yield line
            line = "   "
        line += f" {word},"
    yield line if line.strip() else "    0,"


def comment(text: str) -> str:
    """Text that cannot end a comment, open one, or break a line."""
    printable = "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
    apart = printable.replace("*/", "* /").replace("/*", "/ *")
    return re.sub(r"\?(?=\?)", "? ", apart).rstrip("\\")


def quoted(text: str) -> str:
    """A C string literal (UTF-8)."""
    parts = []
    for byte in text.encode():
        c = chr(byte)
        if c in '"\\?':
            parts.append("\\" + c)
        else:
            parts.append(c if 32 <= byte < 127 else f"\\{byte:03o}")
    return '"' + "".join(parts) + '"'


class Names:
    """C identifiers for things, each its own: from the thing's name, made legal and unique."""

    def __init__(self, prefix: str = "", taken: frozenset[str] = frozenset()) -> None:
        self.prefix, self.taken = prefix, set(taken)
        self.given: dict[object, str] = {}

    def of(self, thing: object, name: str) -> str:
        """The identifier of a thing, derived from `name` the first time."""
        if thing not in self.given:
            self.given[thing] = self.fresh(name)
        return self.given[thing]

    def fresh(self, name: str) -> str:
        base = self.prefix + identifier(name, alone=not self.prefix)
        unique, count = base, 1
        while unique in self.taken:
            count += 1
            unique = f"{base}_{count}"
        self.taken.add(unique)
        return unique


def identifier(name: str, alone: bool = True) -> str:
    """A legal C identifier like the name.

    >>> identifier("model/conv2d:0"), identifier("float"), identifier("7")
    ('model_conv2d_0', 'float_', 'n7')
    """
    word = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_")[-48:].strip("_") or "unnamed"
    if not alone:
        return word
    if word[0].isdigit():
        word = "n" + word
    if word in RESERVED or word.startswith("lithe") or word == word.upper():
        word += "_"
    return word
