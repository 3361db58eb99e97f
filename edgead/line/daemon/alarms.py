"""Alarms of a pipeline, raised by several verdicts together; hysteresis keeps them from flickering."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from edgead.line.site.alarms import AlarmsSection
from edgead.serialization.notice import KINDS, About, NoticeKey, NoticeKind, Severity
from edgead.types import FAULT

_BAD = ("reject", FAULT)
OF_VERDICTS: tuple[NoticeKind, ...] = ("rejects_in_a_row", "yield_below")
"""Kinds of alarms that a verdict raises and resolves."""
AT_ONCE: tuple[NoticeKind, ...] = ("no_part", "frame_format")
"""Kinds of alarms that have their own hysteresis, and do not wait for `settle_s`."""
ALARMS: tuple[NoticeKind, ...] = (*OF_VERDICTS, *AT_ONCE, "not_inspected")

_WINDOW_S = 60.0
# A pause at a reload, or one slow write, is no alarm.
_LEAST_S, _FEWEST_FRAMES = 10.0, 3


@dataclass(frozen=True, slots=True)
class Finding:
    """Present state, such as an alarm or a fault; see `Notice`."""

    kind: NoticeKind
    name: str
    text: str
    severity: Severity
    value: float | None = None
    limit: float | None = None

    @property
    def key(self) -> NoticeKey:
        return self.kind, self.name

    @property
    def about(self) -> About:
        return KINDS[self.kind][0]


@dataclass(frozen=True, slots=True)
class Change:
    """Start of a state, with its finding, or end of a state, with None."""

    key: NoticeKey
    finding: Finding | None


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """Counts of a pipeline's frames since it was made: judged, judged later than its budget, wanted but not judged."""

    judged: int
    late: int
    missed: int


class AlarmWatch:
    """Watch for the alarms of one pipeline: the pipeline's thread calls `add`, the thread of `Notices` the rest.

    `standing`: kinds of alarms that are already raised, as after a restart.
    `clock`: seconds, monotonic.
    """

    def __init__(
        self,
        pipeline: str,
        section: AlarmsSection,
        standing: Collection[NoticeKind] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._pipeline, self._section, self._clock = pipeline, section, clock
        self._row = _Row(section.rejects_in_a_row, "rejects_in_a_row" in standing)
        self._yield = _Yield(section.yield_below, section.of, "yield_below" in standing)
        self._frames = _NotInspected(section.not_inspected_above)
        self._part_s = clock()

    @property
    def kinds(self) -> frozenset[NoticeKind]:
        """Kinds of alarms that are watched: all that have a limit in the site file's `alarms` section."""
        return frozenset(kind for kind, limit in self._limits.items() if limit is not None)

    def add(self, decision: str) -> tuple[Change, ...]:
        """Take the decision of the next part; return the alarms that it raises or resolves, nearly always none."""
        self._part_s = self._clock()
        bad = decision in _BAD
        in_row, in_yield = self._row.add(bad), self._yield.add(bad)
        if not (in_row or in_yield):
            return ()
        changes = []
        if in_row:
            changes.append(self._change("rejects_in_a_row", self._row.stands, self._row.found()))
        if in_yield:
            changes.append(self._change("yield_below", self._yield.stands, self._yield.found()))
        return tuple(changes)

    def yield_now(self) -> float | None:
        """Return the yield of the newest parts, in per cent, while its alarm stands; else None."""
        return self._yield.value if self._yield.stands else None

    def no_part(self, *, running: bool) -> Finding | None:
        """Return a finding if no part has come for too long; time counts only while the pipeline runs."""
        limit_s, now_s = self._section.no_part_for_s, self._clock()
        if not running:
            self._part_s = now_s
        silent_s = now_s - self._part_s
        if limit_s is None or silent_s < limit_s:
            return None
        return self._finding("no_part", (f"no part for {limit_s:g} s", round(silent_s, 1)))

    def not_inspected(self, counts: FrameCounts | None) -> Finding | None:
        """Return a finding if too many frames got no verdict in time; `counts` is None while the pipeline does not run.

        `knows_frames` says whether the counts cover enough time to decide.
        """
        self._frames.look(self._clock(), counts)
        return self._finding("not_inspected", self._frames.found()) if self._frames.stands else None

    @property
    def knows_frames(self) -> bool:
        return self._frames.known

    def _change(self, kind: NoticeKind, stands: bool, found: tuple[str, float]) -> Change:
        return Change((kind, self._pipeline), self._finding(kind, found) if stands else None)

    def _finding(self, kind: NoticeKind, found: tuple[str, float]) -> Finding:
        severity: Severity = KINDS[kind][1][0]
        if kind == "not_inspected" and found[1] > 10 * self._frames.above:
            severity = "critical"
        return Finding(kind, self._pipeline, found[0], severity, found[1], self._limits[kind])

    @property
    def _limits(self) -> dict[NoticeKind, float | None]:
        section = self._section
        return {
            "rejects_in_a_row": section.rejects_in_a_row,
            "yield_below": section.yield_below,
            "no_part": section.no_part_for_s,
            "not_inspected": section.not_inspected_above,
        }


class _Row:
    """Alarm of bad parts in a row: `most` bad parts in a row raise it, as many good ones resolve it."""

    def __init__(self, most: int | None, stands: bool):
        self.stands = stands
        self._most, self._count = most, 0

    def add(self, bad: bool) -> bool:
        """Take the next part; return whether the alarm is raised or resolved."""
        if self._most is None:
            return False
        self._count = 0 if bad is self.stands else self._count + 1
        if self._count < self._most:
            return False
        self.stands, self._count = not self.stands, 0
        return True

    def found(self) -> tuple[str, float]:
        text = f"{self._most} parts in a row were rejected: is it the right model for this part?"
        return text, float(self._most or 0)


class _Yield:
    """Alarm of a low yield: raised when too many of the newest parts are bad, resolved at half as many.

    Until the window is full, the missing parts count as good: the alarm can be raised then, but not resolved.
    """

    def __init__(self, below: float | None, of: int, stands: bool):
        self.stands = stands
        self._below = below
        self._most = round(of * (100 - (below or 0)) / 100, 9)
        self._window: deque[bool] = deque(maxlen=of)
        self._bad = 0

    def add(self, bad: bool) -> bool:
        """Take the next part; return whether the alarm is raised or resolved."""
        if self._below is None:
            return False
        window = self._window
        full = len(window) == window.maxlen
        self._bad += bad - (full and window[0])
        window.append(bad)
        changes = full and self._bad <= self._most / 2 if self.stands else self._bad > self._most
        if changes:
            self.stands = not self.stands
        return changes

    def found(self) -> tuple[str, float]:
        parts, value = len(self._window), self.value or 0.0
        return f"{self._bad} of the last {parts} parts were rejected: yield {value:.1f} %", value

    @property
    def value(self) -> float | None:
        """Yield of the window in per cent; None if it is empty, as after a restart."""
        parts = len(self._window)
        return round(100 * (parts - self._bad) / parts, 2) if parts else None


class _NotInspected:
    """Alarm on the share of frames without a verdict in time, of the last minute; resolved at half its limit."""

    def __init__(self, above: float | None):
        self.stands = self.known = False
        self.above = above or 0.0
        self._watched = above is not None
        self._looks: deque[tuple[float, FrameCounts]] = deque()
        self._frames = self._late = self._missed = 0

    def look(self, now_s: float, counts: FrameCounts | None) -> None:
        """Take the current counts; None while the pipeline does not run, after which a new minute begins."""
        looks = self._looks
        if counts is None or (looks and counts.judged < looks[-1][1].judged):  # or it was made again
            looks.clear()
            self.stands = self.known = False
        if counts is None or not self._watched:
            return
        looks.append((now_s, counts))
        while len(looks) > 1 and looks[1][0] <= now_s - _WINDOW_S:
            looks.popleft()
        since_s, then = looks[0]
        self._late, self._missed = counts.late - then.late, counts.missed - then.missed
        self._frames = counts.judged - then.judged + self._missed
        self.known = now_s - since_s >= _LEAST_S
        most = self.above / 2 if self.stands else self.above
        few = not self.stands and self._late + self._missed < _FEWEST_FRAMES
        self.stands = self.known and not few and self._share > most

    @property
    def _share(self) -> float:
        return 100 * (self._late + self._missed) / self._frames if self._frames else 0.0

    def found(self) -> tuple[str, float]:
        text = (
            f"{self._late + self._missed} of the last minute's {self._frames} frames had no verdict in time "
            f"({self._missed} were not judged, {self._late} late): other work on this machine, or too slow a model?"
        )
        return text, round(self._share, 2)
