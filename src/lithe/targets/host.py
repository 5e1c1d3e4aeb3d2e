"""The processor that this process runs on, read from the system in about a millisecond.

Nothing is imported for it; asking LLVM instead costs a tenth of a second. Linux reports, for each core, the
features that both the processor has and the kernel has switched on (a kernel that does not save the AVX-512 or AMX
registers hides those features). What is not known here counts as absent, which costs speed and never correctness.

Sources: arch/x86/include/asm/cpufeatures.h and arch/arm64/kernel/cpuinfo.c of Linux (the names in /proc/cpuinfo);
llvm/lib/TargetParser/Host.cpp (which of them are one feature of LLVM).
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256

CPUINFO = "/proc/cpuinfo"
CACHES = "/sys/devices/system/cpu/cpu0/cache"
MODALIAS = "/sys/devices/system/cpu/modalias"
CPU_QUOTA = "/sys/fs/cgroup/cpu.max"

# Name in /proc/cpuinfo -> name in LLVM, where they differ only. Below are those that are the same.
_X86_RENAMED = {
    "pni": "sse3", "sse4_1": "sse4.1", "sse4_2": "sse4.2", "pclmulqdq": "pclmul", "abm": "lzcnt", "bmi1": "bmi",
    "lahf_lm": "sahf", "rdrand": "rdrnd", "sha_ni": "sha", "3dnowprefetch": "prfchw", "avx512_bf16": "avx512bf16",
    "avx512_bitalg": "avx512bitalg", "avx512_fp16": "avx512fp16", "avx512_vbmi2": "avx512vbmi2",
    "avx512_vnni": "avx512vnni", "avx512_vp2intersect": "avx512vp2intersect",
    "avx512_vpopcntdq": "avx512vpopcntdq", "avx_vnni": "avxvnni", "avx_ifma": "avxifma",
    "avx_vnni_int8": "avxvnniint8", "avx_vnni_int16": "avxvnniint16", "avx_ne_convert": "avxneconvert",
    "amx_bf16": "amx-bf16", "amx_int8": "amx-int8", "amx_tile": "amx-tile", "amx_fp16": "amx-fp16",
    "amx_complex": "amx-complex",
}  # fmt: skip
_X86_SAME = {
    "adx", "aes", "avx", "avx2", "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512ifma", "avx512vbmi",
    "avx512vl", "bmi2", "clflushopt", "clwb", "cmov", "cx16", "cx8", "f16c", "fma", "fsgsbase", "fxsr", "gfni",
    "movbe", "mmx", "popcnt", "rdpid", "rdseed", "sse", "sse2", "sse4a", "ssse3", "vaes", "vpclmulqdq", "xsave",
    "xsavec", "xsaveopt",
}  # fmt: skip
_ARM_RENAMED = {
    "asimd": "neon", "fp": "fp-armv8", "asimddp": "dotprod", "asimdhp": "fullfp16", "asimdfhm": "fp16fml",
    "atomics": "lse", "crc32": "crc", "asimdrdm": "rdm", "lrcpc": "rcpc", "i8mm": "i8mm", "bf16": "bf16", "sve": "sve",
    "sve2": "sve2",
}  # fmt: skip

# Bits of the register file's parts that the kernel saves for a process (XCR0, Intel SDM vol. 1, 13.3).
_AVX, _AVX512, _AMX = 0b110, 0b11100110, 0b11 << 17
_ARCH_PRCTL, _ARCH_GET_XCOMP_SUPP, _ARCH_REQ_XCOMP_PERM = 158, 0x1021, 0x1023
_XTILEDATA = 18  # the tiles among those parts
_TILES = f",{18 * 32 + 24:04X}"  # the feature's number, which is a place in what CPUID tells (cpufeatures.h)


@dataclass(frozen=True)
class Host:
    """What code for this machine may use.

    features  LLVM's names; empty where they are not known, which is the baseline of the architecture.
    """

    architecture: str
    system: str
    vendor: str = ""
    family: int = 0
    model: int = 0
    name: str = ""
    features: frozenset[str] = frozenset()

    @property
    def cores(self) -> int:
        """Cores that this process may use at once; read when asked for, as `caches` is."""
        return usable_cores()

    @property
    def caches(self) -> dict[int, int]:
        """Bytes of each data or shared cache of a core by level, {1: 49152, 2: 2097152, ...}; may be empty.

        Read when it is asked for, which a model whose code is kept does not.
        """
        return _caches(CACHES)

    @property
    def triple(self) -> str:
        """The target for LLVM. Objects are ELF on every system, since they never leave this process."""
        ends = {"linux": "unknown-linux-gnu", "darwin": "apple-darwin-elf", "win32": "pc-windows-msvc-elf"}
        return f"{self.architecture}-{ends.get(self.system, 'unknown-unknown-elf')}"

    @property
    def feature_string(self) -> str:
        """The features as LLVM reads them, for a target machine without a processor name."""
        return ",".join(f"+{name}" for name in sorted(self.features))

    def has(self, *features: str) -> bool:
        return self.features.issuperset(features)

    def fingerprint(self) -> str:
        """Names the machines that may share compiled code: same on two of them only if all features are."""
        facts = (self.triple, self.vendor, str(self.family), str(self.model), self.feature_string)
        return sha256("\n".join(facts).encode()).hexdigest()


@lru_cache(None)
def machine_stamp() -> str:
    """Names this machine, for keys of kept code: `Host.fingerprint`, or what takes a fifth of the time to read.

    That is one line of the kernel's: maker, family and model of the processor and the numbers of all features that its
    cores share. What the numbers mean depends on the kernel alone. (arch/x86/kernel/cpu/match.c and common.c of Linux.)
    As `host` does, it asks for the tiles of AMX: what the key finds may use them.
    """
    try:
        text = _read(MODALIAS)
    except OSError:
        text = ""
    if not text.startswith("cpu:type:x86,"):
        return host().fingerprint()
    kernel = os.uname()
    return repr((text, kernel.release, kernel.version, _TILES in text and tiles_granted()))


@lru_cache(None)
def host() -> Host:
    """This machine. Read once, which is also when this process asks the system for the tiles of AMX.

    Code that uses them is named by `fingerprint`, so no process runs such code, compiled here or kept, without having
    asked; nor can its threads have started. A process made by `fork` has what this one has.
    """
    architecture = _architecture()
    facts = Host(architecture, sys.platform)
    if sys.platform != "linux":
        return facts
    try:
        text = _read(CPUINFO)
    except OSError:  # not mounted in this container
        return facts
    found = describe(text, facts, saved_state())
    if found.has("amx-tile") and not tiles_granted():
        found = replace(found, features=frozenset(f for f in found.features if not f.startswith("amx")))
    return found


def describe(cpuinfo: str, facts: Host, saved: int | None) -> Host:
    """`facts` with what the text of /proc/cpuinfo adds; `saved` as from `saved_state`.

    Cores can differ (big and little ones): what not all of them have does not count.
    """
    lists = {line for line in cpuinfo.splitlines() if line.startswith(("flags", "Features"))}  # one, if all are alike
    if not lists:
        return facts
    common = set.intersection(*(set(line.partition(":")[2].split()) for line in lists))
    first = next(_fields(core) for core in cpuinfo.split("\n\n") if not lists.isdisjoint(core.splitlines()))
    if facts.architecture == "x86_64":
        features = {_X86_RENAMED[flag] for flag in common & _X86_RENAMED.keys()} | (common & _X86_SAME)
        if "sse4.2" in features:
            features.add("crc32")  # LLVM's name for one instruction of SSE 4.2
        features = _without_unsaved(features, saved)
        vendor, family, model = first.get("vendor_id", ""), first.get("cpu family", ""), first.get("model", "")
    elif facts.architecture == "aarch64":
        features = {_ARM_RENAMED[flag] for flag in common & _ARM_RENAMED.keys()}
        vendor, family, model = (first.get(n, "") for n in ("CPU implementer", "CPU architecture", "CPU part"))
    else:
        return facts
    return Host(
        facts.architecture,
        facts.system,
        vendor,
        _number(family),
        _number(model),
        first.get("model name", ""),
        frozenset(features),
    )


@lru_cache(None)
def c_library() -> ctypes.CDLL:
    """The C library of this process; the functions that are taken from it know `ctypes.get_errno`."""
    return ctypes.CDLL(None, use_errno=True)


def saved_state() -> int | None:
    """The register parts that the kernel saves for this process (as XCR0 has them); None when it does not tell.

    A second opinion on AVX-512 and AMX beside /proc/cpuinfo. Linux 5.16 and later.
    """
    if sys.platform != "linux" or _architecture() != "x86_64":
        return None
    mask = ctypes.c_uint64()
    call = c_library().syscall
    failed = call(ctypes.c_long(_ARCH_PRCTL), ctypes.c_long(_ARCH_GET_XCOMP_SUPP), ctypes.byref(mask))
    return None if failed else mask.value


def tiles_granted() -> bool:
    """Asks Linux for the tiles of AMX, and says whether this process may use them from now on.

    Tiles are 8 KiB that every thread which uses them needs more room for, on its stack of signals too; so a process
    must ask (Documentation/arch/x86/xstate.rst). The system says no where a thread has a small stack for signals.
    """
    call = c_library().syscall
    return not call(ctypes.c_long(_ARCH_PRCTL), ctypes.c_long(_ARCH_REQ_XCOMP_PERM), ctypes.c_long(_XTILEDATA))


def usable_cores() -> int:
    """Cores that this process may use at once."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _read(CPU_QUOTA).split()
        count = min(count, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max": no limit
        pass
    return max(1, count)


def _architecture() -> str:
    name = os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")
    name = name.lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def _fields(block: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return 0


def _without_unsaved(features: set[str], saved: int | None) -> set[str]:
    """Features less those whose registers would be lost at a switch of threads."""
    if saved is None:
        return features
    if saved & _AVX512 != _AVX512:
        features = {f for f in features if not f.startswith("avx512")}
    if saved & _AVX != _AVX:
        features = {f for f in features if not f.startswith("avx") and f not in ("fma", "f16c", "vaes", "vpclmulqdq")}
    if saved & _AMX != _AMX:
        features = {f for f in features if not f.startswith("amx")}
    return features


def _read(path: str) -> str:
    file = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(file, 1 << 16), b"")).decode(errors="replace")
    finally:
        os.close(file)


def _caches(folder: str) -> dict[int, int]:
    sizes: dict[int, int] = {}
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    for index in sorted(os.listdir(folder) if os.path.isdir(folder) else ()):
        try:
            level, kind, size = (_read(f"{folder}/{index}/{name}").strip() for name in ("level", "type", "size"))
            if kind != "Instruction":
                sizes[int(level)] = int(size.rstrip("KMG")) * units.get(size[-1:], 1)
        except (OSError, ValueError):
            continue
    return sizes
