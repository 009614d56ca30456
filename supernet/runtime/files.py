"""Writes files whole or not at all, only inside a run's directory, and by one process at a time."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from supernet.runtime.errors import InputError

try:
    import fcntl
except ImportError:  # not there on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_PARTIAL = ".partial"  # the end of the name of a file that is not whole yet


@contextmanager
def replacing(
    path: Path, *, check: Callable[[Path], None] | None = None, previous: Path | None = None
) -> Iterator[IO[bytes]]:
    """Writes a file so that it is whole at every moment: it is the old one until the new one is complete.

    The bytes go to `path` + ".partial", which then takes the place of `path`. The partial file is always a new one: a
    link in its place is removed and never followed.

    Args:
        path: the file; its folder must exist.
        check: called with the partial file when all of it is on the disk. Where it raises, the old file stays.
        previous: where the old file is kept; None: nowhere. `path` is there at every moment, too.

    Yields:
        The partial file, open for bytes.

    Raises:
        OSError: the file cannot be written. The old file stays as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder, "a.txt")) as file:
        ...         _ = file.write(b"whole")
        ...     Path(folder, "a.txt").read_text()
        'whole'
    """
    partial = path.with_name(path.name + _PARTIAL)
    partial.unlink(missing_ok=True)
    try:
        with partial.open("xb") as file:  # "x": POSIX follows no link then
            yield file
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(partial)
        if previous is not None and path.exists():
            _keep(path, previous)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _keep(path: Path, previous: Path) -> None:
    """Makes `previous` another name of the file at `path`, or a copy where the file system knows no second names."""
    partial = previous.with_name(previous.name + _PARTIAL)
    partial.unlink(missing_ok=True)
    try:
        try:
            os.link(path, partial, follow_symlinks=False)
        except (OSError, NotImplementedError):
            shutil.copyfile(path, partial)
        os.replace(partial, previous)
    finally:
        partial.unlink(missing_ok=True)  # two names of one file are not replaced by each other


def write_whole(path: Path, text: str) -> None:
    """Writes a text so that its file is whole at every moment, as `replacing` does for bytes.

    Args:
        path: the file; its folder must exist.
        text: what the file will hold, as UTF-8.

    Raises:
        OSError: the file cannot be written. The old file stays as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(Path(folder, "a.txt"), "whole")
        ...     Path(folder, "a.txt").read_text()
        'whole'
    """
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def check_directory(directory: Path, files: Collection[str] = (), folders: Collection[str] = ()) -> None:
    """Checks that a run can write below a directory without writing anywhere else.

    A run that goes on writes to files that are there already. Where the directory came from somewhere else, a link in
    it could make the run write to any file of the person.

    Args:
        directory: the directory of the run.
        files: names that no folder below it may have.
        folders: names that no file below it may have.

    Raises:
        InputError: there is a link that leads out of the directory or to nothing, something that is neither a file nor
            a folder, or one of these names is of the other kind.
    """
    root = os.path.realpath(directory)
    for folder, inner, here in os.walk(root, onerror=_refuse):
        for name in (*inner, *here):
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if (name in files and os.path.isdir(path)) or (name in folders and not os.path.isdir(path)):
                kind = "file" if name in files else "folder"
                raise InputError(f"{directory}: {os.path.relpath(path, root)} is no {kind}; remove it")
            if stat.S_ISLNK(mode):
                goal = os.path.realpath(path)
                if os.path.commonpath([root, goal]) != root:
                    raise InputError(
                        f"{directory}: {os.path.relpath(path, root)} is a link to {goal}, out of this directory; "
                        "remove it, or put what it leads to in its place"
                    )
                if not os.path.exists(path):
                    raise InputError(f"{directory}: {os.path.relpath(path, root)} is a link to nothing; remove it")
            elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise InputError(f"{directory}: {os.path.relpath(path, root)} is no file and no folder; remove it")


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be read ({error.strerror})")


@contextmanager
def locked(directory: Path, name: str = LOCK) -> Iterator[str]:
    """Reserves a directory for this process.

    It is a lock of POSIX: it ends with the process in every case, and forked workers do not hold it.

    Args:
        directory: the directory of a run.
        name: of the file that is locked; whoever uses another one has the directory beside the others.

    Yields:
        "", or the reason why the file system has no locks.

    Raises:
        InputError: another process has reserved it, or nothing can be written there.
    """
    try:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(directory / name, flags, 0o666)
    except OSError as error:
        raise InputError(f"{directory}: cannot be written to ({error.strerror})") from None
    try:
        yield _lock(directory, descriptor)
    finally:
        os.close(descriptor)


def _lock(directory: Path, descriptor: int) -> str:
    if fcntl is None:
        return "this system has no locks"
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise InputError(f"{directory}: another process is at work in it; wait for it, or stop it first") from None
        return f"no lock there: {error.strerror}"
    return ""


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)
_WORDS = ("No space left on device", "Read-only file system", "Disk quota exceeded")  # of a library in another language


def disk_fault(error: BaseException) -> str:
    """Says why a disk could not be written to.

    Args:
        error: any error; those that it comes from are looked at, too.

    Returns:
        The reason in a few words, or "" where the disk is not the reason.

    Example:
        >>> disk_fault(OSError(errno.ENOSPC, "No space left on device", "a.txt"))
        'No space left on device: a.txt'
    """
    seen: Any = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _DISK:
            return f"{seen.strerror}: {seen.filename}" if seen.filename else str(seen.strerror)
        if found := [word for word in _WORDS if word in str(seen)]:
            return found[0]
        seen = seen.__cause__ or seen.__context__
    return ""
