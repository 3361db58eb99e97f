"""Work that must never be in the way of a line: a process that comes after all others, and ends with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOWEST = 19


def stay_behind() -> None:
    """Give this process the lowest priority; make it the first to go when memory is short, and end with its parent.

    On Linux the parent is the thread that started it.
    """
    os.nice(_LOWEST)
    with suppress(OSError):  # another system, or a container that has no such file
        Path("/proc/self/oom_score_adj").write_text("1000")
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
