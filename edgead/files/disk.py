"""Full disk: an error that names the file and the reason, which the system's and numpy's errors do not."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the path in the error of a full disk that the block raises; let other errors pass unchanged.

    If the block writes a temporary file, `path` is its final name, which users know.

    Raises OSError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        number = _number(error)
        if number not in FULL:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _number(error: OSError) -> int:
    if error.errno is not None:
        return error.errno
    if "requested and" in str(error):  # numpy of a write that was cut short: hardly anything else does that
        return errno.ENOSPC
    return next((number for number in FULL if f"[Errno {number}]" in str(error)), 0)  # a copied tree lists its errors
