"""Atomic writes: readers see the old content or the new, even if the writer is killed; folders appear complete.

Two names are exchanged in one step, so that neither is missing at any time.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from edgead.files.disk import writing

_HERE = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE
_NOT_OFFERED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
UNFINISHED = ".part"
_UNFINISHED_FOLDER = ".edgead-unfinished"
_MAX_OF_NAME = 40  # characters, of at most four bytes each: a file name has 255 bytes in all


def exchange_names(one: Path, other: Path) -> None:
    """Exchange two names of one file system in one step, by Linux's renameat2.

    Raises NotImplementedError: the system or the file system cannot do that.
    Raises OSError: the names cannot be exchanged.
    """
    rename = _renameat2()
    if rename is None:
        raise NotImplementedError
    if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) != 0:
        number = ctypes.get_errno()
        if number in _NOT_OFFERED:
            raise NotImplementedError
        raise OSError(number, os.strerror(number), str(one))


@cache
def _renameat2() -> Any:
    try:
        return ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, TypeError, AttributeError):  # another system, or an older C library
        return None


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `folder`; rename it to `folder` when the block ends, remove it if the block fails.

    Raises FileExistsError: the folder exists and is not empty, or is a file; nothing is written then.
    Raises OSError: it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty: choose another folder or delete it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(folder) as unfinished:
        yield unfinished
        unfinished.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)


@contextmanager
def unfinished_folder(beside: Path) -> Iterator[Path]:
    """Yield an empty hidden folder beside a path, and remove it when the block ends, unless the block has renamed it.

    This process locks it meanwhile; by that `remove_abandoned` recognises a folder in use.
    """
    prefix = f".{beside.name[:_MAX_OF_NAME]}."
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=_UNFINISHED_FOLDER, dir=beside.parent))
        held = _hold(folder, wait=True)
        if folder.exists():
            break
        if held is not None:  # somebody who tidied was faster
            os.close(held)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


def remove_abandoned(place: Path) -> list[Path]:
    """Remove the unfinished folders in `place` that processes left when they ended, and return their paths.

    A folder that a process still locks stays; on a file system without locks all folders stay.
    """
    removed = []
    for folder in place.glob(f".*{_UNFINISHED_FOLDER}"):
        held = _hold(folder, wait=False)
        if held is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)
            removed.append(folder)
    return removed


def _hold(folder: Path, *, wait: bool) -> int | None:
    """Lock a folder for this process; return the descriptor to close, None if it is locked, gone or not lockable."""
    if os.name == "nt":
        return None
    import fcntl  # Windows has none

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def write_whole(path: Path, content: bytes, *, durable: bool = True, mode: int | None = None) -> None:
    """Write a file atomically, and make its parent folders; of several writers at a time, the last one wins.

    A symbolic link stays, and its target is replaced; a file keeps its permissions. Anything but a regular file, such
    as a FIFO or `/dev/stdout`, is written in place.

    `durable`: whether to wait until the content is on the disk, so that the file is also complete after a power
        failure.
    `mode`: permissions from the first byte on; by default those of the replaced file.
    Raises OSError: it cannot be written; what was there before stays as it was.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            _replace(Path(os.path.realpath(path)), content, durable, mode)


def _replace(path: Path, content: bytes, durable: bool, mode: int | None) -> None:
    with _unfinished(path, durable, mode) as stream:
        stream.write(content)


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears once the block has ended, and not at all if the block fails.

    For content that is too large for memory; `write_whole` needs it there.

    Raises OSError: it cannot be written; what was there before stays as it was.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _unfinished(Path(os.path.realpath(path)), durable=True) as stream:
            yield stream


@contextmanager
def _unfinished(path: Path, durable: bool, mode: int | None = None) -> Iterator[BinaryIO]:
    # Hidden and of another suffix, so that nobody who lists the folder takes it for the file; of a name that nobody
    # foresees, so that no other writer has it open, and nobody has put a link there.
    unfinished = path.with_name(f".{path.name[:_MAX_OF_NAME]}.{secrets.token_hex(8)}{UNFINISHED}")
    try:
        with open(unfinished, "xb") as stream:
            if mode is not None or path.exists():
                unfinished.chmod(stat.S_IMODE(path.stat().st_mode) if mode is None else mode)
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
