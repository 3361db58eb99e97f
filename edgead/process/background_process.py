"""Background process that never slows inspection: lowest priority, first to be killed, and ends with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOWEST = 19


def stay_behind(parent: int) -> None:
    """Take the lowest priority, be the first process to be killed if memory is short, and end with the parent process.

    On Linux it ends with the thread that started it. It also ends at once if `parent`, a process id, has ended already,
    since the system no longer signals that.
    """
    os.nice(_LOWEST)
    with suppress(OSError):  # another system, or a container that has no such file
        Path("/proc/self/oom_score_adj").write_text("1000")
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(f"process {parent}, which started this one, is gone")
