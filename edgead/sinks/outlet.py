"""A queue and a thread before a sink, so that a slow or dead one delays no verdict."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from edgead.log_rate import limited_log
from edgead.sinks.contract import CHOICES, Sink, SinkError, StopRequested
from edgead.types import Frame, Verdict

_MOST_BYTES = 256 * 2**20
# Tracebacks of one outlet: one is enough to find the mistake, and a fault may come with every verdict.
_TRACEBACK_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class OutletStatus:
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
    """

    name: str
    uri: str
    waiting: int
    written: int
    dropped: int
    failed: int
    problem: str | None


class Outlet:
    """Hands verdicts to a sink in their order; `write` never blocks, and drops the oldest when too many wait.

    Parameters
    ----------
    name : str
    sink : Sink
        Its `write` may take as long as it wants: a sink that tries again does it there. It is only ever called from
        one thread. One that has `needs_image = False` gets neither picture nor map, so that more can wait.
        One that has `decisions` gets only verdicts of those. One that has a `problem` tells by it what it waits for.
        One that has `skip` is told how many verdicts were dropped before the next one.
    most : int
        Verdicts that may wait; pictures are also limited to 256 MiB.
    """

    def __init__(self, name: str, sink: Sink, *, most: int):
        self.uri = sink.uri
        self._name = name
        self._sink = sink
        self._most = most
        self._strips = not getattr(sink, "needs_image", True)
        self._decisions = getattr(sink, "decisions", CHOICES["all"])
        self._skip = getattr(sink, "skip", lambda count: None)
        self._skipped = 0
        self._waiting: deque[tuple[Frame, Verdict]] = deque()
        self._bytes = 0
        self._in_work = False
        self._written = self._dropped = self._failed = 0
        self._problem: str | None = None
        self._closing = False
        self._log = limited_log(__name__, 1, _TRACEBACK_EVERY_S)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"outlet {name}", daemon=True)
        self._thread.start()

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Line a verdict up for the sink."""
        if verdict.decision not in self._decisions:
            return
        if self._strips:
            frame = replace(frame, image=_NOTHING)
            verdict = replace(verdict, anomaly_map=_NO_MAP)
        with self._changed:
            if self._closing:
                self._dropped += 1
                return
            self._waiting.append((frame, verdict))
            self._bytes += _size(frame, verdict)
            while len(self._waiting) > self._most or (self._bytes > _MOST_BYTES and len(self._waiting) > 1):
                self._take()
                self._dropped += 1
            self._changed.notify()

    def status(self) -> OutletStatus:
        with self._changed:
            waiting = len(self._waiting) + self._in_work
            problem = getattr(self._sink, "problem", None) or self._problem
            if not self._closing and not self._thread.is_alive():
                problem = "its thread has died, see the log"
            return OutletStatus(self._name, self.uri, waiting, self._written, self._dropped, self._failed, problem)

    def close(self, within_s: float = 1.0) -> None:
        """Wait for the sink to take what is left, then close it; what it has not taken is counted as dropped."""
        deadline = time.monotonic() + within_s
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting and not self._in_work, within_s)
            self._dropped += len(self._waiting)
            self._waiting.clear()
            idle = not self._in_work
        try:
            self._sink.close()  # also ends a write that waits for its receiver
        except SinkError as error:
            self._problem = str(error)
        except Exception as error:  # noqa: BLE001  whatever it was, the others are closed too
            self._problem = self._unforeseen(error)
        # A write that cannot be ended is left behind; its thread ends with the process.
        self._thread.join(None if idle else max(0.2, deadline - time.monotonic()))

    def _take(self) -> tuple[Frame, Verdict]:
        frame, verdict = self._waiting.popleft()
        self._bytes -= _size(frame, verdict)
        return frame, verdict

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                frame, verdict = self._take()
                self._in_work = True
                skipped, self._skipped = self._dropped - self._skipped, self._dropped
            self._count(self._written_to_sink(frame, verdict, skipped))

    def _written_to_sink(self, frame: Frame, verdict: Verdict, skipped: int) -> str | None:
        """Gives what went wrong."""
        try:
            self._skip(skipped)
            self._sink.write(frame, verdict)
        except SinkError as error:
            return str(error)
        except StopRequested:
            return f"{self.uri}: its user has closed it"
        except Exception as error:  # noqa: BLE001  the next verdict may be taken; an outlet that has ended takes none
            return self._unforeseen(error)
        return None

    def _unforeseen(self, error: Exception) -> str:
        problem = f"{self.uri}: failed by {type(error).__name__}, see the log"
        self._log.error("%s", problem, exc_info=error, extra={"outlet": self._name})
        return problem

    def _count(self, problem: str | None) -> None:
        with self._changed:
            self._problem, self._in_work = problem, False
            if problem is None:
                self._written += 1
            elif self._closing:
                self._dropped += 1
            else:
                self._failed += 1
            self._changed.notify_all()


_NOTHING = np.zeros((0, 0, 3), np.uint8)
_NO_MAP = np.zeros((0, 0), np.float32)


def _size(frame: Frame, verdict: Verdict) -> int:
    return frame.image.nbytes + verdict.anomaly_map.nbytes
