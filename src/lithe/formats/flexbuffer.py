"""FlexBuffers: the self-describing values in custom operators' options, read with every offset checked.

    map     dict    vector, typed vector  list    string, key  str
    blob    bytes   integer, float, bool  int, float, bool     null  None

Source of the layout: the FlexBuffers chapter of the FlatBuffers internals document.
"""

from __future__ import annotations

import struct
from typing import Any

from lithe.errors import InputError, ModelError

NULL, INT, UINT, FLOAT, KEY, STRING = 0, 1, 2, 3, 4, 5
INDIRECT_INT, INDIRECT_UINT, INDIRECT_FLOAT = 6, 7, 8
MAP, VECTOR, VECTOR_INT, VECTOR_KEY, VECTOR_STRING = 9, 10, 11, 14, 15
FIXED_FIRST, FIXED_LAST = 16, 24  # int, uint and float in tuples of 2, 3 and 4, without a length
BLOB, BOOL, VECTOR_BOOL = 25, 26, 36

DEPTH = 64
_CODES = {INT: "?bh?i???q", UINT: "?BH?I???Q", FLOAT: "??e?f???d"}  # struct letter by width


class _Reader:
    def __init__(self, data: memoryview, text: bool) -> None:
        self.data, self.size, self.text = data, len(data), text
        self.budget = 4 * self.size + 4096

    def bad(self, problem: str, position: int) -> ModelError:
        return ModelError(f"damaged flexbuffer: {problem}", where=f"byte {position} of {self.size}")

    def check(self, position: int, count: int) -> None:
        if position < 0 or count < 0 or position + count > self.size:
            raise self.bad(f"{count} bytes lie outside", position)
        self.budget -= count
        if self.budget < 0:
            raise self.bad("the same bytes are used again and again", position)

    def number(self, position: int, width: int, kind: int) -> Any:
        self.check(position, width)
        letter = _CODES[kind][width]
        if letter == "?":
            raise self.bad(f"a number of {width} bytes", position)
        return struct.unpack_from("<" + letter, self.data, position)[0]

    def target(self, position: int, width: int) -> int:
        return position - int(self.number(position, width, UINT))

    def key(self, position: int) -> str:
        self.check(position, 1)
        end = position
        while end < self.size and self.data[end]:
            end += 1
        self.check(position, end + 1 - position)
        return str(self.data[position:end], "utf-8", "replace")

    def sized(self, position: int, width: int) -> memoryview:
        count = self.number(position - width, width, UINT)
        self.check(position, count)
        return self.data[position : position + count]

    def items(self, position: int, width: int, depth: int) -> list[Any]:
        """The elements of an untyped vector, or the values of a map."""
        count = self.number(position - width, width, UINT)
        types = position + count * width
        self.check(position, count * width + count)
        return [self.value(position + i * width, width, self.data[types + i], depth) for i in range(count)]

    def typed(self, position: int, width: int, kind: int, count: int, depth: int) -> list[Any]:
        self.check(position, count * width)
        packed = kind << 2
        return [self.value(position + i * width, width, packed, depth) for i in range(count)]

    def value(self, position: int, width: int, packed: int, depth: int) -> Any:
        """The value at `position` in a parent whose elements have `width` bytes."""
        if depth > DEPTH:
            raise self.bad(f"values are nested deeper than {DEPTH}", position)
        kind, own = packed >> 2, 1 << (packed & 3)
        if kind == NULL:
            return None
        if kind in (INT, UINT, FLOAT):
            return self.number(position, width, kind)
        if kind == BOOL:
            return bool(self.number(position, width, UINT))
        at = self.target(position, width)
        if kind == KEY:
            return self.key(at)
        if kind == STRING:
            return str(self.sized(at, own), "utf-8", "replace") if self.text else bytes(self.sized(at, own))
        if kind == BLOB:
            return bytes(self.sized(at, own))
        if kind in (INDIRECT_INT, INDIRECT_UINT, INDIRECT_FLOAT):
            return self.number(at, own, kind - 5)
        if kind == MAP:
            keys_at = self.target(at - 3 * own, own)
            keys_width = self.number(at - 2 * own, own, UINT)
            count = self.number(keys_at - keys_width, keys_width, UINT) if keys_width in (1, 2, 4, 8) else -1
            values = self.items(at, own, depth + 1)
            if count != len(values):
                raise self.bad(f"a map has {count} keys and {len(values)} values", at)
            return dict(zip(self.typed(keys_at, keys_width, KEY, count, depth + 1), values, strict=True))
        if kind == VECTOR:
            return self.items(at, own, depth + 1)
        if VECTOR_INT <= kind <= VECTOR_STRING or kind == VECTOR_BOOL:
            element = BOOL if kind == VECTOR_BOOL else KEY if kind >= VECTOR_KEY else kind - VECTOR_INT + INT
            return self.typed(at, own, element, self.number(at - own, own, UINT), depth + 1)
        if FIXED_FIRST <= kind <= FIXED_LAST:
            count, element = divmod(kind - FIXED_FIRST, 3)
            return self.typed(at, own, element + INT, count + 2, depth + 1)
        raise self.bad(f"there is no type {kind}", position)


def read(data: bytes | memoryview, *, text: bool = True) -> Any:
    """The value of a flexbuffer; raises ModelError when it breaks the format.

    text  strings are text; else they are bytes, since some writers keep bytes in them.

    >>> read(write({"stride": 2, "scales": [0.5, 2.0], "on": True}))
    {'on': True, 'scales': [0.5, 2.0], 'stride': 2}
    """
    r = _Reader(memoryview(data).cast("B"), text)
    if r.size < 3:
        raise r.bad("fewer than 3 bytes", 0)
    width, packed = r.data[r.size - 1], r.data[r.size - 2]
    if width not in (1, 2, 4, 8):
        raise r.bad(f"the root has {width} bytes", r.size - 1)
    return r.value(r.size - 2 - width, width, packed, 1)


class _Writer:
    """Writes with one width for everything; OverflowError or struct.error when something does not fit."""

    def __init__(self, width: int) -> None:
        self.width, self.log = width, (1, 2, 4, 8).index(width)
        self.out = bytearray()

    def number(self, value: Any, kind: int) -> bytes:
        letter = _CODES[kind][self.width]
        if kind == FLOAT and self.width < 4:
            raise OverflowError  # half precision is in the format, but not in every reader
        packed = struct.pack("<" + letter, value)
        if kind == FLOAT and value == value and struct.unpack("<" + letter, packed)[0] != value:
            raise OverflowError
        return packed

    def align(self) -> None:
        self.out += bytes(-len(self.out) % self.width)

    def slots(self, items: list[tuple[int, Any]]) -> None:
        """Inline values and offsets (references carry their absolute target)."""
        for kind, value in items:
            inline = kind in (NULL, INT, UINT, FLOAT, BOOL)
            number_kind = kind if kind in (INT, FLOAT) else UINT
            self.out += self.number(value if inline else len(self.out) - value, number_kind)

    def types(self, items: list[tuple[int, Any]]) -> None:
        self.out += bytes((kind << 2) | self.log for kind, _ in items)

    def key(self, text: str) -> tuple[int, int]:
        at = len(self.out)
        self.out += text.encode() + b"\0"
        return KEY, at

    def value(self, value: Any) -> tuple[int, Any]:
        match value:
            case None:
                return NULL, 0
            case bool():
                return BOOL, int(value)
            case int():
                return (INT if value < 1 << 63 else UINT), value
            case float():
                return FLOAT, value
            case str() | bytes():
                raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
                self.align()
                self.out += self.number(len(raw), UINT)
                at = len(self.out)
                self.out += raw + (b"\0" if isinstance(value, str) else b"")
                return (STRING if isinstance(value, str) else BLOB), at
            case dict():
                names = sorted(value, key=lambda k: k.encode())
                keys = [self.key(k) for k in names]
                items = [self.value(value[k]) for k in names]
                self.align()
                self.out += self.number(len(keys), UINT)
                keys_at = len(self.out)
                self.slots(keys)
                self.out += self.number(len(self.out) - keys_at, UINT) + self.number(self.width, UINT)
                return MAP, self.vector(items)
            case list() | tuple():
                items = [self.value(v) for v in value]
                self.align()
                return VECTOR, self.vector(items)
            case _:
                raise InputError(
                    f"a flexbuffer cannot hold {type(value).__name__}", hint="use int, float, str, bytes, list or dict"
                )

    def vector(self, items: list[tuple[int, Any]]) -> int:
        self.out += self.number(len(items), UINT)
        at = len(self.out)
        self.slots(items)
        self.types(items)
        return at


def write(value: Any, least_width: int = 1) -> bytes:
    """A flexbuffer of dicts, lists, strings, bytes, numbers and None, in the least width (of 1, 2, 4, 8) that fits."""
    for width in (w for w in (1, 2, 4, 8) if w >= least_width):
        w = _Writer(width)
        try:
            root = w.value(value)
            w.align()
            w.slots([root])
        except (struct.error, OverflowError, KeyError):
            continue
        return bytes(w.out) + bytes([(root[0] << 2) | w.log, width])
    raise InputError("a number does not fit a flexbuffer (64 bits)")
