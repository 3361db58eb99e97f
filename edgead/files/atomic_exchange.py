"""Exchange of two names in one step, so that there is no instant at which one of them is missing."""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from pathlib import Path
from typing import Any

_HERE = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE
_NOT_OFFERED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


def exchange_names(one: Path, other: Path) -> None:
    """Let two names of one file system change places, by Linux's renameat2.

    Raises
    ------
    NotImplementedError
        The system or the file system has no such step.
    OSError
        They cannot be exchanged.
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
