"""Interface of a sink."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

from edgead.errors import EdgeadError
from edgead.serialization.notice import Notice
from edgead.types import DECISIONS, FAULT, Frame, Verdict

# What `only=` of a sink takes. A part of which a view is missing may be defective: who wants rejects wants to know.
CHOICES: dict[str, tuple[str, ...]] = {
    "all": (*DECISIONS, FAULT),
    "review": ("review", "reject", FAULT),
    "reject": ("reject", FAULT),
}


class SinkError(EdgeadError):
    """A sink that cannot be opened or written; the message names it."""


class StopRequested(Exception):
    """Raised by a sink when its user asks to end the stream; the frame has been shown."""


class Sink(Protocol):
    """Takes frames with their verdicts. `close` may be called more than once."""

    uri: str  # without credentials

    def write(self, frame: Frame, verdict: Verdict) -> None: ...

    def close(self) -> None: ...


class BaseSink(ABC):
    """A sink with all that a queued sink may want to know of it; see `edgead.sinks.queued.QueuedSink`.

    Attributes
    ----------
    uri : str
        What is shown of it, without credentials.
    needs_image : bool
        Where it is False, the sink gives it neither image nor map, so that more verdicts can wait.
    decisions : tuple of str
        It gets verdicts of these alone.
    can_check : bool
        Whether `check` finds out something.
    retains_notices : bool
        It shows the last notice of each kind and name to whoever comes later, so that a new one is given what stands.
    """

    uri: str
    needs_image: bool = True
    decisions: tuple[str, ...] = CHOICES["all"]
    can_check: bool = False
    retains_notices: bool = False

    @property
    def problem(self) -> str | None:
        """What `write` waits for, or what is wrong although it has returned; asked from any thread."""
        return None

    @abstractmethod
    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Take a verdict; may take as long as it wants, and raises SinkError where it could not."""

    def notify(self, notice: Notice) -> None:  # noqa: B027  most sinks are for verdicts alone
        """Take a notice, as `write` takes a verdict; called where the site file names the sink for notices."""

    def skip(self, count: int) -> None:  # noqa: B027  most sinks do not count
        """Learn that so many verdicts were dropped before the next one."""

    def check(self) -> None:  # noqa: B027  see can_check
        """Find out whether the receiver is there; raises SinkError where it is not."""

    @abstractmethod
    def close(self) -> None:
        """Release everything, and end a `write` that waits; may be called more than once."""


def write_error(path: str | Path, error: OSError) -> SinkError:
    """Say which path could not be written, why, and what to do where that is known."""
    hint = "; free some space or choose another disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return SinkError(f"{path}: cannot be written: {error.strerror}{hint}")
