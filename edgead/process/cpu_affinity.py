"""Cores that this process may use, and whether the system may take them away from it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from edgead.errors import SettingsError


def set_affinity(cores: Sequence[int]) -> None:
    """Keep this process, and the threads that it starts from now on, on some cores.

    Raises
    ------
    SettingsError
        There is no such core, or this process may not use it, or the system is not Linux.
    """
    _check_system("affinity", "sched_setaffinity")
    allowed = sorted(os.sched_getaffinity(0))
    if not cores or not set(cores) <= set(allowed):
        raise SettingsError(f"affinity {','.join(map(str, cores))}: this process may use {','.join(map(str, allowed))}")
    os.sched_setaffinity(0, cores)


def set_fifo(priority: int) -> None:
    """Run this thread, and those that it starts from now on, before all that has no real-time priority.

    Raises
    ------
    SettingsError
        The priority is none, or this process may not have it, or the system is not Linux.
    """
    _check_system("fifo", "sched_setscheduler")
    low, high = os.sched_get_priority_min(os.SCHED_FIFO), os.sched_get_priority_max(os.SCHED_FIFO)
    if not low <= priority <= high:
        raise SettingsError(f"SCHED_FIFO has priorities from {low} to {high}, found {priority}")
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        raise SettingsError(
            "SCHED_FIFO is not permitted: run as root, or allow it by `ulimit -r` (LimitRTPRIO= of a systemd unit)"
        ) from None


def _check_system(option: str, function: str) -> None:
    if not hasattr(os, function):
        raise SettingsError(f"{option} needs Linux, found {sys.platform}: leave it out")
