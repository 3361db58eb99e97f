"""Accounting of judged frames, shared by all callers: age, stage times, latency and decisions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from edgead.errors import EdgeadError
from edgead.profiling.latency import LatencyRecorder
from edgead.types import DECISIONS, Frame, Palette, Verdict

MAX_KINDS = 20
OTHER_KINDS = "other kinds"
"""Name for rejects beyond `MAX_KINDS` kinds, so that counters by kind stay few."""

Step = Callable[[Frame], Verdict | None]
"""Function that judges a frame, like `edgead.detector.Session.step`."""


class FrameError(EdgeadError):
    """Frame that does not fit the model, for example by its size."""


class Inspector:
    """Counter of decisions and latencies around a detector; judges in one thread, any thread may read the numbers.

    >>> verdict = inspector.judge(frame, session.step)  # doctest: +SKIP
    >>> if verdict is not None:  # doctest: +SKIP
    ...     sink.write(frame, verdict)
    ...     verdict = inspector.finish(frame, verdict)

    `pipeline`: name that every verdict carries; empty outside of the daemon.
    `window`: number of newest frames for percentiles of latency.
    `budget_ms`: allowed time from the capture to the verdict; later verdicts are counted.
    `palette` ({"warm", "blue"}): colours of heat maps.
    `warming_up`: number of frames without a verdict because the head needed more frames first.
    `late`: number of verdicts later than `budget_ms` after the capture.
    """

    def __init__(
        self, pipeline: str = "", *, window: int = 100_000, budget_ms: float | None = None, palette: Palette = "warm"
    ):
        self.recorder = LatencyRecorder(window=window)
        self.warming_up = self.late = 0
        self._pipeline, self._budget_ms, self._palette = pipeline, budget_ms, palette
        self._decisions: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._judged_ns = 0

    @property
    def decisions(self) -> dict[str, int]:
        return {decision: self._decisions[decision] for decision in DECISIONS}

    @property
    def kinds(self) -> dict[str, int]:
        """Number of rejects by kind of defect, without those that have no kind."""
        return dict(self._kinds)

    def judge(self, frame: Frame, step: Step) -> Verdict | None:
        """Judge a frame; None while the head needs more frames.

        Raises FrameError: this frame cannot be judged, but others can; other errors of `step` are passed on.
        """
        begin_ns = time.perf_counter_ns()
        try:
            verdict = step(frame)
        except ValueError as error:
            raise FrameError(f"{f'frame {frame.number} {frame.name}'.rstrip()}: {error}") from error
        self._judged_ns = time.perf_counter_ns()
        if verdict is None:
            self.warming_up += 1
            return None
        times = replace(verdict.stage_times, age_ms=(begin_ns - frame.captured_ns) / 1e6)
        return replace(verdict, stage_times=times, pipeline=self._pipeline, palette=self._palette)

    def finish(self, frame: Frame, verdict: Verdict) -> Verdict:
        """Count a verdict after all sinks have it; return it with the sinks' time added."""
        finished_ns = time.perf_counter_ns()
        times = replace(verdict.stage_times, sink_ms=(finished_ns - self._judged_ns) / 1e6)
        total_ms = (finished_ns - frame.captured_ns) / 1e6
        self.recorder.add_frame(times, total_ms=total_ms, finished_ns=finished_ns)
        judged_ms = (self._judged_ns - frame.captured_ns) / 1e6
        self.late += self._budget_ms is not None and judged_ms > self._budget_ms
        self._decisions[verdict.decision] += 1
        if verdict.decision == "reject" and verdict.kind is not None:
            known = verdict.kind in self._kinds or len(self._kinds) < MAX_KINDS
            self._kinds[verdict.kind if known else OTHER_KINDS] += 1
        return replace(verdict, stage_times=times)
