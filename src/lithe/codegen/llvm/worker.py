"""The process that holds LLVM: text of LLVM IR comes in on stdin, object files go out on stdout.

LLVM runs here and not in the user's process because it can loop forever on legal input, and because its
wheel has assertions switched on, which end the process. The file is started by its path and imports nothing
of Lithe, so that a worker is ready as soon as LLVM is loaded:

    python -I -S worker.py FOLDER_THAT_HOLDS_LLVMLITE

    job     u32 length, JSON of settings; u32 length, IR text (UTF-8)
    answer  u8 status (0 object, 1 error text), u32 length, bytes

Numbers are little endian. The settings are those of `toolchain.Settings`, and `seconds`: the worker ends itself
a little after that time, in case the parent is not there any more to do it. End of input ends the worker, and so do
IDLE_SECONDS without a first job: it may have been started for a model that is not compiled after all.
"""

import json
import os
import signal
import struct
import sys
from typing import IO, Any

OBJECT, ERROR = 0, 1
IDLE_SECONDS = 20


def read_exactly(stream: IO[bytes], count: int) -> bytes:
    """`count` bytes; fewer only where the stream ends."""
    parts = []
    while count and (part := stream.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_block(stream: IO[bytes]) -> bytes | None:
    """One block with its length before it; None where the stream ends."""
    head = read_exactly(stream, 4)
    if len(head) < 4:
        return None
    (length,) = struct.unpack("<I", head)
    body = read_exactly(stream, length)
    return body if len(body) == length else None


class Backend:
    """LLVM, started once, and the target machines made so far."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.llvm = llvm
        self.every_target = False
        self.machines: dict[tuple, Any] = {}

    def machine(self, settings: dict[str, Any]) -> Any:
        names = ("triple", "cpu", "features", "opt", "reloc", "codemodel", "abi")
        key = tuple(settings[name] for name in names)
        if key not in self.machines:
            try:
                target = self.llvm.Target.from_triple(settings["triple"])
            except RuntimeError:
                if self.every_target:
                    raise
                self.llvm.initialize_all_targets()
                self.llvm.initialize_all_asmprinters()
                self.every_target = True
                target = self.llvm.Target.from_triple(settings["triple"])
            _, cpu, features, opt, reloc, model, abi = key
            self.machines[key] = target.create_target_machine(
                cpu=cpu, features=features, opt=opt, reloc=reloc, codemodel=model, abiname=abi
            )
        return self.machines[key]

    def compile(self, settings: dict[str, Any], text: str) -> bytes:
        """The object file of one module."""
        machine = self.machine(settings)
        module = self.llvm.parse_assembly(text)
        module.triple = settings["triple"]
        module.data_layout = str(machine.target_data)
        module.verify()
        if settings["passes"]:
            passes = self.llvm.newpassmanagers.create_new_module_pass_manager()
            for name in settings["passes"]:
                add = getattr(passes, f"add_{name}_pass", None)
                if add is None:
                    raise ValueError(f"LLVM pass {name!r} is not known")
                add()
            options = self.llvm.create_pipeline_tuning_options(speed_level=settings["opt"])
            passes.run(module, self.llvm.create_pass_builder(machine, options))
        return machine.emit_object(module)


def main() -> None:
    # The terminal sends Ctrl-C to the whole group; it is the parent that ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.alarm(IDLE_SECONDS)
    # Answers leave through a descriptor of their own: what LLVM prints must not get between them.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    jobs = sys.stdin.buffer
    sys.path.insert(0, sys.argv[1])
    backend = Backend()
    while (head := read_block(jobs)) is not None and (text := read_block(jobs)) is not None:
        settings = json.loads(head)
        if hasattr(signal, "alarm"):
            signal.alarm(int(settings["seconds"]) + 5)
        try:
            status, answer = OBJECT, backend.compile(settings, text.decode())
        except Exception as error:
            status, answer = ERROR, f"{type(error).__name__}: {error}".encode()
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        try:
            answers.write(struct.pack("<BI", status, len(answer)) + answer)
            answers.flush()
        except BrokenPipeError:
            os._exit(0)


if __name__ == "__main__":
    main()
