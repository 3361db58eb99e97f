"""Interface of a sink."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

from edgead.errors import EdgeadError
from edgead.serialization.notice import Notice
from edgead.types import DECISIONS, FAULT, Frame, Verdict

# Values of a sink's `only=`. A part with a missing view may be defective: a sink for rejects gets it too.
CHOICES: dict[str, tuple[str, ...]] = {
    "all": (*DECISIONS, FAULT),
    "review": ("review", "reject", FAULT),
    "reject": ("reject", FAULT),
}


class SinkError(EdgeadError):
    """Sink that cannot be opened or written; the message names it."""


class StopRequested(Exception):
    """Request of a sink's user to end the stream; the current frame has been shown."""


class Sink(Protocol):
    """Receiver of frames with their verdicts. `close` may be called more than once."""

    uri: str  # without credentials

    def write(self, frame: Frame, verdict: Verdict) -> None: ...
    def close(self) -> None: ...


class BaseSink(ABC):
    """Base of sinks, with all attributes that `edgead.sinks.queued.QueuedSink` reads.

    Attributes
    ----------
    uri : str
        Address of the sink for display, without credentials.
    needs_image : bool
        If False, the queue drops image and map, so that more verdicts can wait.
    decisions : tuple of str
        Decisions of the verdicts that it gets; it gets no others.
    can_check : bool
        Whether `check` does anything.
    retains_notices : bool
        Whether it keeps the last notice of each kind and name for later receivers; a new sink gets these at once.
    """

    uri: str
    needs_image: bool = True
    decisions: tuple[str, ...] = CHOICES["all"]
    can_check: bool = False
    retains_notices: bool = False

    @property
    def problem(self) -> str | None:
        """Reason why `write` waits, or a fault that shows only after it has returned; read from any thread."""
        return None

    @abstractmethod
    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Take a verdict, however long that lasts; raise SinkError if it fails."""

    def notify(self, notice: Notice) -> None:  # noqa: B027  most sinks are for verdicts alone
        """Take a notice, as `write` takes a verdict; called if the site file names the sink for notices."""

    def skip(self, count: int) -> None:  # noqa: B027  most sinks do not count
        """Take the number of verdicts that were dropped before the next one."""

    def check(self) -> None:  # noqa: B027  see can_check
        """Check that the receiver answers; raise SinkError if it does not."""

    @abstractmethod
    def close(self) -> None:
        """Release everything, and end a waiting `write`; may be called more than once."""


def write_error(path: str | Path, error: OSError) -> SinkError:
    """Make the error of a path that could not be written: the reason, and what to do if that is known."""
    hint = "; free some space or choose another disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return SinkError(f"{path}: cannot be written: {error.strerror}{hint}")
