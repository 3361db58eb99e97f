"""Atomic file writes: readers see the old content or the new, also where the writer is killed or the disk is full."""

from __future__ import annotations

import os
from pathlib import Path

from edgead.files.disk import writing

UNFINISHED = ".part"


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file, and the folders above it; one writer at a time.

    Parameters
    ----------
    path : Path
    content : bytes
    durable : bool
        Wait until it is on the disk, so that it is whole after the power has gone too.

    Raises
    ------
    OSError
        It cannot be written; what was there before stays as it was.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden and of another suffix, so that nobody who lists the folder takes it for the file.
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        with writing(path):
            with open(unfinished, "wb") as stream:
                stream.write(content)
                if durable:
                    stream.flush()
                    os.fsync(stream.fileno())
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
