"""A queue and a thread before a sink, so that a slow or dead one delays no verdict."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edgead.process.log_rate import limited_log
from edgead.sinks.contract import BaseSink, SinkError, StopRequested
from edgead.types import Frame, Verdict

_MOST_BYTES = 256 * 2**20
# Tracebacks of one sink: one is enough to find the mistake, and a fault may come with every verdict.
_TRACEBACK_EVERY_S = 60.0
# A sink that has worked on one verdict for so long, and says nothing of it, waits for an answer.
_SILENT_S = 2.0
# How often a required sink is looked after while it has nothing to do.
_LOOK_EVERY_S = 5.0


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


class QueuedSink:
    """Hands verdicts to a sink in their order; `write` never blocks, and drops the oldest when too many wait.

    Parameters
    ----------
    name : str
    sink : BaseSink
        Its `write` may take as long as it wants: a sink that tries again does it there. It is only ever called from
        one thread. One that is required and has nothing to do is asked by `check`, where it can, for its receiver.
    most : int
        Verdicts that may wait; images are also limited to 256 MiB.
    required : bool
    tolerated_s : float
        For how long a required one may fail.
    """

    def __init__(self, name: str, sink: BaseSink, *, most: int, required: bool = False, tolerated_s: float = 0.0):
        self.uri = sink.uri
        self._name = name
        self._sink = sink
        self._most = most
        self._required, self._tolerated_s = required, tolerated_s
        self._skipped = 0
        self._waiting: deque[tuple[Frame, Verdict]] = deque()
        self._bytes = 0
        self._work_began_s: float | None = None  # of the verdict in work
        self._failing_since_s: float | None = None
        self._written = self._dropped = self._failed = 0
        self._problem: str | None = None
        self._closing = False
        self._log = limited_log(__name__, 1, _TRACEBACK_EVERY_S)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"sink {name}", daemon=True)
        self._thread.start()

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Queue a verdict for the sink."""
        if verdict.decision not in self._sink.decisions:
            return
        if not self._sink.needs_image:
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

    def status(self) -> QueueStatus:
        with self._changed:
            waiting = len(self._waiting) + self._in_work
            problem = self._problem_now()
            failing_s = self._failing_s(problem)
            blocks = self._required and failing_s > self._tolerated_s
            counts = (waiting, self._written, self._dropped, self._failed)
            return QueueStatus(self._name, self.uri, *counts, problem, self._required, failing_s, blocks)

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

    @property
    def _in_work(self) -> bool:
        return self._work_began_s is not None

    def _problem_now(self) -> str | None:
        if not self._closing and not self._thread.is_alive():
            return "its thread has died, see the log"
        problem = self._sink.problem or self._problem
        silent_s = time.monotonic() - self._work_began_s if self._work_began_s is not None else 0.0
        if problem is None and silent_s > _SILENT_S:
            return f"{self.uri}: no answer yet, for {silent_s:.0f} s"
        return problem

    def _failing_s(self, problem: str | None) -> float:
        if problem is None:
            self._failing_since_s = None
            return 0.0
        now_s = time.monotonic()
        if self._failing_since_s is None:
            self._failing_since_s = now_s if self._work_began_s is None else self._work_began_s
        return now_s - self._failing_since_s

    def _run(self) -> None:
        while True:
            with self._changed:
                called = self._changed.wait_for(
                    lambda: bool(self._waiting) or self._closing, _LOOK_EVERY_S if self._required else None
                )
                if called and not self._waiting:
                    return
                if called:
                    frame, verdict = self._take()
                    self._work_began_s = time.monotonic()
                    skipped, self._skipped = self._dropped - self._skipped, self._dropped
            if called:
                self._count(self._written_to_sink(frame, verdict, skipped))
            else:
                self._look_after_sink()

    def _look_after_sink(self) -> None:
        """Find out whether a sink with nothing to do would work: a line that stands still for it gives it nothing."""
        problem = self._outcome(self._sink.check) if self._sink.can_check else self._problem
        with self._changed:
            self._problem = problem
            self._failing_s(self._problem_now())

    def _written_to_sink(self, frame: Frame, verdict: Verdict, skipped: int) -> str | None:
        def write() -> None:
            self._sink.skip(skipped)
            self._sink.write(frame, verdict)

        return self._outcome(write)

    def _outcome(self, call: Callable[[], None]) -> str | None:
        """Call a sink; gives what went wrong."""
        try:
            call()
        except SinkError as error:
            return str(error)
        except StopRequested:
            return f"{self.uri}: its user has closed it"
        except Exception as error:  # noqa: BLE001  the next verdict may be taken; a queued sink that has ended takes none
            return self._unforeseen(error)
        return None

    def _unforeseen(self, error: Exception) -> str:
        problem = f"{self.uri}: failed by {type(error).__name__}, see the log"
        self._log.error("%s", problem, exc_info=error, extra={"sink": self._name})
        return problem

    def _count(self, problem: str | None) -> None:
        with self._changed:
            self._problem = problem
            self._failing_s(problem)
            self._work_began_s = None
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
