"""Paths that users give: empty texts and URLs are refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgead.errors import SettingsError

# Also as a Path writes it, with one slash. A drive of Windows has one letter.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def named_path(path: str | os.PathLike[str]) -> Path:
    """Convert a user's path to a Path; refuse an empty text, which would mean the working directory.

    Raises SettingsError: the text is empty, as from an unset variable, is a URL, or is something else than a path.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise SettingsError(f"a path is needed here, found {path!r:.80}")
    if not os.fspath(path):
        raise SettingsError("a path is empty: is a variable unset? The working directory is '.'")
    if _URL.match(os.fspath(path)):
        raise SettingsError(f"{path}: URLs are not read: download it, and give the path of the file")
    return Path(path)
