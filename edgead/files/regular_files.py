"""Regular files, read up to a limit of bytes; a FIFO or a device would block the reader, or never end."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# O_NONBLOCK: a FIFO would wait for somebody who writes into it. Windows has none, and needs O_BINARY.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class UnreadableFileError(Exception):
    """File that cannot be read; the message gives the reason, without the file's name."""


class MissingFileError(UnreadableFileError):
    """File that does not exist."""


@contextmanager
def open_regular(file: Path, most_bytes: int) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Open a regular file; yield it with its `os.stat_result`, taken from the opened file itself.

    Raises UnreadableFileError: the file is missing, is no regular file, has more than `most_bytes`, or reading it fails
        within the block.
    """
    try:
        with _open(file) as stream:
            found = os.fstat(stream.fileno())
            if found.st_size > most_bytes:
                raise UnreadableFileError(f"has {found.st_size} bytes, at most {most_bytes} are read")
            if not stat.S_ISREG(found.st_mode):
                raise UnreadableFileError("is no regular file")
            yield stream, found
    except FileNotFoundError:
        raise MissingFileError("is missing") from None
    except OSError as error:
        raise UnreadableFileError(f"cannot be read ({error.strerror or error})") from error


def _open(file: Path) -> BinaryIO:
    try:
        return open(file, "rb", opener=lambda name, _: os.open(name, _FLAGS))
    except ValueError as error:  # NUL, or a character that no file name can have
        raise UnreadableFileError(f"has a name that no file can have ({error})") from error


def read_regular(file: Path, most_bytes: int) -> bytes:
    """Read a whole file; raise UnreadableFileError if it cannot be read, see `open_regular`."""
    with open_regular(file, most_bytes) as (stream, found):
        return stream.read(found.st_size)
