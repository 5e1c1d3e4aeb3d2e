"""The small inline functions that generated C calls: what the loop language means where plain C is undefined.

A function's name says operation and type, `lithe_add_i32`. A file holds those that it uses.
"""

from __future__ import annotations

from collections.abc import Callable

from lithe.codegen.c.spelling import number, real, storage_type, suffix, value_type
from lithe.ir.loops import INDEX
from lithe.types import BFLOAT16, FLOAT16, FLOAT32, INT32, DType


class Support:
    """Collects the functions that a file needs: {name: text}."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def operation(self, op: str, dtype: DType) -> str:
        """The name of the function for an operation (add, min, div, ...) on one type."""
        if op not in BODIES or dtype in (FLOAT16, BFLOAT16):
            raise TypeError(f"C printer has no rule for {op} of {dtype}")
        name = f"lithe_{op}_{suffix(dtype)}"
        arguments, body = BODIES[op]
        t, u = value_type(dtype), unsigned(dtype)
        parameters = ", ".join(f"{t} {a}" for a in arguments)
        return self.add(name, f"static inline {t} {name}({parameters}) {{ return {body(t, u, dtype)}; }}")

    def from_float(self, source: DType, target: DType) -> str:
        """float32 or float64 -> integer: truncates, saturates, and NaN gives 0."""
        name, t = f"lithe_{suffix(target)}_from_{suffix(source)}", storage_type(target)
        low, high = real(float(target.minimum), source), real(float(target.maximum), source)
        return self.add(name, (
            f"static inline {t} {name}({storage_type(source)} x)\n{{\n"
            f"    if (x <= {low}) {{ return {number(target.minimum, target)}; }}\n"
            f"    if (x >= {high}) {{ return {number(target.maximum, target)}; }}\n"
            f"    return x == x ? ({t})x : ({t})0;\n}}"
        ))  # fmt: skip

    def half(self, source: DType, target: DType) -> str:
        """Between float32 and a 16-bit float."""
        name = f"lithe_{suffix(target)}_from_{suffix(source)}"
        self.bits(FLOAT32, INT32)
        self.bits(INT32, FLOAT32)
        return self.add(name, HALVES[name])

    def bits(self, source: DType, target: DType) -> str:
        """The same bits as another type."""
        name, s, t = f"lithe_{suffix(target)}_bits_of_{suffix(source)}", storage_type(source), storage_type(target)
        return self.add(name, f"static inline {t} {name}({s} x) {{ {t} y; memcpy(&y, &x, sizeof y); return y; }}")

    def round_to_int(self) -> str:
        return self.add(
            "lithe_round_i32", "static inline int32_t lithe_round_i32(float x) { return (int32_t)lrintf(x); }"
        )

    def load(self, dtype: DType) -> str:
        """Element i of bytes that were declared as another type."""
        name, t = f"lithe_load_{suffix(dtype)}", storage_type(dtype)
        return self.add(name, (
            f"static inline {t} {name}(const void *bytes, lithe_index i)\n{{\n"
            f"    {t} x;\n    memcpy(&x, (const uint8_t *)bytes + i * {dtype.bytes}, sizeof x);\n    return x;\n}}"
        ))  # fmt: skip

    def store(self, dtype: DType) -> str:
        name, t = f"lithe_store_{suffix(dtype)}", storage_type(dtype)
        return self.add(name, (
            f"static inline void {name}(void *bytes, lithe_index i, {t} x)\n{{\n"
            f"    memcpy((uint8_t *)bytes + i * {dtype.bytes}, &x, sizeof x);\n}}"
        ))  # fmt: skip

    def add(self, name: str, text: str) -> str:
        self.texts.setdefault(name, text)
        return name


def unsigned(dtype: DType) -> str:
    """The unsigned type in which arithmetic wraps."""
    if dtype is INDEX:
        return "size_t"
    return "uint64_t" if dtype.bits == 64 else "uint32_t"


Body = Callable[[str, str, DType], str]


def _wrapping(sign: str) -> Body:
    return lambda t, u, d: f"({t})(({u})a {sign} ({u})b)"


def _negated(t: str, u: str, d: DType) -> str:
    return f"({t})(0u - ({u})a)"


def _divided(t: str, u: str, d: DType) -> str:
    safe = f"({t})(a / b)"
    if d.kind == "int":
        safe = f"b == -1 ? {_negated(t, u, d)} : {safe}"
    return f"b == 0 ? ({t})0 : {safe}"


def _remaining(t: str, u: str, d: DType) -> str:
    harmful = "b == 0 || b == -1" if d.kind == "int" else "b == 0"
    return f"{harmful} ? ({t})0 : ({t})(a % b)"


def _count(d: DType) -> str:
    return "(sizeof b * 8 - 1)" if d is INDEX else f"{d.bits - 1}u"


BODIES: dict[str, tuple[str, Body]] = {
    "add": ("ab", _wrapping("+")),
    "sub": ("ab", _wrapping("-")),
    "mul": ("ab", _wrapping("*")),
    "div": ("ab", _divided),
    "mod": ("ab", _remaining),
    "min": ("ab", lambda t, u, d: "a < b ? a : b"),
    "max": ("ab", lambda t, u, d: "a > b ? a : b"),
    "shl": ("ab", lambda t, u, d: f"({t})(({u})a << (({u})b & {_count(d)}))"),
    "shr": ("ab", lambda t, u, d: f"({t})(a >> (({u})b & {_count(d)}))"),
    "neg": ("a", _negated),
    "abs": ("a", lambda t, u, d: f"a < 0 ? {_negated(t, u, d)} : a" if d.kind == "int" else "a"),
}

# Round to nearest, ties to even; a NaN stays one.
HALVES = {
    "lithe_bf16_from_f32": """\
static inline uint16_t lithe_bf16_from_f32(float x)
{
    const uint32_t bits = (uint32_t)lithe_i32_bits_of_f32(x);
    if (x != x) { return (uint16_t)((bits >> 16) | 0x40u); }
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}""",
    "lithe_f32_from_bf16": """\
static inline float lithe_f32_from_bf16(uint16_t x)
{
    return lithe_f32_bits_of_i32((int32_t)((uint32_t)x << 16));
}""",
    "lithe_f16_from_f32": """\
static inline uint16_t lithe_f16_from_f32(float x)
{
    const uint32_t bits = (uint32_t)lithe_i32_bits_of_f32(x), sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t kept, half, rest, shift;
    if (magnitude > 0x7f800000u) { return (uint16_t)(sign | 0x7e00u); }
    if (magnitude >= 0x47800000u) { return (uint16_t)(sign | 0x7c00u); }
    if (magnitude < 0x33000000u) { return (uint16_t)sign; }
    if (magnitude < 0x38800000u) {
        shift = 126u - (magnitude >> 23);
        kept = (magnitude & 0x7fffffu) | 0x800000u;
    } else {
        shift = 13u;
        kept = magnitude - 0x38000000u;
    }
    half = 1u << (shift - 1u);
    rest = kept & ((half << 1) - 1u);
    kept >>= shift;
    if (rest > half || (rest == half && (kept & 1u) != 0u)) { kept += 1u; }
    return (uint16_t)(sign | kept);
}""",
    "lithe_f32_from_f16": """\
static inline float lithe_f32_from_f16(uint16_t x)
{
    const uint32_t sign = ((uint32_t)x & 0x8000u) << 16, magnitude = (uint32_t)x & 0x7fffu;
    if (magnitude >= 0x7c00u) {
        return lithe_f32_bits_of_i32((int32_t)(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13)));
    }
    if (magnitude < 0x400u) {
        return (sign != 0u ? -0x1p-24f : 0x1p-24f) * (float)magnitude;
    }
    return lithe_f32_bits_of_i32((int32_t)(sign | ((magnitude << 13) + 0x38000000u)));
}""",
}
