"""What is said about this processor agrees with LLVM, and what the system hides is not used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from lithe.targets import host as host_module
from lithe.targets.host import Host, describe, host, saved_state, usable_cores

BARE = Host("x86_64", "linux")

# The flags line of an Emerald Rapids core, shortened to what matters here.
INTEL = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 207
model name\t: INTEL(R) XEON(R) PLATINUM 8581C
flags\t\t: fpu cx8 cmov mmx fxsr sse sse2 pni ssse3 sse4_1 sse4_2 fma avx f16c avx2 bmi1 bmi2 abm avx512f avx512bw \
avx512_vnni avx_vnni amx_bf16 amx_tile amx_int8 vaes lahf_lm unknown_flag
power management:

"""
ARM = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd aes crc32 atomics fphp asimdhp asimddp i8mm bf16
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd40

processor\t: 1
Features\t: fp asimd aes crc32 atomics fphp asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd05

"""


def test_features_agree_with_llvm():
    llvm = pytest.importorskip("llvmlite.binding")
    theirs = {name for name, has in llvm.get_host_cpu_features().items() if has}
    ours = host().features
    if not ours:
        pytest.skip("this system does not tell the features of its processor")
    assert ours <= theirs
    # Features that change nothing in the code that is generated.
    idle = {"64bit", "clzero", "invpcid", "shstk", "xsaves", "mwaitx", "pku", "wbnoinvd", "rdpru", "ptwrite", "sgx"}
    idle |= {"waitpkg", "serialize", "cldemote", "movdiri", "movdir64b", "enqcmd", "uintr", "tsxldtrk", "rtm", "hreset"}
    idle |= {"pconfig", "kl", "widekl", "prefetchi", "cmpccxadd", "xop", "fma4", "lwp", "tbm", "usermsr", "sha512"}
    idle |= {"sm3", "sm4", "fp-armv8", "v8a", "outline-atomics", "evex512"}
    assert theirs - ours <= idle | {f for f in theirs if f.startswith("avx10")}


def test_llvm_knows_every_feature_name():
    llvm = pytest.importorskip("llvmlite.binding")
    if host().architecture != "x86_64":
        pytest.skip("the names are those of x86-64")
    known = set(llvm.get_host_cpu_features())
    assert {*host_module._X86_RENAMED.values(), *host_module._X86_SAME} <= known


def test_the_triple_is_a_target_of_llvm():
    llvm = pytest.importorskip("llvmlite.binding")
    llvm.initialize_native_target()
    assert llvm.Target.from_triple(host().triple).name.startswith(host().architecture.split("_")[0])


def test_flags_become_features():
    found = describe(INTEL, BARE, None)
    assert (found.vendor, found.family, found.model) == ("GenuineIntel", 6, 207)
    assert found.has("sse3", "sse4.2", "crc32", "lzcnt", "bmi", "sahf", "avx512vnni", "avxvnni", "amx-int8")
    assert not found.has("avx512f", "avx512vbmi")
    assert "unknown_flag" not in found.features
    assert found.feature_string.startswith("+amx-bf16,+amx-int8,+amx-tile,+avx,")


@pytest.mark.parametrize(
    ("saved", "gone", "kept"),
    [
        (0x600E7, set(), {"amx-tile", "avx512f", "avx2"}),
        (0x000E7, {"amx-tile", "amx-int8", "amx-bf16"}, {"avx512f", "avx2"}),
        (0x00007, {"amx-tile", "avx512f", "avx512vnni"}, {"avx2", "fma"}),
        (0x00003, {"amx-tile", "avx512f", "avx2", "avx", "avxvnni", "fma", "f16c", "vaes"}, {"sse4.2", "bmi"}),
    ],
)
def test_registers_that_the_system_does_not_save_are_not_used(saved, gone, kept):
    features = describe(INTEL, BARE, saved).features
    assert not features & gone
    assert kept <= features


def test_what_only_some_cores_have_is_not_used():
    found = describe(ARM, replace(BARE, architecture="aarch64"), None)
    assert found.has("neon", "dotprod", "fullfp16", "lse")
    assert not found.features & {"i8mm", "bf16"}
    assert (found.vendor, found.family, found.model) == ("0x41", 8, 0xD40)


@pytest.mark.parametrize("text", ["", "nonsense", "a: b\n\nflags", "\0\xff:\n\n:"])
def test_a_strange_cpuinfo_is_the_baseline(text):
    assert describe(text, BARE, None) == BARE


def test_an_unknown_architecture_is_the_baseline():
    bare = replace(BARE, architecture="riscv64")
    assert describe(INTEL, bare, None) == bare
    assert bare.triple == "riscv64-unknown-linux-gnu"
    assert replace(bare, system="plan9").triple == "riscv64-unknown-unknown-elf"


def test_numbers_that_are_none_count_as_zero():
    assert describe(INTEL.replace("207", "unknown"), BARE, None).model == 0


def test_another_system_or_no_cpuinfo_is_the_baseline(monkeypatch, tmp_path):
    read = host_module.host.__wrapped__
    monkeypatch.setattr(host_module, "CPUINFO", tmp_path / "none")
    assert read().features == frozenset()
    assert read().cores == usable_cores()
    monkeypatch.setattr(host_module.sys, "platform", "darwin")
    assert read().features == frozenset()
    assert read().triple.endswith("-apple-darwin-elf")
    assert saved_state() is None


@pytest.mark.parametrize("granted", [True, False])
def test_tiles_that_the_system_does_not_grant_are_not_used(monkeypatch, tmp_path, granted):
    asked = []
    (tmp_path / "cpuinfo").write_text(INTEL)
    monkeypatch.setattr(host_module, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(host_module, "_architecture", lambda: "x86_64")
    monkeypatch.setattr(host_module, "saved_state", lambda: 0x600E7)
    monkeypatch.setattr(host_module, "tiles_granted", lambda: asked.append(1) or granted)
    monkeypatch.setattr(host_module.sys, "platform", "linux")
    found = host_module.host.__wrapped__()
    assert asked == [1]
    assert found.has("amx-tile", "amx-int8", "amx-bf16") == granted
    assert found.has("avx512vnni")
    assert (found.fingerprint() == describe(INTEL, BARE, 0x600E7).fingerprint()) == granted


def test_a_process_without_tiles_does_not_ask_for_them(monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(re.sub("amx_[a-z0-9]+ ", "", INTEL))
    monkeypatch.setattr(host_module, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(host_module, "tiles_granted", lambda: pytest.fail("asked"))
    assert not host_module.host.__wrapped__().has("amx-tile")


def test_a_system_without_tiles_grants_none():
    if sys.platform != "linux" or host().architecture != "x86_64":
        pytest.skip("the question is one of Linux on x86-64")
    assert host_module.tiles_granted() == host().has("amx-tile")


def test_the_fingerprint_tells_machines_apart():
    one = describe(INTEL, BARE, None)
    assert one.fingerprint() == describe(INTEL * 64, BARE, None).fingerprint()
    others = [
        describe(INTEL, BARE, 0xE7),
        describe(INTEL.replace("207", "143"), BARE, None),
        describe(INTEL, replace(BARE, system="win32"), None),
        describe(INTEL.replace(" vaes", ""), BARE, None),
    ]
    assert len({h.fingerprint() for h in [one, *others]}) == 5


def test_a_stamp_names_the_machine_as_its_fingerprint_does(monkeypatch, tmp_path):
    stamp, line = host_module.machine_stamp.__wrapped__, tmp_path / "modalias"
    monkeypatch.setattr(host_module, "MODALIAS", line)
    assert stamp() == host().fingerprint()
    line.write_text("cpu:type:aarch64:feature:,0000,0001")
    assert stamp() == host().fingerprint()
    found = []
    for features in (",0000,0017", ",0000,0018", ",0000,0017,0258"):
        line.write_text(f"cpu:type:x86,ven0000fam0006mod00CF:feature:{features}\n")
        for granted in (True, False):
            monkeypatch.setattr(host_module, "tiles_granted", lambda granted=granted: granted)
            found.append(stamp())
    assert [found.index(f) for f in found] == [0, 0, 2, 2, 4, 5]  # tiles count where there are some
    assert host().fingerprint() not in found


def test_the_number_of_tiles_is_theirs():
    try:
        line = host_module._read(host_module.MODALIAS)
    except OSError:
        pytest.skip("this system does not list features by number")
    flags = re.search(r"^flags\s*:(.*)", host_module._read(host_module.CPUINFO), re.MULTILINE)
    if flags is None:
        pytest.skip("no flags of x86")
    assert (host_module._TILES in line) == ("amx_tile" in flags[1].split())


def test_the_fingerprint_is_the_same_in_every_process():
    code = "from lithe.targets.host import host; print(host().fingerprint())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == host().fingerprint()


def test_a_container_quota_limits_the_cores(monkeypatch, tmp_path):
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(host_module, "CPU_QUOTA", quota)
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(host_module.os, "sched_getaffinity", lambda _: set(range(8)))
    else:
        monkeypatch.setattr(host_module.os, "cpu_count", lambda: 8)
    assert usable_cores() == 8
    for text, cores in (("max 100000", 8), ("250000 100000", 3), ("1000 100000", 1), ("1 0", 8), ("?", 8), ("", 8)):
        quota.write_text(text)
        assert usable_cores() == cores


def test_cache_sizes_are_read_as_bytes(tmp_path):
    kinds = [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K"), ("3", "Unified", "260M")]
    for n, values in enumerate([*kinds, ("4", "Unified", "?")]):
        (tmp_path / f"index{n}").mkdir()
        for name, value in zip(("level", "type", "size"), values, strict=True):
            (tmp_path / f"index{n}" / name).write_text(value + "\n")
    (tmp_path / "index9").mkdir()
    assert host_module._caches(tmp_path) == {1: 48 << 10, 2: 2 << 20, 3: 260 << 20}
    assert host_module._caches(tmp_path / "absent") == {}


def test_reading_the_host_imports_no_llvm():
    code = "import sys; from lithe.targets.host import host; host(); print('llvmlite' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
