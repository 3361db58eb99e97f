"""Trust in an engine file by its owner and mode, as deserialising an engine can run any code in it."""

from __future__ import annotations

import os
import stat

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def planted(found: os.stat_result) -> str:
    """Return why another user may have written a file or folder; "" if only root and this user could."""
    if os.name != "posix":  # Windows has neither these owners nor these modes
        return ""
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to user {found.st_uid}, neither to root nor to the user that runs this"
    if found.st_mode & _OTHERS:
        return f"may be written by others than its owner (mode {stat.S_IMODE(found.st_mode):o})"
    return ""
