"""Paths as somebody names them."""

from __future__ import annotations

import os
from pathlib import Path

from edgead.errors import SettingsError


def named_path(path: str | os.PathLike[str]) -> Path:
    """Make a Path of a path, but none of an empty text, which would mean the working directory.

    Raises
    ------
    SettingsError
        The text is empty, as that of a variable that nobody set.
    """
    if not os.fspath(path):
        raise SettingsError("a path is empty: is a variable unset? The working directory is '.'")
    return Path(path)
