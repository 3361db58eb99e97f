"""Complete files of a watched folder: nobody reports them, their sizes and times show it."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgead.images.files import is_image_path, natural_key

logger = logging.getLogger(__name__)

Signature = tuple[int, int, int]
"""Inode, bytes and time of the last change in nanoseconds: what another file, or another state of it, has not."""


def signature_of(found: os.stat_result) -> Signature:
    return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True, slots=True)
class _Seen:
    signature: Signature
    since_s: float
    order: int


class Arrivals:
    """Looks into a folder again and again, and knows since when each image in it has been as it is.

    Parameters
    ----------
    folder : Path
    stable_s : float
        For so long an image must not have changed to be complete.
    """

    def __init__(self, folder: Path, stable_s: float):
        self._folder, self._stable_s = folder, stable_s
        self._seen: dict[str, _Seen] = {}
        self._refused: set[str] = set()
        self._arrived = 0

    def complete(self, taken: Mapping[str, Signature]) -> list[tuple[str, Signature]]:
        """List the complete images in the order of their arrival, without those that were taken as they are.

        Of those that came between two looks, the one that was changed earlier came earlier.

        Raises
        ------
        OSError
            The folder cannot be read.
        """
        there = self._there()
        now_s = time.monotonic()
        new = [name for name, found in there.items() if taken.get(name) != found]
        before, self._seen = self._seen, {}
        for name in sorted(new, key=lambda name: (name not in before, there[name][2], natural_key(name))):
            seen = before.get(name)
            if seen is None or seen.signature != there[name]:
                order = self._arrived if seen is None else seen.order
                self._arrived += seen is None
                seen = _Seen(there[name], now_s, order)
            self._seen[name] = seen
        ready = [(seen.order, name) for name, seen in self._seen.items() if now_s - seen.since_s >= self._stable_s]
        return [(name, there[name]) for _, name in sorted(ready)]

    def _there(self) -> dict[str, Signature]:
        found: dict[str, Signature] = {}
        refused: set[str] = set()
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if not is_image_path(entry.name):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # it was a name for the time of its upload
                if stat.S_ISREG(status.st_mode):
                    found[entry.name] = signature_of(status)
                else:
                    refused.add(entry.name)
        for name in refused - self._refused:
            logger.warning("%s: is no regular file, it is left alone", self._folder / name)
        self._refused = refused
        return found
