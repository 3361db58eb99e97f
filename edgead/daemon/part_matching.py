"""Views of the same part, matched, and their verdict together; clock and thread are in `edgead.daemon.parts`."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgead.types import DECISIONS, Decision, Frame, Verdict

# A view that comes after its part went out is known for late by the last faults.
_REMEMBERED = 256
_NO_IMAGE, _NO_MAP = np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class View:
    """One verdict of one pipeline of a part."""

    pipeline: str
    camera: str
    frame: Frame
    verdict: Verdict

    def shows_part_of(self, other: View, apart_ns: int) -> bool:
        """Whether both show one part.

        A serial number decides where both have one; else the capture, where both are of one camera; else the time
        between the captures.
        """
        mine, others = self.frame.part.serial, other.frame.part.serial
        if mine and others:
            return mine == others
        if self.camera == other.camera:
            return self.frame.id == other.frame.id
        return abs(self.frame.captured_ns - other.frame.captured_ns) <= apart_ns


@dataclass(slots=True)
class Joined:
    """A part as far as its views are known; it is settled when all are there or something is wrong.

    Attributes
    ----------
    first_ns : int
        Of its first capture that came, by `time.perf_counter_ns`.
    views : dict of View
        By pipeline.
    reason : str
        Why it is a fault; empty where it is none.
    """

    first_ns: int
    views: dict[str, View] = field(default_factory=dict)
    reason: str = ""
    settled: bool = False

    def fail(self, reason: str) -> None:
        self.reason, self.settled = reason, True


class Matcher:
    """Brings the views of parts together; gives each part once, in the order of their first captures.

    A part waits for those before it, so that a PLC which counts parts has them in order; it never waits for longer
    than its own timeout. A part whose first view comes only after a later part was given leaves behind that one: a PLC
    that must know each part by more than its count reads its serial number. Whatever is lost or late, two views that
    `View.shows_part_of` keeps apart are never joined.

    Parameters
    ----------
    pipelines : sequence of str
        The views that a whole part has.
    timeout_ns : int
        From the first capture of a part to the verdict of its last view.
    apart_ns : int
        Most between the captures of one part by different cameras.

    Attributes
    ----------
    unmatched : int
        Views that came after their part had gone out, or could be of several parts.
    """

    def __init__(self, pipelines: Sequence[str], timeout_ns: int, apart_ns: int):
        self.unmatched = 0
        self._pipelines, self._timeout_ns, self._apart_ns = tuple(pipelines), timeout_ns, apart_ns
        self._open: list[Joined] = []  # by first_ns
        self._gone: deque[Joined] = deque(maxlen=_REMEMBERED)

    @property
    def waiting(self) -> int:
        """Parts that wait for a view, or for those before them."""
        return len(self._open)

    @property
    def deadline_ns(self) -> int | None:
        """When the next part is a fault, unless its last view comes; None while none waits."""
        waits = next((part for part in self._open if not part.settled), None)
        return None if waits is None else waits.first_ns + self._timeout_ns

    def add(self, view: View, now_ns: int) -> list[Joined]:
        """Take a view; gives the parts that are settled by it, or by the time that has gone by."""
        gone = self.expire(now_ns)
        fitting = [part for part in self._open if not part.settled and self._fits(part, view)]
        if len(fitting) > 1 and not all(_is_of_serial(part, view.frame.part.serial) for part in fitting):
            self.unmatched += 1
            for part in fitting:
                part.fail(f"captures of two parts are within {self._apart_ns / 1e6:g} ms: which is of {view.pipeline}?")
        elif fitting:
            fitting[0].views[view.pipeline] = view
            fitting[0].settled = len(fitting[0].views) == len(self._pipelines)
        elif any(part.reason and self._fits(part, view) for part in (*self._gone, *self._open)):
            self.unmatched += 1
        else:
            insort(self._open, Joined(view.frame.captured_ns, {view.pipeline: view}), key=lambda part: part.first_ns)
        return gone + self.expire(now_ns)

    def expire(self, now_ns: int) -> list[Joined]:
        """Give the parts that are settled, those whose time is up among them."""
        for part in self._open:
            if not part.settled and part.first_ns + self._timeout_ns <= now_ns:
                part.fail(f"{self._missing(part)}: no verdict within {self._timeout_ns / 1e6:g} ms")
        return self._settled()

    def end(self, reason: str) -> list[Joined]:
        """Give all that wait: what is not whole by now is a fault."""
        for part in self._open:
            if not part.settled:
                part.fail(f"{self._missing(part)}: {reason}")
        return self._settled()

    def _fits(self, part: Joined, view: View) -> bool:
        return (
            view.pipeline not in part.views
            and abs(view.frame.captured_ns - part.first_ns) <= self._timeout_ns
            and all(view.shows_part_of(other, self._apart_ns) for other in _views(part))
        )

    def _missing(self, part: Joined) -> str:
        return ", ".join(pipeline for pipeline in self._pipelines if pipeline not in part.views)

    def _settled(self) -> list[Joined]:
        count = next((index for index, part in enumerate(self._open) if not part.settled), len(self._open))
        settled, self._open = self._open[:count], self._open[count:]
        self._gone.extend(_light(part) for part in settled if part.reason)
        return settled


def _views(part: Joined) -> Iterator[View]:
    return iter(part.views.values())


def _is_of_serial(part: Joined, serial: str) -> bool:
    return bool(serial) and all(view.frame.part.serial == serial for view in _views(part))


def _light(part: Joined) -> Joined:
    """What is needed to know a part again, without its images."""
    views = {
        name: replace(
            view,
            frame=replace(view.frame, image=_NO_IMAGE, others={}),
            verdict=replace(view.verdict, anomaly_map=_NO_MAP),
        )
        for name, view in part.views.items()
    }
    return replace(part, views=views)


def decide(decisions: Sequence[Decision], needed: int) -> Decision:
    """Decide for a part: it is as good as the `needed` best of its views are all.

    >>> decide(["ok", "reject", "review"], 1), decide(["ok", "reject", "review"], 2)
    ('ok', 'review')
    """
    return sorted(decisions, key=DECISIONS.index)[needed - 1]
