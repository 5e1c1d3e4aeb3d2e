"""How the threads of one inference start, meet and end, as LLVM IR text: the only code here with atomics.

Every kernel and every entry takes, after its pointers, THREAD_PARAMETERS: the number of the thread that runs it,
how many threads there are, and their synchronisation block of SYNC_BYTES bytes, zeroed before its first use. The
functions:

    i32  lithe_run(entry, arena, constants, threads, sync)   thread 0: starts a run of `entry`; its result
    void lithe_worker(thread, threads, sync)                 the others: takes part in runs until lithe_stop
    void lithe_stop(sync)                                    ends the workers
    i32  lithe_alone()                                       a run by one thread (see `print_alone`)
    void lithe_barrier(threads, sync)                        returns when every thread has called it
    void lithe_fail(thread, code, sync)                      the run is to end with this failure
    i32  lithe_failure(sync)                                 that failure, of the first thread that has one; 0: none
    i32  lithe_flush()                                       from now on, results too small for a normal float are 0
    void lithe_unflush(before)                               what `lithe_flush` found is so again

Who waits spins for some ten microseconds, and then sleeps: a core may be needed by another program, or by the very
thread that is waited for. On Linux it sleeps in a futex, elsewhere for a moment at a time.
"""

from __future__ import annotations

THREAD_PARAMETERS = "i32 %thread, i32 %threads, ptr %sync"
THREAD_TYPES = "i32, i32, ptr"
DECLARATIONS = (
    "declare void @lithe_barrier(i32, ptr)",
    "declare void @lithe_fail(i32, i32, ptr)",
    "declare i32 @lithe_failure(ptr)",
    "declare i32 @lithe_flush()",
    "declare void @lithe_unflush(i32)",
)
SYNC_BYTES = 512
MEMORY = ("lithe_arena", "lithe_constants", "lithe_sync")  # what `lithe_alone` works in
SPINS = 2000  # pauses of 20 to 50 ns each
SYSTEM_CALLS = {"x86_64": 202, "aarch64": 98}  # futex, by architecture
PAUSES = {
    "x86_64": ("call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()"),
    "aarch64": ("call void @llvm.aarch64.hint(i32 1)", "declare void @llvm.aarch64.hint(i32)"),
}

# How a thread's floating point is set up, by architecture: the bit that makes results 0 which are too small for a
# normal number (FTZ of MXCSR; numbers of inputs stay what they are), and how its register is read and written.
FLUSHES = {"x86_64": (1 << 15, "llvm.x86.sse.stmxcsr", "llvm.x86.sse.ldmxcsr")}

# Of the block's words, each on cache lines of its own; a word that is waited for has the number of sleepers after it.
ARRIVED, PHASE, GENERATION, FAILURE, STOP, ENTRY, ARENA, CONSTANTS = 0, 64, 128, 192, 256, 320, 328, 336


def outside_functions(system: str, architecture: str) -> tuple[str, ...]:
    """Names of the functions that the text calls and does not define: of the C library, or see `lithe_sleep`."""
    return ("syscall",) if system == "linux" and architecture in SYSTEM_CALLS else ("lithe_sleep",)


def print_alone(entry: str) -> str:
    """`lithe_alone` as text, to follow `print_threads`: a run of `entry` by one thread, in the memory of `MEMORY`.

    Whoever loads the code defines these names. A call without arguments takes a third of the time from Python.
    """
    arena, constants, sync = MEMORY
    return f"""
@{arena} = external global i8
@{constants} = external global i8
@{sync} = external global i8
declare i32 @{entry}(ptr, ptr, {THREAD_TYPES})
define i32 @lithe_alone() nounwind {{
  %code = call i32 @lithe_run(ptr @{entry}, ptr @{arena}, ptr @{constants}, i32 1, ptr @{sync})
  ret i32 %code
}}
"""


def print_flushes(architecture: str) -> str:
    """`lithe_flush` and `lithe_unflush` as text; they do nothing where small numbers cost no time.

    Processors of x86 may take a hundred times as long for a product with a number smaller than a normal one, and
    products of small probabilities are full of them.
    """
    if architecture not in FLUSHES:
        return """
define i32 @lithe_flush() nounwind {
  ret i32 0
}
define void @lithe_unflush(i32 %mode) nounwind {
  ret void
}
"""
    bit, read, write = FLUSHES[architecture]
    return f"""
declare void @{read}(ptr)
declare void @{write}(ptr)
define i32 @lithe_flush() nounwind {{
  %place = alloca i32, align 4
  call void @{read}(ptr %place)
  %mode = load i32, ptr %place, align 4
  %flushing = or i32 %mode, {bit}
  store i32 %flushing, ptr %place, align 4
  call void @{write}(ptr %place)
  ret i32 %mode
}}
define void @lithe_unflush(i32 %mode) nounwind {{
  %place = alloca i32, align 4
  store i32 %mode, ptr %place, align 4
  call void @{write}(ptr %place)
  ret void
}}
"""


def print_threads(system: str, architecture: str) -> str:
    """The functions as text. `void lithe_sleep(i32)`, where it is called, sleeps for a moment: usleep, or Sleep."""
    pause, declaration = PAUSES.get(architecture, ("", ""))
    if "syscall" in outside_functions(system, architecture):
        number = SYSTEM_CALLS[architecture]  # operations 128 and 129: wait and wake within this process
        sleep = f"call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i64 128, i64 %value, ptr null)"
        wake = f"call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i64 129, i64 2147483647)"
        declaration += "\ndeclare i64 @syscall(i64, ...)"
    else:
        sleep, wake = "call void @lithe_sleep(i32 1)", ""
        declaration += "\ndeclare void @lithe_sleep(i32)"
    return f"""
define internal void @lithe_await(ptr %word, i32 %old) nounwind {{
entry:
  %sleepers = getelementptr i8, ptr %word, i64 4
  %value = zext i32 %old to i64
  br label %spin
spin:
  %n = phi i32 [0, %entry], [%m, %again]
  %seen = load atomic i32, ptr %word acquire, align 4
  %changed = icmp ne i32 %seen, %old
  br i1 %changed, label %done, label %again
again:
  {pause}
  %m = add i32 %n, 1
  %more = icmp ult i32 %m, {SPINS}
  br i1 %more, label %spin, label %sleep
sleep:
  %slept = atomicrmw add ptr %sleepers, i32 1 seq_cst
  {sleep}
  %woke = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  %found = load atomic i32, ptr %word acquire, align 4
  %ready = icmp ne i32 %found, %old
  br i1 %ready, label %done, label %sleep
done:
  ret void
}}
define internal void @lithe_announce(ptr %word, i32 %next) nounwind {{
entry:
  %sleepers = getelementptr i8, ptr %word, i64 4
  %old = atomicrmw xchg ptr %word, i32 %next seq_cst
  %count = load atomic i32, ptr %sleepers seq_cst, align 4
  %some = icmp ne i32 %count, 0
  br i1 %some, label %wake, label %done
wake:
  {wake}
  br label %done
done:
  ret void
}}
define void @lithe_barrier(i32 %threads, ptr %sync) nounwind {{
entry:
  %alone = icmp eq i32 %threads, 1
  br i1 %alone, label %done, label %meet
meet:
  %arrived = getelementptr i8, ptr %sync, i64 {ARRIVED}
  %word = getelementptr i8, ptr %sync, i64 {PHASE}
  %phase = load atomic i32, ptr %word monotonic, align 4
  %before = atomicrmw add ptr %arrived, i32 1 acq_rel
  %now = add i32 %before, 1
  %last = icmp eq i32 %now, %threads
  br i1 %last, label %open, label %wait
open:
  store atomic i32 0, ptr %arrived monotonic, align 4
  %next = add i32 %phase, 1
  call void @lithe_announce(ptr %word, i32 %next)
  br label %done
wait:
  call void @lithe_await(ptr %word, i32 %phase)
  br label %done
done:
  ret void
}}
define void @lithe_fail(i32 %thread, i32 %code, ptr %sync) nounwind {{
entry:
  %place = getelementptr i8, ptr %sync, i64 {FAILURE}
  %high = zext i32 %thread to i64
  %low = zext i32 %code to i64
  %shifted = shl i64 %high, 32
  %key = or i64 %shifted, %low
  %before = atomicrmw umin ptr %place, i64 %key acq_rel
  ret void
}}
define i32 @lithe_failure(ptr %sync) nounwind {{
entry:
  %place = getelementptr i8, ptr %sync, i64 {FAILURE}
  %key = load atomic i64, ptr %place monotonic, align 8
  %code = trunc i64 %key to i32
  %none = icmp eq i64 %key, -1
  %result = select i1 %none, i32 0, i32 %code
  ret i32 %result
}}
define i32 @lithe_run(ptr %entry, ptr %arena, ptr %constants, i32 %threads, ptr %sync) nounwind {{
start:
  %failure = getelementptr i8, ptr %sync, i64 {FAILURE}
  store i64 -1, ptr %failure, align 8
  %alone = icmp eq i32 %threads, 1
  br i1 %alone, label %run, label %call
call:
  %job = getelementptr i8, ptr %sync, i64 {ENTRY}
  %job_arena = getelementptr i8, ptr %sync, i64 {ARENA}
  %job_constants = getelementptr i8, ptr %sync, i64 {CONSTANTS}
  store ptr %entry, ptr %job, align 8
  store ptr %arena, ptr %job_arena, align 8
  store ptr %constants, ptr %job_constants, align 8
  %word = getelementptr i8, ptr %sync, i64 {GENERATION}
  %before = load atomic i32, ptr %word monotonic, align 4
  %next = add i32 %before, 1
  call void @lithe_announce(ptr %word, i32 %next)
  br label %run
run:
  %code = call i32 %entry(ptr %arena, ptr %constants, i32 0, i32 %threads, ptr %sync)
  ret i32 %code
}}
define void @lithe_worker(i32 %thread, i32 %threads, ptr %sync) nounwind {{
entry:
  %word = getelementptr i8, ptr %sync, i64 {GENERATION}
  %stop = getelementptr i8, ptr %sync, i64 {STOP}
  %job = getelementptr i8, ptr %sync, i64 {ENTRY}
  %job_arena = getelementptr i8, ptr %sync, i64 {ARENA}
  %job_constants = getelementptr i8, ptr %sync, i64 {CONSTANTS}
  br label %wait
wait:
  %old = phi i32 [0, %entry], [%now, %work]
  call void @lithe_await(ptr %word, i32 %old)
  %now = load atomic i32, ptr %word acquire, align 4
  %told = load atomic i32, ptr %stop acquire, align 4
  %ended = icmp ne i32 %told, 0
  br i1 %ended, label %done, label %work
work:
  %run = load ptr, ptr %job, align 8
  %arena = load ptr, ptr %job_arena, align 8
  %constants = load ptr, ptr %job_constants, align 8
  %code = call i32 %run(ptr %arena, ptr %constants, i32 %thread, i32 %threads, ptr %sync)
  br label %wait
done:
  ret void
}}
define void @lithe_stop(ptr %sync) nounwind {{
entry:
  %stop = getelementptr i8, ptr %sync, i64 {STOP}
  store atomic i32 1, ptr %stop release, align 4
  %word = getelementptr i8, ptr %sync, i64 {GENERATION}
  %before = load atomic i32, ptr %word monotonic, align 4
  %next = add i32 %before, 1
  call void @lithe_announce(ptr %word, i32 %next)
  ret void
}}
{declaration}
""" + print_flushes(architecture)
