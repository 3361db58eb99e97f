"""Alarms of a pipeline: what its verdicts say together, each with hysteresis, so that it does not flicker."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from edgead.serialization.notice import KINDS, About, NoticeKey, NoticeKind, Severity
from edgead.site.alarms import AlarmsSection
from edgead.types import FAULT

_BAD = ("reject", FAULT)
OF_VERDICTS: tuple[NoticeKind, ...] = ("rejects_in_a_row", "yield_below")
"""Kinds of alarms that a verdict raises and resolves."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that stands now; see `Notice`."""

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
    """What stands from now on; with None for a finding, what no longer does."""

    key: NoticeKey
    finding: Finding | None


class AlarmWatch:
    """Watches one pipeline; `add` is its thread's, `no_part` that of who looks now and then.

    Parameters
    ----------
    pipeline : str
    section : AlarmsSection
    standing : collection of str
        Kinds of alarms that stand already, as after a restart.
    clock : callable
        Seconds, monotonic.
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
        self._part_s = clock()

    @property
    def kinds(self) -> frozenset[NoticeKind]:
        """Which alarms may be raised."""
        return frozenset(kind for kind in (*OF_VERDICTS, "no_part") if self._limit(kind) is not None)

    def add(self, decision: str) -> tuple[Change, ...]:
        """Take the decision of the next part; gives what it changes, which is nothing nearly always."""
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

    def no_part(self, *, running: bool) -> Finding | None:
        """Find out whether no part has come for too long; the time counts only while the pipeline runs."""
        limit_s, now_s = self._section.no_part_for_s, self._clock()
        if not running:
            self._part_s = now_s
        silent_s = now_s - self._part_s
        if limit_s is None or silent_s < limit_s:
            return None
        return self._finding("no_part", (f"no part for {limit_s:g} s", round(silent_s, 1)))

    def _change(self, kind: NoticeKind, stands: bool, found: tuple[str, float]) -> Change:
        return Change((kind, self._pipeline), self._finding(kind, found) if stands else None)

    def _finding(self, kind: NoticeKind, found: tuple[str, float]) -> Finding:
        (severity,) = KINDS[kind][1]
        return Finding(kind, self._pipeline, found[0], severity, found[1], self._limit(kind))

    def _limit(self, kind: NoticeKind) -> float | None:
        section = self._section
        limits = {"rejects_in_a_row": section.rejects_in_a_row, "yield_below": section.yield_below}
        return limits.get(kind, section.no_part_for_s)


class _Row:
    """Stands once `most` parts in a row were bad, and until as many in a row were not."""

    def __init__(self, most: int | None, stands: bool):
        self.stands = stands
        self._most, self._count = most, 0

    def add(self, bad: bool) -> bool:
        """Take the next part; whether that changes what stands."""
        if self._most is None:
            return False
        self._count = 0 if bad is self.stands else self._count + 1
        if self._count < self._most:
            return False
        self.stands, self._count = not self.stands, 0
        return True

    def found(self) -> tuple[str, float]:
        return f"{self._most} parts in a row were rejected", float(self._most or 0)


class _Yield:
    """Stands once more of the newest parts were bad than may be, and until at most half as many are.

    Parts that have not come yet count as good, so that it needs no full window to stand; to be resolved it does.
    """

    def __init__(self, below: float | None, of: int, stands: bool):
        self.stands = stands
        self._below = below
        self._most = round(of * (100 - (below or 0)) / 100, 9)
        self._window: deque[bool] = deque(maxlen=of)
        self._bad = 0

    def add(self, bad: bool) -> bool:
        """Take the next part; whether that changes what stands."""
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
        parts = len(self._window)
        value = 100 * (parts - self._bad) / parts
        return f"{self._bad} of the last {parts} parts were rejected: yield {value:.1f} %", round(value, 2)
