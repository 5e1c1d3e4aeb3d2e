"""A directory that only this user can read or write, and files in it that nobody else can have made.

The directory is opened once and checked through its descriptor; files are then named relative to it. So nothing can
be exchanged between the check and the use, whatever happens to the path meanwhile. On Windows, where files have no
owner bits, the folder of the user's profile is trusted as it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

POSIX = hasattr(os, "getuid")
UNFINISHED = ".part"
_SAFELY = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe in the place of a file must not block
    | getattr(os, "O_BINARY", 0)
)


class Untrusted(Exception):
    """Why a directory or file must not be used. The cache turns it into an absent entry or into `reason`."""


class Listed(NamedTuple):
    """A regular file of the directory. `used` is the time of its last use, in seconds since 1970."""

    name: str
    size: int
    used: float


class PrivateFolder:
    """The open directory; close it after use.

    Raises Untrusted where others could write or read it, FileNotFoundError where it is not there and `create` is false.
    """

    def __init__(self, path: str, *, create: bool = False) -> None:
        self.path = path
        self.descriptor: int | None = None
        if create:
            _make(path)
        if not POSIX:
            os.stat(path)
            return
        _check_parent(os.path.dirname(path))
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _SAFELY)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise Untrusted(f"{path} is a link or a file, not a directory") from error
            raise
        try:
            found = os.fstat(self.descriptor)
            if found.st_uid != os.getuid():
                raise Untrusted(f"{path} belongs to user {found.st_uid}, not to {os.getuid()}")
            if found.st_mode & 0o077:
                raise Untrusted(f"{path} is open to other users (mode {found.st_mode & 0o777:04o}): chmod 700 {path}")
        except Untrusted:
            self.close()
            raise

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def open_trusted(self, name: str) -> tuple[int, int]:
        """(descriptor, size) of a regular file that is this user's alone. Raises Untrusted, OSError."""
        try:
            descriptor = os.open(self._place(name), os.O_RDONLY | _SAFELY, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Untrusted(f"{name} is a link") from error
            raise
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Untrusted(f"{name} is not a regular file")
            # No name at all is fine: another process has put a new file in the place of this one.
            if POSIX and (found.st_uid != os.getuid() or found.st_mode & 0o077 or found.st_nlink > 1):
                raise Untrusted(f"{name} is not this user's alone")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, found.st_size

    def write(self, name: str, chunks: Sequence[bytes | bytearray | memoryview]) -> None:
        """Puts a whole file in the place of `name`, or leaves everything as it was. Raises OSError.

        Nobody waits for the disk, which takes longer than all the rest: a file that loses its end when the power fails
        is one whose authentication code does not agree.
        """
        temporary = f"{name}.{os.getpid()}.{os.urandom(8).hex()}{UNFINISHED}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY
        descriptor = os.open(self._place(temporary), flags, 0o600, dir_fd=self.descriptor)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                for chunk in chunks:
                    view = memoryview(chunk)
                    while view:
                        view = view[file.write(view) :]
            source, target = self._place(temporary), self._place(name)
            os.replace(source, target, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        except BaseException:
            self.remove(temporary)
            raise

    def remove(self, name: str) -> None:
        """Deletes a file (a link itself, not what it points to); one that cannot be deleted stays."""
        with contextlib.suppress(OSError):
            os.unlink(self._place(name), dir_fd=self.descriptor)

    def touch(self, name: str) -> None:
        """Notes a use of a file."""
        with contextlib.suppress(OSError):
            os.utime(self._place(name), dir_fd=self.descriptor)

    def files(self, suffix: str) -> list[Listed]:
        """The regular files of this kind, the most recently used first."""
        place = self.path if self.descriptor is None else self.descriptor
        found = []
        for name in os.listdir(place):
            if name.endswith(suffix):
                with contextlib.suppress(OSError):  # gone meanwhile
                    facts = os.stat(self._place(name), dir_fd=self.descriptor, follow_symlinks=False)
                    if stat.S_ISREG(facts.st_mode):
                        found.append(Listed(name, facts.st_size, facts.st_mtime))
        return sorted(found, key=lambda f: f.used, reverse=True)

    def sweep(self, seconds: float) -> None:
        """Removes files that were begun this long ago and never finished."""
        for file in self.files(UNFINISHED):
            if file.used <= time.time() - seconds:
                self.remove(file.name)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time, where the file system has locks."""
        if self.descriptor is None:
            yield
            return
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def _place(self, name: str) -> str:
        return name if self.descriptor is not None else os.path.join(self.path, name)


def _make(path: str) -> None:
    """The directory and those above it, each for this user alone (`mkdir -p` would use the umask for those above)."""
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, mode=0o700)


def _check_parent(path: str) -> None:
    """Refuses a place where other users could put a directory of theirs in the place of ours."""
    found = os.stat(path)
    if found.st_uid not in (0, os.getuid()):
        raise Untrusted(f"{path} belongs to user {found.st_uid}, not to {os.getuid()}")
    others = found.st_mode & 0o002 or (found.st_mode & 0o020 and not _is_own_group(found.st_gid))
    if others and not found.st_mode & stat.S_ISVTX:
        raise Untrusted(f"{path} can be written by other users (mode {found.st_mode & 0o7777:04o})")


def _is_own_group(group: int) -> bool:
    """Whether this is the group of the same name that many systems give each user, with nobody else in it."""
    import grp
    import pwd

    try:
        user, found = pwd.getpwuid(os.getuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return user.pw_gid == group and found.gr_name == user.pw_name and set(found.gr_mem) <= {user.pw_name}
