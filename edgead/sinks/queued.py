"""Queue and thread before a sink, with counts, so that a slow or dead sink delays no verdict."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field

from edgead.process.log_rate import limited_log
from edgead.serialization.notice import Notice
from edgead.sinks.contract import BaseSink, SinkError, StopRequested
from edgead.types import Frame, Verdict

_MAX_BYTES = 256 * 2**20
# Far more than a plant has faults: a receiver that is away for months gets the newest.
_MAX_NOTICES = 1000
# Least time between tracebacks of one sink: one shows the mistake, and a fault may come with every verdict.
_TRACEBACK_EVERY_S = 60.0
# A sink that works on one verdict for longer, and reports no problem, counts as waiting for an answer.
_SILENT_S = 2.0
# Interval at which a required sink that has nothing to do is checked.
_LOOK_EVERY_S = 5.0
_NOTHING = np.zeros((0, 0, 3), np.uint8)
_NO_MAP = np.zeros((0, 0), np.float32)
_DRAIN_S = 5.0


class QueueStatus(BaseModel, from_attributes=True):
    """State of a sink, and counts of the verdicts that were given to it; notices have counts of their own."""

    name: str
    uri: str
    waiting: Annotated[int, Field(description="Verdicts not taken yet, including the current one.")]
    written: Annotated[int, Field(description="Verdicts taken; by MQTT, HTTP and Modbus: acknowledged.")]
    dropped: Annotated[int, Field(description="Verdicts that a full queue dropped, or that were left at the close.")]
    failed: Annotated[int, Field(description="Verdicts that the sink refused, or at which it failed.")]
    problem: Annotated[str | None, Field(description="Problem of the sink now.")]
    required: Annotated[bool, Field(description="Whether the device is ready only while it works.")] = False
    failing_s: Annotated[float, Field(description="Seconds for which it has failed; 0 while it works.")] = 0.0
    blocks: Annotated[bool, Field(description="Whether it is required, and has failed for too long.")] = False
    notices_waiting: int = 0
    notices_written: int = 0
    notices_lost: Annotated[int, Field(description="Notices that were dropped or failed.")] = 0


@dataclass(slots=True)
class OutcomeCounter:
    """Counts of verdicts, or of notices, by outcome; see `QueueStatus`."""

    written: int = 0
    dropped: int = 0
    failed: int = 0

    def count(self, problem: str | None, *, closing: bool) -> None:
        """Count one verdict or notice by its outcome: no problem, dropped while closing, or failed."""
        if problem is None:
            self.written += 1
        elif closing:
            self.dropped += 1
        else:
            self.failed += 1


class QueuedSink:
    """Queue before a sink, in order; `write` never blocks, and drops the oldest when too many wait.

    Notices have a separate queue that goes first: verdicts neither delay an alarm nor push it out.

    `sink`: sink whose `write` may take as long as it needs, with all tries; only one thread calls it. If a required
        sink has nothing to do, its `check` is called, if it has one.
    `most`: number of verdicts that may wait; their images are also limited to 256 MiB.
    `tolerated_s`: seconds for which a required sink may fail before it blocks.
    """

    def __init__(self, name: str, sink: BaseSink, *, most: int, required: bool = False, tolerated_s: float = 0.0):
        self.uri = sink.uri
        self._name = name
        self._sink = sink
        self._most = most
        self._required, self._tolerated_s = required, tolerated_s
        self._skipped = 0
        self._waiting: deque[tuple[Frame, Verdict]] = deque()
        self._notices: deque[Notice] = deque()
        self._of_verdicts, self._of_notices = OutcomeCounter(), OutcomeCounter()
        self._bytes = 0
        self._in_work: OutcomeCounter | None = None
        self._calling = False  # the sink, for work or to find out whether it would work
        self._work_began_s: float | None = None  # of the item in work
        self._failing_since_s: float | None = None
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
            frame = replace(frame, image=_NOTHING, others={})
            verdict = replace(verdict, anomaly_map=_NO_MAP)
        with self._changed:
            if self._closing:
                self._of_verdicts.dropped += 1
                return
            self._waiting.append((frame, verdict))
            self._bytes += _size(frame, verdict)
            while len(self._waiting) > self._most or (self._bytes > _MAX_BYTES and len(self._waiting) > 1):
                self._take()
                self._of_verdicts.dropped += 1
            self._changed.notify()

    @property
    def retains_notices(self) -> bool:
        return self._sink.retains_notices

    def notify(self, notice: Notice) -> None:
        """Queue a notice for the sink."""
        with self._changed:
            if self._closing:
                self._of_notices.dropped += 1
                return
            self._notices.append(notice)
            if len(self._notices) > _MAX_NOTICES:
                self._notices.popleft()
                self._of_notices.dropped += 1
            self._changed.notify()

    def status(self) -> QueueStatus:
        with self._changed:
            problem = self._problem_now()
            failing_s = self._failing_s(problem)
            verdicts, notices = self._of_verdicts, self._of_notices
            return QueueStatus(
                name=self._name,
                uri=self.uri,
                waiting=len(self._waiting) + (self._in_work is verdicts),
                written=verdicts.written,
                dropped=verdicts.dropped,
                failed=verdicts.failed,
                problem=problem,
                required=self._required,
                failing_s=failing_s,
                blocks=self._required and failing_s > self._tolerated_s,
                notices_waiting=len(self._notices) + (self._in_work is notices),
                notices_written=notices.written,
                notices_lost=notices.dropped + notices.failed,
            )

    def close(self, within_s: float = 1.0) -> None:
        """Wait for the sink to take the rest, then close it; verdicts that it has not taken count as dropped."""
        deadline = time.monotonic() + within_s
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._has_work and not self._calling, within_s)
            self._of_verdicts.dropped += len(self._waiting)
            self._of_notices.dropped += len(self._notices)
            self._waiting.clear()
            self._notices.clear()
            idle = not self._calling
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
    def _has_work(self) -> bool:
        return bool(self._waiting or self._notices)

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
                    lambda: self._has_work or self._closing, _LOOK_EVERY_S if self._required else None
                )
                if called and not self._has_work:
                    return
                self._calling = True
                if called:
                    self._in_work, give = self._next()
                    self._work_began_s = time.monotonic()
            if called:
                self._count(self._outcome(give))
            else:
                self._look_after_sink()
            with self._changed:
                self._calling = False
                self._changed.notify_all()

    def _next(self) -> tuple[OutcomeCounter, Callable[[], None]]:
        if self._notices:
            return self._of_notices, partial(self._sink.notify, self._notices.popleft())
        frame, verdict = self._take()
        skipped, self._skipped = self._of_verdicts.dropped - self._skipped, self._of_verdicts.dropped
        return self._of_verdicts, partial(self._give, frame, verdict, skipped)

    def _give(self, frame: Frame, verdict: Verdict, skipped: int) -> None:
        self._sink.skip(skipped)
        self._sink.write(frame, verdict)

    def _look_after_sink(self) -> None:
        """Check a required sink that has nothing to do: if its failure stopped the line, no verdict would test it."""
        problem = self._outcome(self._sink.check) if self._sink.can_check else self._problem
        with self._changed:
            self._problem = problem
            self._failing_s(self._problem_now())

    def _outcome(self, call: Callable[[], None]) -> str | None:
        """Call a sink; return an error text, or None."""
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
            assert self._in_work is not None
            self._in_work.count(problem, closing=self._closing)
            self._in_work = self._work_began_s = None


def _size(frame: Frame, verdict: Verdict) -> int:
    return frame.image.nbytes + sum(each.nbytes for each in frame.others.values()) + verdict.anomaly_map.nbytes


class QueuedInLoop:
    """Queued sink for the camera loop, which checks no status: `close` raises for verdicts that were not delivered."""

    def __init__(self, queued: QueuedSink):
        self.uri = queued.uri
        self.write = queued.write
        self._queued = queued
        self._closed = False

    @property
    def problem(self) -> str | None:
        return self._queued.status().problem

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._queued.close(_DRAIN_S)
        status = self._queued.status()
        lost = status.dropped + status.failed + status.waiting
        if lost:
            reason = f": {status.problem}" if status.problem else ""
            raise SinkError(f"{self.uri}: {lost} verdicts were not delivered{reason}")
