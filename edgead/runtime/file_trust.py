"""Trust in the file of an engine by its owner: what deserialises an engine runs whatever the engine says."""

from __future__ import annotations

import os
import stat

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def planted(found: os.stat_result) -> str:
    """Report why a file or folder may be somebody else's work; "" if only root and this user could write it."""
    if os.name != "posix":  # Windows has neither these owners nor these modes
        return ""
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to user {found.st_uid}, neither to root nor to the user that runs this"
    if found.st_mode & _OTHERS:
        return f"may be written by others than its owner (mode {stat.S_IMODE(found.st_mode):o})"
    return ""
