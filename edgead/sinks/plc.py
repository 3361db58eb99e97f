"""Base of the sinks that write verdicts into a PLC, independent of the protocol."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Generic, TypeVar

from edgead.plant.plc import Plc
from edgead.sinks.contract import BaseSink
from edgead.sinks.options import SinkOptions
from edgead.types import DECISIONS, FAULT, Decision, Frame, Verdict

P = TypeVar("P", bound=Plc)


class PlcSinkOptions(SinkOptions):
    """Options that every sink into a PLC has."""

    queued: ClassVar[bool] = True

    @property
    def most_waiting(self) -> int:
        return 1  # an old verdict would eject the wrong part


class PlcSink(BaseSink, Generic[P]):
    """Sink that writes verdicts with numbers; dropped verdicts get numbers too, so that the PLC sees what it missed.

    A verdict that cannot be written is not tried again: a PLC acts only on the part that is before it now.

    `plc`: connection that raises SinkError if the PLC does not answer, refuses, or sends an answer of another form.
    """

    needs_image = False
    can_check = True

    def __init__(self, plc: P):
        self._plc = plc
        self.uri = plc.uri
        self._count = 0

    @abstractmethod
    def put(self, count: int, frame: Frame, verdict: Verdict) -> None:
        """Write a verdict and its number, inside `connected` of the PLC."""

    @abstractmethod
    def look(self) -> None:
        """Read any register that `put` writes, inside `connected` of the PLC, to see whether the PLC answers."""

    def skip(self, count: int) -> None:
        """Count dropped verdicts, which will not be written."""
        self._count += count

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Write one verdict.

        Raises SinkError: the PLC does not answer, refuses, or sends an answer of another form.
        """
        self._count += 1
        with self._plc.connected():
            self.put(self._count, frame, verdict)

    def check(self) -> None:
        """Check that the PLC answers; raises SinkError like `write`."""
        with self._plc.connected():
            self.look()

    def close(self) -> None:
        self._plc.close()


def decision_number(decision: Decision) -> int:
    """Return a decision's number for a PLC: 0 ok, 1 review, 2 reject, 3 fault (of a part with a missing view)."""
    return (*DECISIONS, FAULT).index(decision)
