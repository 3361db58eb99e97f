"""Background process that never slows a line: lowest priority, first to go if memory is short, ends with its parent."""

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

    On Linux it ends with the thread that started it. It also ends at once if `parent`, a process id, is gone already:
    the system would not signal that any more.
    """
    os.nice(_LOWEST)
    with suppress(OSError):  # another system, or a container that has no such file
        Path("/proc/self/oom_score_adj").write_text("1000")
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(f"process {parent}, which started this one, is gone")
