"""Work that must never be in the way of a line: a process that comes after all others, and ends with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOWEST = 19


def stay_behind(parent: int) -> None:
    """Give this process the lowest priority; make it the first to go when memory is short, and end with its parent.

    On Linux that is when the thread ends that started it. A `parent`, by its process id, that is gone already ends it
    too: of that the system would say nothing any more.
    """
    os.nice(_LOWEST)
    with suppress(OSError):  # another system, or a container that has no such file
        Path("/proc/self/oom_score_adj").write_text("1000")
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(f"process {parent}, which started this one, is gone")
