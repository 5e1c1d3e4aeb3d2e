"""Files that travel behind a model as a ZIP archive: read in memory, each name and size checked, never extracted."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping

from lithe.errors import LimitError, ModelError

RATIO = 100  # unpacked size of a file / packed size
TOTAL_BYTES = 64 << 20
ENTRIES = 1000
_SYMLINK, _KIND = 0o120000, 0o170000


class AssociatedFiles(Mapping[str, bytes]):
    """The files of an appended archive by name; opened and checked on first use (ModelError when it breaks a rule).

    data   the whole file of the model, so that offsets count from its start.
    start  where the flatbuffer ends and the archive may begin.
    """

    def __init__(self, data: memoryview, start: int) -> None:
        self._data, self._start = data, start
        self._opened: tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]] | None = None

    def _open(self) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
        if self._opened is None:
            try:
                # Only the tail is copied; zipfile corrects the offsets by what is missing in front.
                archive = zipfile.ZipFile(io.BytesIO(self._data[self._start :]))
                entries = {e.filename: e for e in checked(archive.infolist())}
            except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError) as e:
                if isinstance(e, ModelError):
                    raise
                raise ModelError(f"the archive behind the model is damaged: {e}", where="associated files") from None
            self._opened = archive, entries
        return self._opened

    def __getitem__(self, name: str) -> bytes:
        archive, entries = self._open()
        entry = entries[name]
        try:
            with archive.open(entry) as f:
                data = f.read(entry.file_size + 1)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, EOFError, OSError) as e:
            raise ModelError(f"'{name}' is damaged: {e}", where="associated files") from None
        if len(data) != entry.file_size:
            raise ModelError(f"'{name}' has {len(data)} bytes, expected {entry.file_size}", where="associated files")
        return data

    def entry(self, name: str) -> zipfile.ZipInfo:
        """Date and compression of a file as they are stored."""
        return self._open()[1][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._open()[1])

    def __len__(self) -> int:
        return len(self._open()[1])


def checked(entries: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The entries of an archive when all of them are plain files of modest size, else ModelError."""
    where = "associated files"
    if len(entries) > ENTRIES:
        raise LimitError(f"{len(entries)} files, the limit is {ENTRIES}", where=where)
    seen: set[str] = set()
    for e in entries:
        name = e.filename
        if (
            not 0 < len(name) <= 255
            or name in (".", "..")
            or any(c in name for c in "/\\:\0")
            or e.orig_filename != name
        ):
            raise ModelError(f"the name {e.orig_filename!r} is not a plain file name", where=where)
        if name in seen:
            raise ModelError(f"two files are named {name!r}", where=where)
        seen.add(name)
        if (e.external_attr >> 16) & _KIND == _SYMLINK:
            raise ModelError(f"{name!r} is a symbolic link", where=where)
        if e.flag_bits & 1:
            raise ModelError(f"{name!r} is encrypted", where=where)
        if e.file_size > RATIO * max(e.compress_size, 1):
            raise LimitError(f"{name!r} unpacks to more than {RATIO} times its size", where=where)
    if sum(e.file_size for e in entries) > TOTAL_BYTES:
        raise LimitError(f"the files unpack to more than {TOTAL_BYTES} bytes", where=where)
    return entries


def find(data: memoryview, start: int) -> AssociatedFiles | None:
    """The archive behind position `start`, None when there is none."""
    tail = bytes(data[max(start, len(data) - (1 << 16) - 22) :])
    return AssociatedFiles(data, start) if b"PK\5\6" in tail else None


def append(model: bytes, files: Mapping[str, bytes]) -> bytes:
    """The model followed by an archive of the files, with positions counted from the start of the model."""
    out = io.BytesIO()
    out.write(model)
    with zipfile.ZipFile(out, "w") as z:  # begins where `out` stands
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            if isinstance(files, AssociatedFiles):
                kept = files.entry(name)
                entry.date_time, entry.compress_type, entry.external_attr = (
                    kept.date_time,
                    kept.compress_type,
                    kept.external_attr,
                )
            checked([entry])
            z.writestr(entry, data)
    return out.getvalue()
