"""Kernels to LLVM IR text. One branch for each node; a node without a branch is an error.

A `vector` loop becomes one pass over vectors of as many lanes as it has iterations: values that depend on
its variable are vectors, all others stay scalar until they meet one. Local buffers are stack slots, which
LLVM's `sroa` pass turns into registers when every index is constant after unrolling.

Addresses are sums of loop variables, so their parts are computed in the outermost loop where they are
known; loads of the same place are emitted once until something is stored there. This is all the common
subexpression work that the generated code needs: no other pass of LLVM's middle end runs (it doubles the
compile time, and can make code generation endless).

A function's parameters are its pointers and then those of `lithe.codegen.llvm.threads`. A thread runs the share of
each `grid` loop that its number tells; alone (0 of 1) it runs everything, and meets nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from lithe.codegen.llvm.narrowing import Waiting
from lithe.codegen.llvm.scopes import Scopes
from lithe.codegen.llvm.threads import DECLARATIONS, THREAD_PARAMETERS, THREAD_TYPES
from lithe.codegen.llvm.tiles import TileWriter, registers
from lithe.codegen.llvm.values import memory, vector
from lithe.ir.loops import (
    Alloc,
    Barrier,
    Buffer,
    Call,
    Expr,
    For,
    If,
    Instruction,
    Kernel,
    Stmt,
    Store,
    Var,
    statements,
)
from lithe.ir.program import Packs, Program, Step

Part = tuple[int, int, int]
Text = list[Any]  # of str or Text: nested lists keep places where lines are added later


class KernelWriter(TileWriter):
    """Writes one kernel as `define i32 @symbol(ptr ..., THREAD_PARAMETERS)`; it returns 0 or a failure's number."""

    def __init__(
        self,
        kernel: Kernel,
        symbol: str,
        failures: dict[str, int],
        look_up: Instruction | None = None,
        packs: Packs | None = None,
    ) -> None:
        super().__init__()
        self.waiting = Waiting(self, packs)
        self.kernel, self.symbol, self.failures, self.look_up = kernel, symbol, failures, look_up
        self.pointers = {b: f"%p{i}" for i, b in enumerate(kernel.params)}
        self.read_only = {b for b, w in zip(kernel.params, kernel.writes, strict=True) if not w}
        self.entry: list[str] = []
        self.lines: Text = []
        self.scopes = Scopes(self.entry)
        self.depth: dict[Var, int] = {}  # loop variable -> the number of its scope
        self.names: dict[Var, str] = {}
        self.numbers: dict[Var, int] = {}  # unrolled variables
        self.lane: Var | None = None
        self.lanes = 1
        self.private: dict[Buffer, int] = {}  # locals of a vector loop -> lanes
        self.shares: dict[tuple[int, Part], tuple[str, str]] = {}  # of grid loops: first and end of this thread's share
        self.registers = registers(kernel)
        self.count = 0
        self.block = "body0"
        self.fails: set[int] = set()

    # text

    def let(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"  %v{self.count} = {text}")
        return f"%v{self.count}"

    def do(self, text: str) -> None:
        self.lines.append("  " + text)

    def label(self, name: str) -> str:
        self.count += 1
        return f"{name}{self.count}"

    def start(self, block: str) -> None:
        self.lines.append(f"{block}:")
        self.block = block

    def text(self) -> str:
        # other threads write to the memory of a kernel that meets them inside
        noalias = "" if any(isinstance(s, Barrier) for s in statements(self.kernel.body)) else " noalias"
        params = "".join(f"ptr{noalias} %p{i}, " for i in range(len(self.kernel.params))) + THREAD_PARAMETERS
        self.block_of(self.kernel.body)
        begin, end = self.begin_tiles(), self.end_tiles()
        failures = [line for code in sorted(self.fails) for line in (f"fail{code}:", *end, f"  ret i32 {code}")]
        body = [
            f"define i32 @{self.symbol}({params}) nounwind {{", "entry:", *self.entry, *begin, "  br label %body0",
            "body0:", *flat(self.lines), *end, "  ret i32 0", *failures, "}",
        ]  # fmt: skip
        return "\n".join(body)

    # statements

    def block_of(self, body: tuple[Stmt, ...]) -> None:
        """The statements of a loop or a branch, behind which no store waits."""
        self.statements(body)
        self.waiting.write()

    def statements(self, body: tuple[Stmt, ...]) -> None:
        for s in body:
            self.memo = {}
            match s:
                case Alloc(buffer):
                    self.allocate(buffer)
                case Store(buffer, index, value):
                    if self.waiting.take(s):
                        self.forget({buffer.storage})
                    else:
                        self.store(buffer, index, value)
                case For(_, _, _, "tile"):
                    self.waiting.write()
                    self.tile(s)
                case For(var, extent, inner, kind, part):
                    self.loop(var, extent, inner, kind, part)
                case If(condition, then, otherwise):
                    self.waiting.write()
                    self.branch(condition, then, otherwise)
                case Call("fail_unless", (condition,), text):
                    self.waiting.write()
                    code = self.failures[text]
                    self.fails.add(code)
                    good = self.label("good")
                    self.do(f"br i1 {self.scalar_of(condition)}, label %{good}, label %fail{code}")
                    self.start(good)
                case Barrier():
                    self.waiting.write()
                    self.declarations.add(DECLARATIONS[0])
                    self.do("call void @lithe_barrier(i32 %threads, ptr %sync)")
                    self.forget(set(self.pointers))
                case _:
                    raise TypeError(f"the LLVM writer has no rule for {type(s).__name__}")
        self.registers.give_back(body)

    def allocate(self, buffer: Buffer) -> None:
        if buffer in self.registers.tiles:
            self.allocate_tile(buffer)
            return
        self.forget({buffer})
        if buffer in self.pointers:  # another copy of an unrolled body
            return
        lanes = self.lanes
        if lanes > 1:
            self.private[buffer] = lanes
        name = f"%local{len(self.pointers)}"
        self.entry.append(f"  {name} = alloca [{max(1, buffer.size * lanes)} x {memory(buffer.dtype)}], align 64")
        self.pointers[buffer] = name

    def store(self, buffer: Buffer, index: tuple[Expr, ...], value: Expr) -> None:
        v = self.value(value)
        storage = buffer.storage
        place = self.place(buffer, index)
        kind, dtype = memory(buffer.dtype), buffer.dtype
        lanes = place.lanes if place.step else v.lanes
        if storage in self.private:
            lanes = self.lanes
        v = self.spread(v, lanes)
        text = v.text
        if dtype.name == "bool":
            text = self.let(f"zext {vector('i1', lanes)} {text} to {vector('i8', lanes)}")
        align = min(storage.dtype.bytes, dtype.bytes)
        if place.pointers:
            for n, pointer in enumerate(place.pointers):
                one = self.let(f"extractelement {vector(kind, lanes)} {text}, i64 {n}")
                self.do(f"store {kind} {one}, ptr {pointer}, align {dtype.bytes}")
        else:
            self.do(f"store {vector(kind, lanes)} {text}, ptr {place.pointer}, align {align}")
        self.forget({storage})

    def forget(self, storages: set[Buffer]) -> None:
        """Drops remembered loads of memory that is written."""
        self.scopes.forget(storages - self.read_only)

    def loop(self, var: Var, extent: int, body: tuple[Stmt, ...], kind: str, part: Part) -> None:
        if kind == "unrolled":
            for n in range(extent):
                self.numbers[var] = n
                self.statements(body)
            del self.numbers[var]
            return
        if kind == "vector" and extent > 1:
            outer = self.lane, self.lanes
            if self.lanes > 1:
                raise TypeError("vector loops do not nest")
            self.lane, self.lanes = var, extent
            self.statements(body)
            self.lane, self.lanes = outer
            return
        if extent == 1 and kind != "grid":
            self.numbers[var] = 0
            self.statements(body)
            del self.numbers[var]
            return
        self.waiting.write()
        self.forget({s.buffer.storage for s in statements(body) if isinstance(s, Store)})
        top, before, end = self.label("loop"), self.block, self.label("done")
        name = f"%i{self.count}"
        first, stop = self.share(extent, part) if kind == "grid" else ("0", str(extent))
        if kind == "grid":
            some = self.let(f"icmp ult i64 {first}, {stop}")
            self.do(f"br i1 {some}, label %{top}, label %{end}")
        else:
            self.do(f"br label %{top}")
        self.start(top)
        phi: list[str] = []
        prologue: list[str] = []
        self.lines += [phi, prologue]
        self.scopes.open(prologue)
        self.depth[var], self.names[var] = self.scopes.depth, name
        self.block_of(body)
        after = self.let(f"add nuw nsw i64 {name}, 1")
        again = self.let(f"icmp ult i64 {after}, {stop}")
        self.do(f"br i1 {again}, label %{top}, label %{end}")
        phi.append(f"  {name} = phi i64 [{first}, %{before}], [{after}, %{self.block}]")
        self.scopes.close()
        del self.depth[var], self.names[var]
        self.start(end)

    def share(self, extent: int, part: Part) -> tuple[str, str]:
        """Where this thread's iterations of a grid loop begin and end.

        Those of thread t begin at the whole number nearest to extent * x / ((end - begin) * threads),
        x = t * whole - begin * threads, held within 0 .. (end - begin) * threads.
        """
        key = extent, part
        if key not in self.shares:
            if not self.shares:
                self.entry += ["  %number = zext i32 %thread to i64", "  %team = zext i32 %threads to i64"]
                self.entry.append("  %after = add i64 %number, 1")
            n, (begin, end, whole) = len(self.shares), part
            self.entry += [
                f"  %before{n} = mul i64 %team, {begin}",
                f"  %most{n} = mul i64 %team, {end - begin}",
                f"  %half{n} = lshr i64 %most{n}, 1",
            ]
            for bound, number in ((f"%first{n}", "%number"), (f"%stop{n}", "%after")):
                self.entry += [
                    f"  {bound}a = mul i64 {number}, {whole}",
                    f"  {bound}b = sub i64 {bound}a, %before{n}",
                    f"  {bound}c = call i64 @llvm.smax.i64(i64 {bound}b, i64 0)",
                    f"  {bound}d = call i64 @llvm.smin.i64(i64 {bound}c, i64 %most{n})",
                    f"  {bound}e = mul i64 {bound}d, {extent}",
                    f"  {bound}f = add i64 {bound}e, %half{n}",
                    f"  {bound} = udiv i64 {bound}f, %most{n}",
                ]
            self.declarations |= {"declare i64 @llvm.smax.i64(i64, i64)", "declare i64 @llvm.smin.i64(i64, i64)"}
            self.shares[key] = f"%first{n}", f"%stop{n}"
        return self.shares[key]

    def branch(self, condition: Expr, then: tuple[Stmt, ...], otherwise: tuple[Stmt, ...]) -> None:
        c = self.scalar_of(condition)
        yes, no, end = self.label("then"), self.label("else"), self.label("end")
        self.forget({s.buffer.storage for s in statements((*then, *otherwise)) if isinstance(s, Store)})
        self.do(f"br i1 {c}, label %{yes}, label %{no if otherwise else end}")
        for block, body in ((yes, then), (no, otherwise)):
            if block == no and not otherwise:
                continue
            self.start(block)
            prologue: list[str] = []
            self.lines.append(prologue)
            self.scopes.open(prologue)
            self.block_of(body)
            self.scopes.close()
            self.do(f"br label %{end}")
        self.start(end)


def flat(lines: Text) -> Iterator[str]:
    for line in lines:
        if isinstance(line, str):
            yield line
        else:
            yield from flat(line)


def print_kernel(
    kernel: Kernel,
    symbol: str,
    failures: dict[str, int],
    look_up: Instruction | None = None,
    packs: Packs | None = None,
) -> str:
    """The kernel as one LLVM function and the declarations that it needs. look_up, packs: see `Program`."""
    writer = KernelWriter(kernel, symbol, failures, look_up, packs)
    text = writer.text()
    del writer.waiting  # which knows the writer: a cycle, that would keep the kernel and its lines from being freed
    return "\n".join([text, *sorted(writer.declarations)])


def print_module(functions: list[str]) -> str:
    """Functions with their declarations as one module; a declaration may appear only once in LLVM text."""
    lines: dict[str, None] = {}
    bodies: list[str] = []
    for text in functions:
        body, _, declarations = text.partition("\n}")
        bodies.append(body + "\n}")
        lines.update(dict.fromkeys(d for d in declarations.splitlines() if d))
    if any(" half" in body for body in bodies):
        bodies.append(HALF_CONVERSIONS)
    return "\n".join([*bodies, *lines])


# What LLVM calls to convert halves on machines that cannot (x86 before F16C). Nobody else may have it.
HALF_CONVERSIONS = """
define weak hidden float @__extendhfsf2(half %h) nounwind {
  %narrow = bitcast half %h to i16
  %bits = zext i16 %narrow to i32
  %magnitude = and i32 %bits, 32767
  %negative = and i32 %bits, 32768
  %sign = shl i32 %negative, 16
  %shifted = shl i32 %magnitude, 13
  %normal = add i32 %shifted, 939524096
  %endless = or i32 %shifted, 2139095040
  %whole = uitofp i32 %magnitude to float
  %scaled = fmul float %whole, 0x3E70000000000000
  %tiny = bitcast float %scaled to i32
  %is_tiny = icmp ult i32 %magnitude, 1024
  %is_endless = icmp ugt i32 %magnitude, 31743
  %finite = select i1 %is_tiny, i32 %tiny, i32 %normal
  %value = select i1 %is_endless, i32 %endless, i32 %finite
  %result = or i32 %value, %sign
  %real = bitcast i32 %result to float
  ret float %real
}
define weak hidden half @__truncsfhf2(float %f) nounwind {
  %bits = bitcast float %f to i32
  %magnitude = and i32 %bits, 2147483647
  %upper = lshr i32 %bits, 16
  %sign = and i32 %upper, 32768
  %last = lshr i32 %magnitude, 13
  %odd = and i32 %last, 1
  %half_less = add i32 %magnitude, 3355447295
  %rounded = add i32 %half_less, %odd
  %normal = lshr i32 %rounded, 13
  %absolute = bitcast i32 %magnitude to float
  %aligned = fadd float %absolute, 5.000000e-01
  %aligned_bits = bitcast float %aligned to i32
  %tiny = sub i32 %aligned_bits, 1056964608
  %is_tiny = icmp ult i32 %magnitude, 947912704
  %is_endless = icmp ugt i32 %magnitude, 1199566847
  %is_nan = icmp ugt i32 %magnitude, 2139095040
  %finite = select i1 %is_tiny, i32 %tiny, i32 %normal
  %endless = select i1 %is_nan, i32 32256, i32 31744
  %value = select i1 %is_endless, i32 %endless, i32 %finite
  %result = or i32 %value, %sign
  %narrow = trunc i32 %result to i16
  %half = bitcast i16 %narrow to half
  ret half %half
}
"""


def print_entry(program: Program, symbols: dict[Kernel, str], symbol: str = "lithe_entry") -> str:
    """`i32 symbol(ptr arena, ptr constants, THREAD_PARAMETERS)`: every step in order, ending early when one fails.

    Every thread calls it. A step that is shared out is run by all of them, others by thread 0, and all meet
    wherever one kind follows the other. The code that it returns counts for thread 0 alone. Where there are floats,
    results too small for a normal one are 0.
    """
    floats = any(b.dtype.is_float for kernel in symbols for b in kernel.params)
    lines = [
        f"define i32 @{symbol}(ptr %arena, ptr %constants, {THREAD_PARAMETERS}) nounwind {{", "entry:",
        "  %first = icmp eq i32 %thread, 0",
        "  %number = zext i32 %thread to i64",
        f"  %skipped = mul i64 %number, {program.private_bytes}",
        "  %own = getelementptr i8, ptr %arena, i64 %skipped",
        *["  %mode = call i32 @lithe_flush()"] * floats,
        "  br label %phase0",
    ]  # fmt: skip
    groups = [(all_run, list(group)) for all_run, group in groupby(program.steps, lambda s: s.kernel.is_shared)]
    phases = [(all_run, part) for all_run, group in groups for part in ([[s] for s in group] if all_run else [group])]
    count = 0
    for n, (all_run, steps) in enumerate(phases):
        end = f"met{n}" if n + 1 < len(phases) else "leave"
        lines.append(f"phase{n}:")
        if not all_run:
            lines += [f"  br i1 %first, label %alone{n}, label %{end}", f"alone{n}:"]
        for step in steps:
            lines += call_step(program, step, symbols[step.kernel], count, end)
            count += 1
        lines += [f"  br label %{end}", f"{end}:", "  call void @lithe_barrier(i32 %threads, ptr %sync)"]
        if end == "leave":
            break
        if any(can_fail(step.kernel) for step in steps):
            lines += [f"  %code{n} = call i32 @lithe_failure(ptr %sync)", f"  %good{n} = icmp eq i32 %code{n}, 0"]
            lines.append(f"  br i1 %good{n}, label %phase{n + 1}, label %leave")
        else:
            lines.append(f"  br label %phase{n + 1}")
    if not phases:
        lines.append("phase0:")
    lines += ["  call void @lithe_unflush(i32 %mode)"] * floats
    fails = any(can_fail(kernel) for kernel in symbols)
    lines += ["  %code = call i32 @lithe_failure(ptr %sync)", "  ret i32 %code", "}"] if fails else ["  ret i32 0", "}"]
    for name, kernel in {name: kernel for kernel, name in symbols.items()}.items():
        lines.append(f"declare i32 @{name}({''.join('ptr, ' for _ in kernel.params)}{THREAD_TYPES})")
    return "\n".join([*lines, *DECLARATIONS])


def call_step(program: Program, step: Step, symbol: str, n: int, end: str) -> Iterator[str]:
    """The call of a kernel; a failure is told to the other threads, and ends the phase."""
    arguments = []
    for k, (b, p) in enumerate(zip(step.arguments, step.kernel.params, strict=True)):
        base, offset = ("constants", program.constants[b]) if b.data is not None else ("arena", program.arena[b])
        base = "own" if p in step.kernel.private else base
        arguments.append(f"ptr %a{n}_{k}, ")
        yield f"  %a{n}_{k} = getelementptr i8, ptr %{base}, i64 {offset}"
    yield f"  %r{n} = call i32 @{symbol}({''.join(arguments)}{THREAD_PARAMETERS})"
    if can_fail(step.kernel):
        yield f"  %ok{n} = icmp eq i32 %r{n}, 0"
        yield f"  br i1 %ok{n}, label %next{n}, label %bad{n}"
        yield f"bad{n}:"
        yield f"  call void @lithe_fail(i32 %thread, i32 %r{n}, ptr %sync)"
        yield f"  br label %{end}"
        yield f"next{n}:"


def can_fail(kernel: Kernel) -> bool:
    return any(isinstance(s, Call) and s.name == "fail_unless" for s in statements(kernel.body))
