"""Counts of the verdicts and notices that were given to a sink."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """What became of the verdicts that were given to a sink.

    Attributes
    ----------
    waiting : int
        Those that the sink has not taken yet, the one in work included.
    written : int
        Taken by the sink; for MQTT, HTTP and Modbus acknowledged by the receiver.
    dropped : int
        Pushed out of a full queue, oldest first, or left behind at the close.
    failed : int
        Refused by the sink, or the sink failed.
    problem : str or None
        What is wrong with the sink now.
    required : bool
        Without this sink the device is not ready.
    failing_s : float
        For how long it has taken nothing; 0 while it works.
    blocks : bool
        It is required, and has failed for longer than is tolerated.
    notices_waiting, notices_written, notices_lost : int
        The same of notices, which all other counts leave out; lost are those dropped and failed.
    """

    name: str
    uri: str
    waiting: int
    written: int
    dropped: int
    failed: int
    problem: str | None
    required: bool = False
    failing_s: float = 0.0
    blocks: bool = False
    notices_waiting: int = 0
    notices_written: int = 0
    notices_lost: int = 0


@dataclass(slots=True)
class Tally:
    """Counts verdicts, or notices, by what became of them; see `QueueStatus`."""

    written: int = 0
    dropped: int = 0
    failed: int = 0

    def count(self, problem: str | None, *, closing: bool) -> None:
        """Count one that the sink was given."""
        if problem is None:
            self.written += 1
        elif closing:
            self.dropped += 1
        else:
            self.failed += 1
