"""Start-up, help, exit codes, and what goes to which stream."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest

from lithe.cli import main as entry
from lithe.cli import output
from lithe.cli.files import read_bytes, write_whole
from lithe.errors import (
    CompileError,
    FileMissing,
    InputError,
    LitheError,
    MissingDependency,
    ModelError,
    UnsupportedOp,
)
from tests.cli.conftest import Command


def test_help_lists_every_verb(lithe: Command) -> None:
    for arguments in ((), ("--help",), ("-h",)):
        ended = lithe(*arguments)
        assert ended.code == 0
        assert all(f"\n  {verb} " in ended.out for verb in entry.VERBS)


@pytest.mark.parametrize("verb", entry.VERBS)
def test_every_verb_has_help_and_json(lithe: Command, verb: str) -> None:
    ended = lithe(verb, "--help")
    assert ended.code == 0
    assert "Usage: lithe" in ended.out
    assert "--json" in (ended.out if verb != "cache" else lithe("cache", "list", "--help").out)


def test_start_up_imports_no_numpy() -> None:
    code = (
        "import sys; from lithe.cli.main import main; main(['--help']); main(['run', '--help']); "
        "sys.exit(bool({'numpy', 'llvmlite', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_the_package_itself_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "lithe", "--version"], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("lithe ")
    done = subprocess.run([sys.executable, "-m", "lithe", "nothing"], capture_output=True, text=True, check=False)
    assert done.returncode == 2


def test_version(lithe: Command) -> None:
    assert lithe("--version").out.startswith("lithe ")
    assert lithe("--version", "--json").json["schema"] == "lithe.version/1"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MissingDependency("no pillow"), 3),
        (ModelError("bad"), 4),
        (UnsupportedOp("no op"), 4),
        (FileMissing("gone"), 4),
        (InputError("shape"), 4),
        (CompileError("hung"), 1),
        (LitheError("other"), 1),
        (click.UsageError("which?"), 2),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
    ],
)
def test_exit_codes(lithe: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(entry.lithe, "main", fail)
    ended = lithe("run")
    assert ended.code == code
    assert ended.out == ""
    if isinstance(error, LitheError):
        assert ended.err == f"error: {error}\n"


def test_errors_that_are_not_ours_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(entry.lithe, "main", fail)
    with pytest.raises(ZeroDivisionError):
        entry.main([])


def test_wrong_verb_and_option_are_usage_errors(lithe: Command) -> None:
    assert lithe("fly").code == 2
    assert lithe("run").code == 2
    assert lithe("demo", "--sideways").code == 2


def test_missing_and_bad_model_files(lithe: Command, tmp_path: Path) -> None:
    ended = lithe("run", tmp_path / "none.tflite")
    assert ended.code == 4
    assert "none.tflite" in ended.err
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"this is no model")
    for verb in ("run", "inspect", "benchmark"):
        ended = lithe(verb, bad)
        assert ended.code == 4
        assert ended.err.startswith("error: ")


def test_closed_pipe_is_quiet() -> None:
    command = f"{sys.executable} -c 'import sys; from lithe.cli.main import main; sys.exit(main())' completion bash"
    script = f"set -o pipefail; {command} | true; echo $?"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() in ("141", "0")  # 0 where everything fitted into the pipe before it closed
    assert "Traceback" not in done.stderr


def test_broken_pipe_ends_with_141() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = "import sys; from lithe.cli.main import main; sys.exit(main(['completion', 'bash']))"
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == ""


def test_a_pipe_that_closes_inside_of_a_verb_is_said_by_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError("the reader went away")

    monkeypatch.setattr(click.Group, "invoke", broken)
    with pytest.raises(entry.PipeClosed) as caught:
        entry.lithe.invoke(click.Context(entry.lithe))
    assert str(caught.value.__cause__) == "the reader went away"


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_interrupt_ends_with_130() -> None:
    code = (
        "import signal, sys; from lithe.cli.main import main; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); "  # a shell's background jobs ignore it
        "print('ready', flush=True); sys.exit(main(['validate', '-']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        timer = threading.Timer(1.0, child.send_signal, (signal.SIGINT,))
        timer.start()
        try:
            assert child.wait(timeout=30) == 130
        finally:
            timer.cancel()
            child.kill()


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    write_whole(target, lambda file: file.write(b"all") and None)
    assert target.read_bytes() == b"all"

    def fails(file: object) -> None:
        raise InputError("half way")

    with pytest.raises(InputError, match="half way"):
        write_whole(target, fails)
    assert target.read_bytes() == b"all"
    assert [p.name for p in tmp_path.iterdir()] == ["out.bin"]
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / "no" / "out.bin", lambda file: None)
    with pytest.raises(FileMissing, match="cannot be opened"):
        read_bytes(tmp_path / "absent")


def test_sizes_for_people() -> None:
    assert [output.bytes_text(n) for n in (0, 999, 1000, 1_500_000, 2_000_000_000)] == [
        "0 B", "999 B", "1.0 kB", "1.5 MB", "2.0 GB",
    ]  # fmt: skip


def test_progress_shows_on_a_terminal_only(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "PATIENCE_S", 0.0)
    with output.working("thinking"):
        pass
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("LITHE_NO_PROGRESS", "1")
    with output.working("thinking"):
        pass
    assert capfd.readouterr().err == ""
