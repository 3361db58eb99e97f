"""Parts that several pipelines judge: their verdicts are matched, combined, recorded, and sent to sinks."""

from __future__ import annotations

import logging
import threading
import time
from bisect import insort
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead.errors import EdgeadError
from edgead.line.site.parts import PartSection
from edgead.line.site.status import PartStatus
from edgead.process.restarting_thread import RestartingThread
from edgead.types import DECISIONS, FAULT, NO_PART, Decision, Frame, PartVerdict, Verdict

if TYPE_CHECKING:
    from edgead.line.evidence import EvidenceStore
    from edgead.line.site.schema import Site
    from edgead.sinks.queued import QueuedSink

logger = logging.getLogger(__name__)

# The newest faults are remembered, to recognise views that come after their part went out.
_REMEMBERED = 256
_NO_IMAGE, _NO_MAP = np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0), np.float32)
# Views that the thread has not handled: their images must not fill the memory while the database stalls.
_MAX_WAITING = 256


@dataclass(frozen=True, slots=True)
class PartView:
    """View of a part: the frame and verdict of one pipeline."""

    pipeline: str
    camera: str
    frame: Frame
    verdict: Verdict

    def shows_part_of(self, other: PartView, apart_ns: int) -> bool:
        """Return whether both views show the same part.

        If both have a serial number, these decide; otherwise, for two views of one camera, whether the capture is the
        same; otherwise the time between the captures.
        """
        mine, others = self.frame.part.serial, other.frame.part.serial
        if mine and others:
            return mine == others
        if self.camera == other.camera:
            return self.frame.id == other.frame.id
        return abs(self.frame.captured_ns - other.frame.captured_ns) <= apart_ns


@dataclass(slots=True)
class OpenPart:
    """Part with its views so far; `settled` once all views have come, or the part is a fault.

    `first_ns`: capture time of the view that came first, by `time.perf_counter_ns`.
    `views`: views by pipeline.
    `reason`: reason why the part is a fault; empty if it is none.
    """

    first_ns: int
    views: dict[str, PartView] = field(default_factory=dict)
    reason: str = ""
    settled: bool = False

    def fail(self, reason: str) -> None:
        self.reason, self.settled = reason, True


class Matcher:
    """Matcher of views to parts; it returns each part once, in the order of their first captures.

    A complete part waits for earlier parts, so that a PLC which counts parts gets them in order, but never longer than
    its own timeout. If a part's first view comes too late, after a later part was returned, the order is wrong: a PLC
    that must be sure reads the serial number. Two views are joined only if `PartView.shows_part_of` allows it.

    `pipelines`: pipelines whose views make a complete part.
    `timeout_ns`: longest time from a part's first capture to the verdict of its last view.
    `apart_ns`: longest time between captures of one part by different cameras.
    `unmatched`: number of views that came after their part was returned, or that fit several parts.
    """

    def __init__(self, pipelines: Sequence[str], timeout_ns: int, apart_ns: int):
        self.unmatched = 0
        self._pipelines, self._timeout_ns, self._apart_ns = tuple(pipelines), timeout_ns, apart_ns
        self._open: list[OpenPart] = []  # by first_ns
        self._gone: deque[OpenPart] = deque(maxlen=_REMEMBERED)

    @property
    def waiting(self) -> int:
        """Number of parts that wait for a view, or for earlier parts."""
        return len(self._open)

    @property
    def deadline_ns(self) -> int | None:
        """Time when the first incomplete part becomes a fault, by `time.perf_counter_ns`; None if all are complete."""
        waits = next((part for part in self._open if not part.settled), None)
        return None if waits is None else waits.first_ns + self._timeout_ns

    def add(self, view: PartView, now_ns: int) -> list[OpenPart]:
        """Take a view; return the parts that are now complete or a fault, in order."""
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
            insort(self._open, OpenPart(view.frame.captured_ns, {view.pipeline: view}), key=lambda part: part.first_ns)
        return gone + self.expire(now_ns)

    def expire(self, now_ns: int) -> list[OpenPart]:
        """Make faults of the parts that have timed out; return the parts that are complete or a fault, in order."""
        for part in self._open:
            if not part.settled and part.first_ns + self._timeout_ns <= now_ns:
                part.fail(f"{self._missing(part)}: no verdict within {self._timeout_ns / 1e6:g} ms")
        return self._settled()

    def end(self, reason: str) -> list[OpenPart]:
        """Return all waiting parts; incomplete ones are faults."""
        for part in self._open:
            if not part.settled:
                part.fail(f"{self._missing(part)}: {reason}")
        return self._settled()

    def _fits(self, part: OpenPart, view: PartView) -> bool:
        return (
            view.pipeline not in part.views
            and abs(view.frame.captured_ns - part.first_ns) <= self._timeout_ns
            and all(view.shows_part_of(other, self._apart_ns) for other in _views(part))
        )

    def _missing(self, part: OpenPart) -> str:
        return ", ".join(pipeline for pipeline in self._pipelines if pipeline not in part.views)

    def _settled(self) -> list[OpenPart]:
        count = next((index for index, part in enumerate(self._open) if not part.settled), len(self._open))
        settled, self._open = self._open[:count], self._open[count:]
        self._gone.extend(_light(part) for part in settled if part.reason)
        return settled


def _views(part: OpenPart) -> Iterator[PartView]:
    return iter(part.views.values())


def _is_of_serial(part: OpenPart, serial: str) -> bool:
    return bool(serial) and all(view.frame.part.serial == serial for view in _views(part))


def _light(part: OpenPart) -> OpenPart:
    """Return a copy of a part without its images, enough to recognise its late views."""
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
    """Decide for a part: the worst decision among the `needed` best of its views.

    >>> decide(["ok", "reject", "review"], 1), decide(["ok", "reject", "review"], 2)
    ('ok', 'review')
    """
    return sorted(decisions, key=DECISIONS.index)[needed - 1]


class PartJudge:
    """Combiner of the verdicts of several pipelines into one verdict for each part, in its own thread.

    `cameras`: camera of each pipeline.
    """

    def __init__(
        self,
        name: str,
        section: PartSection,
        cameras: Mapping[str, str],
        store: EvidenceStore,
        sinks: tuple[QueuedSink, ...],
    ):
        self.sinks = sinks
        self._name, self._section, self._cameras, self._store = name, section, cameras, store
        self._matcher = Matcher(section.pipelines, int(section.timeout_ms * 1e6), int(section.apart_ms * 1e6))
        self._views: deque[PartView] = deque()
        self._decisions: Counter[str] = Counter(dict.fromkeys((*DECISIONS, FAULT), 0))
        self._pushed_out = 0
        self._reason = ""
        self._ending: str | None = None
        self._changed = threading.Condition()
        self._thread = RestartingThread(f"part {name}", self._run)
        self._thread.start()

    def add(self, frame: Frame, verdict: Verdict) -> None:
        """Take a verdict, and ignore it if its pipeline does not view this part; never waits."""
        if verdict.pipeline not in self._section.pipelines:
            return
        with self._changed:
            self._views.append(PartView(verdict.pipeline, self._cameras[verdict.pipeline], frame, verdict))
            if len(self._views) > _MAX_WAITING:
                self._views.popleft()
                self._pushed_out += 1
            self._changed.notify()

    def status(self) -> PartStatus:
        return PartStatus(
            name=self._name,
            pipelines=self._section.pipelines,
            rule=self._section.rule,
            decisions=dict(self._decisions),
            waiting=self._matcher.waiting,
            unmatched=self._matcher.unmatched + self._pushed_out,
            reason=self._reason,
            problem=self._thread.problem,
        )

    def close(self, reason: str, within_s: float) -> None:
        """Give all waiting parts their verdict, incomplete ones as faults, and stop."""
        with self._changed:
            self._ending = reason
            self._changed.notify()
        self._thread.join(within_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._views) or self._ending is not None, self._wait_s())
                view = self._views.popleft() if self._views else None
                ending = self._ending
            now_ns = time.perf_counter_ns()
            if view is not None:
                self._give(self._matcher.add(view, now_ns))
            elif ending is not None:
                self._give(self._matcher.end(ending))
                return
            else:
                self._give(self._matcher.expire(now_ns))

    def _wait_s(self) -> float | None:
        deadline_ns = self._matcher.deadline_ns
        return None if deadline_ns is None else max(0.0, (deadline_ns - time.perf_counter_ns()) / 1e9)

    def _give(self, parts: list[OpenPart]) -> None:
        for part in parts:
            frame, verdict = part_verdict(self._name, self._section, part)
            if verdict.decision == FAULT:
                logger.warning("%s: fault: %s", self._name, verdict.reason, extra={"part": self._name, "id": frame.id})
                self._reason = verdict.reason
            try:
                self._store.parts.add(frame, verdict)  # first: no verdict may be known that is not recorded
            except EdgeadError as error:
                logger.error("%s: a part is not on record: %s", self._name, error, extra={"part": self._name})
            for sink in self.sinks:
                sink.write(frame, verdict)
            self._decisions[verdict.decision] += 1


def part_verdict(name: str, section: PartSection, part: OpenPart) -> tuple[Frame, PartVerdict]:
    """Make the verdict of a part; return it with the frame of the view that represents the part.

    This is the first view, in the site file's order, with the part's decision; for a fault, with the worst decision.
    """
    views = [part.views[pipeline] for pipeline in section.pipelines if pipeline in part.views]
    decisions = [view.verdict.decision for view in views]
    decision = FAULT if part.reason else decide(decisions, section.needed)
    shown = max(decisions, key=DECISIONS.index) if part.reason else decision
    stands = views[decisions.index(shown)]
    named = next((view.frame.part for view in views if view.frame.part != NO_PART), NO_PART)
    given = {one: getattr(stands.verdict, one) for one in Verdict.__dataclass_fields__}
    seen = tuple(_described(view) for view in views)
    verdict = PartVerdict(**{**given, "pipeline": name, "decision": decision}, reason=part.reason, views=seen)
    return replace(stands.frame, part=named), verdict


def _described(view: PartView) -> dict[str, Any]:
    verdict = view.verdict
    other = {} if verdict.other_format is None else {"other_format": verdict.other_format}
    return {
        "pipeline": view.pipeline,
        "id": view.frame.id,
        "decision": verdict.decision,
        "score": verdict.score,
        "image_score": float(verdict.image_score),
        "boxes": [box.to_dict() for box in verdict.boxes],
        **other,
    }


class PartGroups:
    """Combiners of the parts that a site file names under `parts:`."""

    def __init__(self) -> None:
        self.named: dict[str, PartJudge] = {}
        self._sections: dict[str, tuple[PartSection, dict[str, str]]] = {}

    def add(self, frame: Frame, verdict: Verdict) -> None:
        """Take the verdict of a pipeline; never waits."""
        for parts in list(self.named.values()):
            parts.add(frame, verdict)

    def follow(self, site: Site, store: EvidenceStore, sinks: Mapping[str, QueuedSink], within_s: float) -> None:
        """Apply a site file; parts with unchanged sections go on undisturbed."""
        wanted = {
            name: (section, {pipeline: site.pipelines[pipeline].camera for pipeline in section.pipelines})
            for name, section in site.parts.items()
        }
        for name in [name for name in self.named if self._sections[name] != wanted.get(name)]:
            self.named.pop(name).close("the site file has changed", within_s)
        for name, (section, cameras) in wanted.items():
            given = tuple(sinks[sink] for sink in section.sinks)
            if name in self.named:
                self.named[name].sinks = given
            else:
                self.named[name] = PartJudge(name, section, cameras, store, given)
        self._sections = wanted

    def close(self, within_s: float) -> None:
        """Close all combiners, within a time in all; see `PartJudge.close`."""
        deadline = time.monotonic() + within_s
        for parts in self.named.values():
            parts.close("the daemon ends", max(0.05, deadline - time.monotonic()))
