"""Expressions and addresses as LLVM IR text: the half of the kernel writer that makes values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from lithe.codegen.llvm.narrowing import is_sure
from lithe.codegen.llvm.scopes import Scopes
from lithe.codegen.llvm.tables import is_table, look_up
from lithe.codegen.llvm.values import literal, memory, scalar, suffix, vector
from lithe.codegen.llvm.words import bytes_of, shuffled
from lithe.ir.affine import Sum, affine_place, never, same_for_all
from lithe.ir.loops import (
    INDEX,
    Binary,
    Buffer,
    Cast,
    Const,
    Expr,
    Instruction,
    Intrinsic,
    Load,
    Select,
    Unary,
    Var,
    constant,
)
from lithe.types import BFLOAT16, BOOL, FLOAT32, INT32, UINT32, DType


class Value(NamedTuple):
    """An SSA value or a constant: its text, element type and lanes (1: scalar). `number` is set for constants."""

    text: str
    dtype: DType
    lanes: int = 1
    number: float | int | bool | None = None


class Place(NamedTuple):
    """Where a load or store goes: one pointer, or one a lane. `step`: elements between lanes (0: all the same)."""

    pointer: str
    step: int
    lanes: int
    key: tuple[Any, ...] | None = None
    pointers: tuple[str, ...] = ()


class Split(NamedTuple):
    """An affine form: elements between lanes, a number, (depth, factor, variable) of loops from the outermost, then
    variables of unrolled loops and other expressions with their factors."""

    step: int
    offset: int
    terms: tuple[tuple[int, int, Var], ...]
    unrolled: tuple[tuple[Var, int], ...]
    others: tuple[tuple[Expr, int], ...]


_FLOAT = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "mod": "frem"}
_INTEGER = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor", "shl": "shl"}
_SIGNED = {"div": "sdiv", "mod": "srem", "shr": "ashr"}
_UNSIGNED = {"div": "udiv", "mod": "urem", "shr": "lshr"}
_COMPARE_FLOAT = {"lt": "olt", "le": "ole", "eq": "oeq", "ne": "une"}
_COMPARE_INTEGER = {"lt": "lt", "le": "le", "eq": "eq", "ne": "ne"}
_UNARY_FLOAT = {"abs": "fabs", "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "round": "rint", "trunc": "trunc"}


class ExpressionWriter:
    """Values of expressions. The statement writer supplies lines, scopes, loop variables and pointers."""

    scopes: Scopes
    lines: list[Any]
    pointers: dict[Buffer, str]
    private: dict[Buffer, int]
    read_only: set[Buffer]
    depth: dict[Var, int]
    names: dict[Var, str]
    numbers: dict[Var, int]
    lane: Var | None
    lanes: int
    count: int
    look_up: Instruction | None
    let: Callable[[str], str]  # names the result of an instruction

    def __init__(self) -> None:
        self.memo: dict[Expr, Value] = {}
        self.sums: dict[tuple[Buffer, Var | None, tuple[Expr, ...]], tuple[Any, Sum | None]] = {}
        self.splits: dict[int, Split] = {}  # by the identity of sums
        self.affine: dict[Var | None, dict[int, Sum | None]] = {}  # of indices, by lane variable and identity
        self.declarations: set[str] = set()
        self.declared: set[str] = set()  # names of those that were called

    # values

    def value(self, x: Expr) -> Value:
        """The value of an expression; each object is evaluated once a statement."""
        known = self.memo.get(x)
        if known is None:
            known = self.memo[x] = self._value(x)
        return known

    def scalar_of(self, x: Expr) -> str:
        v = self.value(x)
        if v.lanes != 1:
            raise TypeError("a condition inside a vector loop cannot branch")
        return v.text

    def _value(self, x: Expr) -> Value:
        match x:
            case Load(buffer, index):
                return self.load(buffer, index)
            case Const(value, dtype):
                return Value(literal(value, dtype), dtype, 1, value)
            case Var():
                return self.variable(x)
            case Intrinsic(instruction, args):
                return self.intrinsic(instruction, [self.value(a) for a in args])
            case Binary(op, a, b):
                if x.dtype is INDEX:
                    return self.index(x)
                parts = bytes_of(x) if op == "xor" and self.lanes > 1 and x.dtype == INT32 else None
                text = None if parts is None else shuffled(self, *parts)
                if text is not None:
                    return Value(text, INT32, self.lanes)
                left, right = self.value(a), self.value(b)
                if op == "xor" and isinstance(a, Load) and x.dtype == INT32:  # a broadcast that machines do by the way
                    left = self.spread(left, self.lanes)
                return self.binary(op, left, right)
            case Select(c, a, b):
                return self.select(self.value(c), self.value(a), self.value(b))
            case Cast(Cast(a, _) as byte, dtype) if dtype.is_integer and dtype.bits >= 32 and is_sure(byte):
                return self.cast(self.value(a), dtype)
            case Cast(a, dtype):
                return self.cast(self.value(a), dtype)
            case Unary(op, a):
                return self.unary(op, self.value(a))
        raise TypeError(f"the LLVM writer has no rule for {type(x).__name__}")

    def variable(self, x: Var) -> Value:
        if x in self.numbers:
            n = self.numbers[x]
            return Value(str(n), INDEX, 1, n)
        if x is self.lane:
            steps = ", ".join(f"i64 {n}" for n in range(self.lanes))
            return Value(f"<{steps}>", INDEX, self.lanes)
        return Value(self.names[x], INDEX)

    def index(self, x: Binary) -> Value:
        """An index sum as a value: numbers of unrolled loops are folded."""
        a, b = self.value(x.a), self.value(x.b)
        if a.number is not None and b.number is not None:
            n, m = int(a.number), int(b.number)
            match x.op:
                case "add":
                    return self.number(n + m)
                case "sub":
                    return self.number(n - m)
                case "mul":
                    return self.number(n * m)
                case "div" if m > 0 and n >= 0:
                    return self.number(n // m)
                case "mod" if m > 0 and n >= 0:
                    return self.number(n % m)
        return self.binary(x.op, a, b)

    def number(self, n: int) -> Value:
        return Value(str(n), INDEX, 1, n)

    def spread(self, v: Value, lanes: int) -> Value:
        """A scalar repeated in every lane."""
        if v.lanes == lanes:
            return v
        if v.lanes != 1:
            raise TypeError(f"{v.lanes} lanes where {lanes} are wanted")
        if v.number is not None:
            return Value(literal(v.number, v.dtype, lanes), v.dtype, lanes, v.number)
        key = ("spread", v.text, lanes)
        text = self.known(key)
        if text is None:
            kind = vector(scalar(v.dtype), lanes)
            first = self.let(f"insertelement {kind} poison, {scalar(v.dtype)} {v.text}, i64 0")
            text = self.let(f"shufflevector {kind} {first}, {kind} poison, <{lanes} x i32> zeroinitializer")
            self.scopes.keep(key, text)
        return Value(text, v.dtype, lanes)

    def known(self, key: object) -> str | None:
        return self.scopes.values.get(key)

    def level(self, *values: Value) -> tuple[int, list[Value]]:
        lanes = max([v.lanes for v in values])
        return lanes, [v if v.lanes == lanes else self.spread(v, lanes) for v in values]

    def call(self, result: str, name: str, args: list[tuple[str, str]]) -> str:
        if name not in self.declared:  # whose name says its types
            self.declared.add(name)
            self.declarations.add(f"declare {result} @{name}({', '.join(kind for kind, _ in args)})")
        return self.let(f"call {result} @{name}({', '.join(f'{kind} {text}' for kind, text in args)})")

    def binary(self, op: str, a: Value, b: Value) -> Value:
        lanes, (a, b) = self.level(a, b)
        dtype, kind = a.dtype, vector(scalar(a.dtype), lanes)
        if dtype == BFLOAT16:
            raise TypeError(f"the LLVM writer has no rule for {op} of {dtype}")
        signed = dtype.kind == "int"
        if op in _COMPARE_INTEGER:
            return Value(self.compare(op, a, b), BOOL, lanes)
        if op in ("min", "max"):
            test = self.compare("lt", a, b) if op == "min" else self.compare("lt", b, a)
            flag = vector("i1", lanes)
            return Value(self.let(f"select {flag} {test}, {kind} {a.text}, {kind} {b.text}"), dtype, lanes)
        if dtype.is_float and op in _FLOAT:
            return Value(self.let(f"{_FLOAT[op]} {kind} {a.text}, {b.text}"), dtype, lanes)
        name = _INTEGER.get(op) or (_SIGNED if signed else _UNSIGNED).get(op)
        if name is None or dtype.is_float:
            raise TypeError(f"the LLVM writer has no rule for {op} of {dtype}")
        return Value(self.let(f"{name} {kind} {a.text}, {b.text}"), dtype, lanes)

    def compare(self, op: str, a: Value, b: Value) -> str:
        kind = vector(scalar(a.dtype), a.lanes)
        if a.dtype.is_float:
            return self.let(f"fcmp {_COMPARE_FLOAT[op]} {kind} {a.text}, {b.text}")
        sign = "" if op in ("eq", "ne") else "s" if a.dtype.kind == "int" else "u"
        return self.let(f"icmp {sign}{_COMPARE_INTEGER[op]} {kind} {a.text}, {b.text}")

    def select(self, c: Value, a: Value, b: Value) -> Value:
        lanes, (a, b) = self.level(a, b)
        if c.lanes > lanes:
            lanes = c.lanes
            a, b = self.spread(a, lanes), self.spread(b, lanes)
        kind = vector(scalar(a.dtype), lanes)
        return Value(
            self.let(f"select {vector('i1', c.lanes)} {c.text}, {kind} {a.text}, {kind} {b.text}"), a.dtype, lanes
        )

    def unary(self, op: str, a: Value) -> Value:
        if a.dtype == BFLOAT16:
            raise TypeError(f"the LLVM writer has no rule for {op} of {a.dtype}")
        kind = vector(scalar(a.dtype), a.lanes)
        if a.dtype.name == "bool" or op == "not":
            ones = literal(1 if a.dtype.name == "bool" else -1, a.dtype, a.lanes)
            return Value(self.let(f"xor {kind} {a.text}, {ones}"), a.dtype, a.lanes)
        if op == "neg":
            zero = literal(0, a.dtype, a.lanes)
            text = f"fneg {kind} {a.text}" if a.dtype.is_float else f"sub {kind} {zero}, {a.text}"
            return Value(self.let(text), a.dtype, a.lanes)
        if a.dtype.is_float:
            name = f"llvm.{_UNARY_FLOAT[op]}.{suffix(a.dtype, a.lanes)}"
            return Value(self.call(kind, name, [(kind, a.text)]), a.dtype, a.lanes)
        if op == "abs":
            name = f"llvm.abs.{suffix(a.dtype, a.lanes)}"
            self.declarations.add(f"declare {kind} @{name}({kind}, i1)")
            return Value(self.let(f"call {kind} @{name}({kind} {a.text}, i1 false)"), a.dtype, a.lanes)
        return a  # floor, ceil, round and trunc of an integer

    def cast(self, a: Value, to: DType) -> Value:
        old, new, lanes = a.dtype, to, a.lanes
        if a.number is not None and lanes == 1 and new.is_integer and old.is_integer:
            return Value(literal(a.number, new), new, 1, int(a.number))
        if BFLOAT16 in (old, new):
            return self.cast_words(a, new)
        source, target = vector(scalar(old), lanes), vector(scalar(new), lanes)
        if old.name == "bool":
            word = "uitofp" if new.is_float else "zext"
            return a if new.name == "bool" else Value(self.let(f"{word} {source} {a.text} to {target}"), new, lanes)
        if new.name == "bool":
            zero = Value(literal(0, old, lanes), old, lanes)
            return Value(self.compare("ne", a, zero), BOOL, lanes)
        if old.is_float and new.is_float:
            if old.bits == new.bits:
                return a
            word = "fpext" if new.bits > old.bits else "fptrunc"
        elif old.is_float:
            word = "fptosi" if new.kind == "int" else "fptoui"
            name = f"llvm.{word}.sat.{suffix(new, lanes)}.{suffix(old, lanes)}"
            return Value(self.call(target, name, [(source, a.text)]), new, lanes)
        elif new.is_float:
            word = "sitofp" if old.kind == "int" else "uitofp"
        elif old.bits == new.bits:
            return Value(a.text, new, lanes, a.number)
        else:
            word = "trunc" if new.bits < old.bits else "sext" if old.kind == "int" else "zext"
        return Value(self.let(f"{word} {source} {a.text} to {target}"), new, lanes)

    def cast_words(self, a: Value, to: DType) -> Value:
        """From or to bfloat16, which is the upper half of a float32: rounded half to even, and NaN stays NaN."""
        if a.dtype == to:
            return a
        if to != BFLOAT16:
            wide = self.unsigned(
                self.let(f"zext {vector('i16', a.lanes)} {a.text} to {vector('i32', a.lanes)}"), a.lanes
            )
            bits = self.binary("shl", wide, self.unsigned("16", 1, 16))
            real = self.let(f"bitcast {vector('i32', a.lanes)} {bits.text} to {vector('float', a.lanes)}")
            return self.cast(Value(real, FLOAT32, a.lanes), to)
        a = self.cast(a, FLOAT32)
        bits = self.unsigned(
            self.let(f"bitcast {vector('float', a.lanes)} {a.text} to {vector('i32', a.lanes)}"), a.lanes
        )
        upper = self.binary("shr", bits, self.unsigned("16", 1, 16))
        half = self.binary("add", self.binary("and", upper, self.unsigned("1", 1, 1)), self.unsigned("32767", 1, 32767))
        rounded = self.binary("shr", self.binary("add", bits, half), self.unsigned("16", 1, 16))
        quiet = self.binary("or", upper, self.unsigned("64", 1, 64))
        number = Value(self.let(f"fcmp ord {vector('float', a.lanes)} {a.text}, {a.text}"), BOOL, a.lanes)
        chosen = self.select(number, rounded, quiet)
        text = self.let(f"trunc {vector('i32', a.lanes)} {chosen.text} to {vector('i16', a.lanes)}")
        return Value(text, BFLOAT16, a.lanes)

    @staticmethod
    def unsigned(text: str, lanes: int, number: int | None = None) -> Value:
        return Value(text, UINT32, lanes, number)

    def intrinsic(self, instruction: Any, args: list[Value]) -> Value:
        lanes, args = self.level(*args)
        result = vector(scalar(instruction.result), lanes)
        kinds = [vector(scalar(a.dtype), lanes) for a in args]
        match instruction.name:
            case "fma" | "multiply_add":
                name = "fma" if instruction.name == "fma" else "fmuladd"
                text = self.call(
                    result, f"llvm.{name}.{suffix(instruction.result, lanes)}",
                    [(k, a.text) for k, a in zip(kinds, args, strict=True)],
                )  # fmt: skip
            case "round_int":
                name = f"llvm.lrint.{suffix(instruction.result, lanes)}.{suffix(args[0].dtype, lanes)}"
                text = self.call(result, name, [(kinds[0], args[0].text)])
            case "float_bits" | "bits_float":
                text = self.let(f"bitcast {kinds[0]} {args[0].text} to {result}")
            case _:
                text = self.machine_instruction(instruction, args, lanes, result)
        return Value(text, instruction.result, lanes)

    def machine_instruction(self, instruction: Any, args: list[Value], lanes: int, result: str) -> str:
        """spelling["llvm"]: {lanes: (intrinsic name, operand types)}; operands are reinterpreted as those types."""
        spelling = instruction.spelling["llvm"]
        form = min((n for n in spelling if n >= lanes), default=None)
        if form is None:
            raise TypeError(f"{instruction.name} has no form with {lanes} lanes")
        name, kinds = spelling[form]
        operands = []
        for a, kind in zip(args, kinds, strict=True):
            text = a.text if form == lanes else self.resized(a, form)
            own = vector(scalar(a.dtype), form)
            operands.append((kind, text if own == kind else self.let(f"bitcast {own} {text} to {kind}")))
        wide = vector(scalar(instruction.result), form)
        text = self.call(wide, name, operands)
        return text if form == lanes else self.resized(Value(text, instruction.result, form), lanes)

    def resized(self, a: Value, lanes: int) -> str:
        """The vector with more lanes (the new ones undefined) or only the first ones."""
        kind = vector(scalar(a.dtype), a.lanes)
        if a.lanes == 1:
            return self.let(f"insertelement {vector(scalar(a.dtype), lanes)} poison, {kind} {a.text}, i64 0")
        mask = ", ".join(f"i32 {n}" if n < a.lanes else "i32 poison" for n in range(lanes))
        if lanes == 1:
            return self.let(f"extractelement {kind} {a.text}, i64 0")
        return self.let(f"shufflevector {kind} {a.text}, {kind} poison, <{lanes} x i32> <{mask}>")

    # memory

    def load(self, buffer: Buffer, index: tuple[Expr, ...]) -> Value:
        if self.look_up is not None and self.lane is not None and is_table(buffer, index):
            flat, sums = self.flattened(buffer, index)
            if sums is None:
                return Value(look_up(self, self.look_up, buffer, flat, self.lanes), buffer.dtype, self.lanes)
        place, storage = self.place(buffer, index), buffer.storage
        dtype, kind = buffer.dtype, memory(buffer.dtype)
        key = (place.key, place.step, place.lanes, dtype.name)
        text = self.scopes.loaded(storage, key) if place.key is not None else None
        lanes = place.lanes if place.step else 1
        if text is None:
            align = min(storage.dtype.bytes, dtype.bytes)
            if place.pointers:
                text = "poison"
                for n, pointer in enumerate(place.pointers):
                    one = self.let(f"load {kind}, ptr {pointer}, align {align}")
                    text = self.let(f"insertelement {vector(kind, lanes)} {text}, {kind} {one}, i64 {n}")
            else:
                text = self.let(f"load {vector(kind, lanes)}, ptr {place.pointer}, align {align}")
            if dtype.name == "bool":
                zero = "0" if lanes == 1 else "zeroinitializer"
                text = self.let(f"icmp ne {vector('i8', lanes)} {text}, {zero}")
            if place.key is not None:
                self.scopes.keep_loaded(storage, key, text)
        return Value(text, dtype, lanes)

    def place(self, buffer: Buffer, index: tuple[Expr, ...]) -> Place:
        """The address of an element. Affine indices share their sums; others are computed as they stand."""
        storage = buffer.storage
        base = self.pointers[storage]
        width = buffer.dtype.bytes
        private = self.private.get(storage)
        flat, sums = self.flattened(buffer, index)
        if sums is None:
            return self.computed_place(base, flat, width, private)
        split = self.splits.get(id(sums))
        if split is None:
            split = self.splits[id(sums)] = self.split(*sums)
        step, offset, others = split.step, split.offset, tuple([(self.value(v).text, f) for v, f in split.others])
        for v, factor in split.unrolled:
            offset += factor * self.numbers[v]
        width *= private or 1
        pointer, key = self.sum_pointer(storage, base, split.terms, width), (split.terms, others, offset)
        for text, factor in others:
            scaled = self.let(f"mul nsw i64 {text}, {factor * width}")
            pointer = self.let(f"getelementptr i8, ptr {pointer}, i64 {scaled}")
        if private:  # lanes lie side by side
            return Place(self.beside(pointer, offset * width), 1, private, key)
        if step in (0, 1) or self.lanes == 1:
            return Place(self.beside(pointer, offset * width), step, self.lanes, key)
        pointers = tuple(self.beside(pointer, (offset + n * step) * width) for n in range(self.lanes))
        return Place("", step, self.lanes, key, pointers)

    def flattened(self, buffer: Buffer, index: tuple[Expr, ...]) -> Any:
        """(row-major index, None) or (None, its affine form); unrolled bodies ask for the same ones again and again."""
        key = (buffer, self.lane, index)
        known = self.sums.get(key)
        if known is None:
            opaque = never if self.lane is None else same_for_all(self.lane, self.private)
            flat, sums = None, affine_place(buffer.shape, index, opaque, self.affine.setdefault(self.lane, {}))
            if sums is None:
                flat = constant(0)
                for i, size in zip(index, buffer.shape, strict=True):
                    flat = flat * size + i
            known = self.sums[key] = (flat, sums)
        return known

    def split(self, terms: dict[Expr, int], offset: int) -> Split:
        """An affine form by what becomes of its terms; what a variable is does not change where it is known."""
        loops: list[tuple[int, int, Var]] = []
        unrolled: list[tuple[Var, int]] = []
        others: list[tuple[Expr, int]] = []
        step = 0
        for v, factor in terms.items():
            if not isinstance(v, Var):
                others.append((v, factor))
            elif v in self.numbers:
                unrolled.append((v, factor))
            elif v is self.lane:
                step = factor
            elif factor:
                loops.append((self.depth[v], factor, v))
        return Split(step, offset, tuple(sorted(loops, key=lambda term: term[0])), tuple(unrolled), tuple(others))

    def sum_pointer(self, storage: Buffer, base: str, terms: tuple[tuple[int, int, Var], ...], width: int) -> str:
        """base + sum of factor * variable * width, each partial sum in the outermost loop that knows it."""
        if not terms:
            return base
        (depth, factor, v), key = terms[-1], ("sum", storage, width, terms)
        text = self.scopes.values.get(key)
        if text is None:
            pointer = self.sum_pointer(storage, base, terms[:-1], width)
            self.count += 1
            text = f"%s{self.count}"
            self.scopes.prologues[depth] += [
                f"  {text}o = mul nsw i64 {self.names[v]}, {factor * width}",
                f"  {text} = getelementptr i8, ptr {pointer}, i64 {text}o",
            ]
            self.scopes.keep(key, text, depth)
        return text

    def beside(self, pointer: str, offset: int) -> str:
        if offset == 0:
            return pointer
        key = ("beside", pointer, offset)
        text = self.known(key)
        if text is None:
            text = self.let(f"getelementptr i8, ptr {pointer}, i64 {offset}")
            self.scopes.keep(key, text)
        return text

    def computed_place(self, base: str, flat: Expr, width: int, private: int | None) -> Place:
        at = self.value(flat)
        if at.lanes == 1:
            if private:
                width *= private
            scaled = self.let(f"mul nsw i64 {at.text}, {width}")
            pointer = self.let(f"getelementptr i8, ptr {base}, i64 {scaled}")
            return Place(pointer, 1 if private else 0, private or self.lanes)
        if private:
            pointers = []
            for n in range(at.lanes):
                one = self.let(f"extractelement <{at.lanes} x i64> {at.text}, i64 {n}")
                scaled = self.let(f"mul nsw i64 {one}, {width * private}")
                moved = self.let(f"add nsw i64 {scaled}, {n * width}")
                pointers.append(self.let(f"getelementptr i8, ptr {base}, i64 {moved}"))
            return Place("", -1, at.lanes, None, tuple(pointers))
        pointers = []
        for n in range(at.lanes):
            one = self.let(f"extractelement <{at.lanes} x i64> {at.text}, i64 {n}")
            scaled = self.let(f"mul nsw i64 {one}, {width}")
            pointers.append(self.let(f"getelementptr i8, ptr {base}, i64 {scaled}"))
        return Place("", -1, at.lanes, None, tuple(pointers))
