"""Expressions of the loop language as C text. One rule for each node; a node without a rule is an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lithe.codegen.c.spelling import Names, is_narrow, literal, storage_type, value_type
from lithe.codegen.c.support import Support
from lithe.ir.intervals import Linear, Scope, type_range
from lithe.ir.loops import (
    BITS_FLOAT,
    FLOAT_BITS,
    FMA,
    INDEX,
    ROUND_INT,
    Binary,
    Buffer,
    Cast,
    Const,
    Expr,
    Intrinsic,
    Load,
    Select,
    Unary,
    Var,
    operands,
)
from lithe.types import BFLOAT16, BOOL, FLOAT16, FLOAT32, FLOAT64, INT32, INT64, DType

ATOM, PREFIX, PRODUCT, SUM = 4, 3, 2, 1  # how tightly a text binds
DEEPEST = 40  # nesting after which a value gets a name: compilers limit brackets
SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "mod": "%"}
COMPARED = {"lt": "<", "le": "<=", "eq": "==", "ne": "!="}
LOGICAL = {"and": "&&", "or": "||", "xor": "!="}
BITWISE = {"and": "&", "or": "|", "xor": "^"}
FUNCTIONS = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "round": "rint", "trunc": "trunc", "abs": "fabs"}
LARGEST_SUM = 1 << 62


@dataclass(frozen=True)
class Text:
    """C text, how tightly it binds, and how deep its brackets nest."""

    c: str
    level: int = ATOM
    depth: int = 0

    def at(self, level: int) -> str:
        """The text where at least this level is needed."""
        return self.c if self.level >= level else f"({self.c})"


class ExpressionPrinter:
    """Prints the expressions of one function.

    emit  takes a declaration that must come before the statement being printed.
    """

    def __init__(self, names: Names, support: Support, emit: Callable[[str], None]) -> None:
        self.names, self.support, self.emit = names, support, emit
        self.scalars: set[Buffer] = set()  # locals that are plain variables
        self.texts: dict[Expr, Text] = {}
        self.scope = Scope()

    def statement(self, roots: tuple[Expr, ...], places: tuple[tuple[Buffer, tuple[Expr, ...]], ...] = ()) -> None:
        """Prepares the texts of one statement: its values, and places that it stores to."""
        self.texts = {}
        counts: dict[Expr, int] = {}
        starts = list(roots)
        for buffer, index in places:
            starts += self.flat(buffer, index).terms
        order = self._order(starts, counts)
        for x in order:
            text = self._text(x)
            shared = counts[x] > 1 and not isinstance(x, (Const, Var)) and not self._is_scalar(x)
            if shared or text.depth > DEEPEST:
                text = self._named(x, text)
            self.texts[x] = text

    def _order(self, starts: list[Expr], counts: dict[Expr, int]) -> list[Expr]:
        """Every printed node, operands first; counts says how often each is used."""
        order: list[Expr] = []
        stack: list[tuple[Expr, bool]] = [(x, False) for x in reversed(starts)]
        for x in starts:
            counts[x] = counts.get(x, 0) + 1
        seen: set[Expr] = set()
        while stack:
            x, ready = stack.pop()
            if ready:
                order.append(x)
            elif x not in seen:
                seen.add(x)
                stack.append((x, True))
                for y in reversed(self._parts(x)):
                    counts[y] = counts.get(y, 0) + 1
                    stack.append((y, False))
        return order

    def _parts(self, x: Expr) -> list[Expr]:
        if isinstance(x, Load):
            return list(self.flat(x.buffer, x.index).terms)
        if self._is_sum(x):
            return list(self.scope.linear(x).terms)
        return [] if self._decided(x) is not None else list(operands(x))

    def _named(self, x: Expr, text: Text) -> Text:
        name = self.names.fresh("v")
        self.emit(f"const {value_type(x.dtype)} {name} = {text.c};")
        return Text(name)

    def _is_scalar(self, x: Expr) -> bool:
        return isinstance(x, Load) and x.buffer in self.scalars

    # indices

    def _is_sum(self, x: Expr) -> bool:
        """Whether x is printed as a flat sum of index terms: no step of it can overflow."""
        if not (isinstance(x, Binary) and x.op in ("add", "sub", "mul") and x.dtype is INDEX):
            return False
        return self._is_small(self.scope.linear(x), x)

    def _is_small(self, form: Linear, x: Expr) -> bool:
        if form.terms.keys() == {x}:
            return False
        total = abs(form.constant)
        for atom, factor in form.terms.items():
            total += abs(factor) * max(map(abs, self.scope.interval(atom)))
        return total < LARGEST_SUM

    def flat(self, b: Buffer, index: tuple[Expr, ...]) -> Linear:
        """The element number as a sum."""
        form, stride = Linear({}, 0), 1
        for i, size in zip(reversed(index), reversed(b.shape), strict=True):
            part = self.scope.linear(i)
            if not self._is_small(part, i):
                part = Linear({i: 1}, 0)
            form, stride = part.times(stride).plus(form), stride * size
        return form

    def sum_text(self, form: Linear) -> Text:
        parts: list[str] = []
        for atom, factor in form.terms.items():
            text = self._as(atom, INDEX)
            size = abs(factor)
            term = text.at(PRODUCT) if size == 1 else f"{text.at(PRODUCT)} * {size}"
            parts.append((" - " if factor < 0 else " + ") + term)
        if form.constant or not parts:
            parts.append(f" {'-' if form.constant < 0 else '+'} {abs(form.constant)}")
        joined = "".join(parts)
        joined = joined[3:] if joined.startswith(" + ") else "-" + joined[3:]
        if len(parts) > 1:
            return Text(joined, SUM, 1)
        return Text(joined, ATOM if "*" not in joined and "-" not in joined and " " not in joined else SUM, 1)

    def place(self, b: Buffer, index: tuple[Expr, ...]) -> tuple[str, str]:
        """(name of the storage, element number) of an access."""
        return self.names.given[b.storage], self.sum_text(self.flat(b, index)).c

    def address(self, b: Buffer) -> str:
        name = self.names.given[b.storage]
        return f"&{name}" if b.storage in self.scalars else name

    # values

    def value(self, x: Expr, dtype: DType | None = None) -> str:
        """The text of a value that `statement` has prepared, as an expression of its own."""
        return self._as(x, dtype or x.dtype).c

    def _as(self, x: Expr, dtype: DType) -> Text:
        """An operand; the two 64-bit integer types (index and int64) are converted to what is asked for."""
        text = self.texts[x]
        if (dtype is INDEX) != (x.dtype is INDEX) and not isinstance(x, Const):
            return Text(f"({value_type(dtype)}){text.at(PREFIX)}", PREFIX, text.depth)
        return text

    def _text(self, x: Expr) -> Text:
        match x:
            case Const():
                c = literal(x)
                return Text(c, PREFIX if c.startswith(("-", "(")) else ATOM)
            case Var():
                return Text(self.names.given[x])
            case Load():
                return self._load(x)
            case Binary() if self._is_sum(x):
                return self.sum_text(self.scope.linear(x))
            case Binary() if (known := self._decided(x)) is not None:
                return Text("1" if known else "0")
        depth = 1 + max((self.texts[y].depth for y in operands(x)), default=0)
        match x:
            case Unary(op, a):
                return self._unary(op, a, depth)
            case Binary():
                return self._binary(x, depth)
            case Select(condition, a, b):
                b_text = self._as(b, a.dtype)
                chosen = f"{self.texts[condition].at(PREFIX)} ? {self.texts[a].at(PREFIX)} : {b_text.at(PREFIX)}"
                return self._narrowed(f"({chosen})", x.dtype, depth)
            case Cast(a, dtype):
                return self._cast(a, dtype, depth)
        assert isinstance(x, Intrinsic)  # `operands` has refused any other node
        return self._intrinsic(x, depth)

    def _narrowed(self, c: str, dtype: DType, depth: int) -> Text:
        """The text of a C int, converted back to the narrow type it stands for."""
        if is_narrow(dtype) or dtype in (FLOAT16, BFLOAT16):
            return Text(f"({storage_type(dtype)}){c if c.startswith('(') else f'({c})'}", PREFIX, depth)
        return Text(c, ATOM, depth)

    def _load(self, x: Load) -> Text:
        b = x.buffer
        if storage_type(b.dtype) != storage_type(b.storage.dtype):
            at = self.sum_text(self.flat(b, x.index)).c
            c = f"{self.support.load(b.dtype)}({self.address(b)}, {at})"
        elif b.storage in self.scalars:
            c = self.names.given[b.storage]
        else:
            c = "{}[{}]".format(*self.place(b, x.index))
        return Text(f"({c} != 0)") if b.dtype == BOOL else Text(c)

    def _unary(self, op: str, a: Expr, depth: int) -> Text:
        text, dtype = self.texts[a], a.dtype
        if dtype in (FLOAT32, FLOAT64):
            if op == "neg":
                return Text(f"-{text.at(ATOM)}", PREFIX, depth)
            if op in FUNCTIONS:
                return Text(f"{FUNCTIONS[op]}{'f' if dtype == FLOAT32 else ''}({text.c})", ATOM, depth)
        if op == "not" and dtype == BOOL:
            return Text(f"!{text.at(PREFIX)}", PREFIX, depth)
        if op == "not" and dtype.is_integer:
            return self._narrowed(f"(~{text.at(PREFIX)})", dtype, depth)
        if op in ("neg", "abs") and dtype.is_integer:
            return Text(f"{self.support.operation(op, dtype)}({text.c})", ATOM, depth)
        raise TypeError(f"C printer has no rule for {op} of {dtype}")

    def _binary(self, x: Binary, depth: int) -> Text:
        op, dtype = x.op, x.a.dtype
        a, b = self.texts[x.a], self._as(x.b, dtype)
        if op in COMPARED and dtype not in (FLOAT16, BFLOAT16):
            return Text(f"({a.at(SUM)} {COMPARED[op]} {b.at(SUM)})", ATOM, depth)
        if dtype == BOOL and op in LOGICAL:
            return Text(f"({a.at(PREFIX)} {LOGICAL[op]} {b.at(PREFIX)})", ATOM, depth)
        if dtype in (FLOAT32, FLOAT64):
            if op == "mod":
                return Text(f"fmod{'f' if dtype == FLOAT32 else ''}({a.c}, {b.c})", ATOM, depth)
            if op in SYMBOLS:
                return self._arithmetic(op, a, b, depth)
            if op in ("min", "max"):
                return Text(f"{self.support.operation(op, dtype)}({a.c}, {b.c})", ATOM, depth)
        elif dtype.is_integer:
            if op in BITWISE:
                return self._narrowed(f"({a.at(PREFIX)} {BITWISE[op]} {b.at(PREFIX)})", dtype, depth)
            if self._is_plain(x):
                if op == "shr":
                    return self._narrowed(f"({a.at(PREFIX)} >> {b.at(PREFIX)})", dtype, depth)
                plain = self._arithmetic(op, a, b, depth)
                return self._narrowed(f"({plain.c})", dtype, depth) if is_narrow(dtype) else plain
            return Text(f"{self.support.operation(op, dtype)}({a.c}, {b.c})", ATOM, depth)
        raise TypeError(f"C printer has no rule for {op} of {dtype}")

    def _decided(self, x: Expr) -> bool | None:
        """The result of an integer comparison that is the same for all values; C compilers warn of such."""
        if not (isinstance(x, Binary) and x.op in COMPARED and x.a.dtype.is_integer):
            return None
        (a_low, a_high), (b_low, b_high) = self.scope.interval(x.a), self.scope.interval(x.b)
        if x.op in ("eq", "ne"):
            return x.op == "ne" if a_high < b_low or b_high < a_low else None
        strict = x.op == "lt"
        if a_high < b_low + (not strict):
            return True
        return False if a_low >= b_high + (not strict) else None

    def _is_plain(self, x: Binary) -> bool:
        """Whether C's own operator on these operands means what ours means."""
        dtype = x.a.dtype
        if x.op in ("div", "mod"):
            return isinstance(x.b, Const) and x.b.value not in (0, -1)
        if x.op == "shr":
            return isinstance(x.b, Const) and 0 <= x.b.value < dtype.bits
        if x.op not in ("add", "sub", "mul"):
            return False
        if dtype.kind == "uint" and not is_narrow(dtype):
            return True
        ends_a, ends_b = self.scope.interval(x.a), self.scope.interval(x.b)
        results = {
            "add": [p + q for p in ends_a for q in ends_b],
            "sub": [p - q for p in ends_a for q in ends_b],
            "mul": [p * q for p in ends_a for q in ends_b],
        }[x.op]
        low, high = type_range(INT32 if is_narrow(dtype) else dtype)
        return low <= min(results) and max(results) <= high

    def _arithmetic(self, op: str, a: Text, b: Text, depth: int) -> Text:
        level = SUM if op in ("add", "sub") else PRODUCT
        return Text(f"{a.at(level)} {SYMBOLS[op]} {b.at(level + 1)}", level, depth)

    def _cast(self, a: Expr, dtype: DType, depth: int) -> Text:
        text, source = self.texts[a], a.dtype
        halves = (FLOAT16, BFLOAT16)
        if source in halves or dtype in halves:
            if source != dtype and FLOAT32 not in (source, dtype):
                raise TypeError(f"C printer has no rule for a cast of {source} to {dtype}: go through float32")
            return text if source == dtype else Text(f"{self.support.half(source, dtype)}({text.c})", ATOM, depth)
        if dtype == BOOL:
            zero = "0" if not source.is_float else "0.0f" if source == FLOAT32 else "0.0"
            return text if source == BOOL else Text(f"({text.at(SUM)} != {zero})", ATOM, depth)
        if source.is_float and dtype.is_integer:
            storage_type(source)
            target = INT64 if dtype is INDEX else dtype
            c = f"{self.support.from_float(source, target)}({text.c})"
            return Text(f"(lithe_index){c}", PREFIX, depth) if dtype is INDEX else Text(c, ATOM, depth)
        if value_type(source) == value_type(dtype):
            return text
        return Text(f"({storage_type(dtype)}){text.at(PREFIX)}", PREFIX, depth)

    def _intrinsic(self, x: Intrinsic, depth: int) -> Text:
        instruction, args = x.instruction, [self.texts[a] for a in x.args]
        spelling = instruction.spelling.get("c")
        if spelling is not None:
            if "c_helper" in instruction.spelling:
                self.support.add(instruction.name, instruction.spelling["c_helper"])
            return Text(spelling.format(*(a.c for a in args)), ATOM, depth)
        if instruction is FMA:
            return Text(f"fmaf({', '.join(a.c for a in args)})", ATOM, depth)
        if instruction is ROUND_INT:
            return Text(f"{self.support.round_to_int()}({args[0].c})", ATOM, depth)
        if instruction in (FLOAT_BITS, BITS_FLOAT):
            name = self.support.bits(instruction.operands[0], instruction.result)
            return Text(f"{name}({args[0].c})", ATOM, depth)
        raise TypeError(f"C printer has no spelling for the instruction {instruction.name}")
