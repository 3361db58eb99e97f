"""What every sink has in common."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Protocol

from edgead.errors import EdgeadError
from edgead.types import Frame, Verdict

# What `only=` of a sink takes.
CHOICES: dict[str, tuple[str, ...]] = {
    "all": ("ok", "review", "reject"),
    "review": ("review", "reject"),
    "reject": ("reject",),
}


class SinkError(EdgeadError):
    """A sink that cannot be opened or written; the message names it."""


class StopRequested(Exception):
    """Raised by a sink when its user asks to end the stream; the frame has been shown."""


class Sink(Protocol):
    """Takes frames with their verdicts. `close` may be called more than once."""

    uri: str

    def write(self, frame: Frame, verdict: Verdict) -> None: ...

    def close(self) -> None: ...


def write_error(path: str | Path, error: OSError) -> SinkError:
    """Say which path could not be written, why, and what to do where that is known."""
    hint = "; free some space or choose another disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return SinkError(f"{path}: cannot be written: {error.strerror}{hint}")
