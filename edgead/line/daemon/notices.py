"""Notices of alarms, faults and drift: raised, resolved, kept over restarts, and sent to sinks and the page.

A thread of its own sends them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from edgead.errors import EdgeadError
from edgead.files.atomic import write_whole
from edgead.line.daemon.alarms import ALARMS, AT_ONCE, OF_VERDICTS, AlarmWatch, Change, Finding
from edgead.line.daemon.faults import FaultReport, SiteParts, find_faults
from edgead.process.restarting_thread import RestartingThread
from edgead.serialization.notice import KINDS, Notice, NoticeKey, NoticeKind, Severity
from edgead.sources.contract import new_id
from edgead.types import Frame, Verdict

if TYPE_CHECKING:
    from edgead.line.site.schema import Site
    from edgead.sinks.queued import QueuedSink

logger = logging.getLogger(__name__)

_MAX_RESOLVED = 200
_FILE = TypeAdapter(list[Notice])
_LOOK_EVERY_S = 0.5


class NoticeLedger:
    """List of notices, each raised once and resolved once; safe from any thread.

    `file`: file that keeps the notices.
    `now`: returns the time, in UTC.
    """

    def __init__(self, file: Path, now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)):
        self._raised: Counter[tuple[NoticeKind, Severity]] = Counter()
        self._file, self._now = file, now
        self._standing: dict[NoticeKey, Notice] = {}
        self._resolved: deque[Notice] = deque(maxlen=_MAX_RESOLVED)
        self._lock = threading.Lock()
        self._saved: list[Notice] | None = None
        self._fails = False
        self._restore()

    def standing(self) -> list[Notice]:
        """List the notices that stand, newest first."""
        with self._lock:
            return list(self._standing.values())[::-1]

    def resolved(self, limit: int = _MAX_RESOLVED) -> list[Notice]:
        """List the newest notices that were resolved, newest first."""
        with self._lock:
            return list(self._resolved)[::-1][:limit]

    def counts(self) -> dict[str, dict[tuple[NoticeKind, Severity], int]]:
        """Count, by kind and severity, the notices that are `open`, and the notices `raised` since the start."""
        kinds = [(kind, severity) for kind, (_, severities) in KINDS.items() for severity in severities]
        standing = Counter((notice.kind, notice.severity) for notice in self.standing())
        return {"open": {key: standing[key] for key in kinds}, "raised": {key: self._raised[key] for key in kinds}}

    def newest_of_each(self) -> Iterable[Notice]:
        """Return the newest notice of each kind and name."""
        return {notice.key: notice for notice in [*self.resolved()[::-1], *self.standing()]}.values()

    def stand(self, finding: Finding) -> Notice | None:
        """Raise a notice of a finding and return it; if one stands already, give it the new text and return None."""
        with self._lock:
            known = self._standing.get(finding.key)
            if known is not None:
                self._standing[finding.key] = replace(known, text=finding.text, severity=finding.severity)
                return None
            facts = {name: getattr(finding, name) for name in ("name", "severity", "text", "value", "limit")}
            now = self._now()
            notice = Notice(new_id(now), finding.kind, finding.about, since=now, **facts)
            self._standing[finding.key] = notice
            self._raised[finding.kind, finding.severity] += 1
            return notice

    def measure(self, key: NoticeKey, value_now: float | None) -> None:
        """Set the present value of a notice, if the notice stands."""
        with self._lock:
            if (known := self._standing.get(key)) is not None:
                self._standing[key] = replace(known, value_now=value_now)

    def resolve(self, key: NoticeKey) -> Notice | None:
        """Resolve a standing notice; None if there is none."""
        with self._lock:
            notice = self._standing.pop(key, None)
            if notice is None:
                return None
            self._resolved.append(replace(notice, resolved_at=self._now(), value_now=None))
            return self._resolved[-1]

    def note_seen(self, id: str, by: str) -> tuple[Notice | None, bool]:
        """Record who has seen a notice; return the notice, or None, and whether this is its first acknowledgement."""
        with self._lock:
            places: tuple[tuple[object, Notice], ...] = (*self._standing.items(), *enumerate(self._resolved))
            place, notice = next(((place, one) for place, one in places if one.id == id), (None, None))
            if notice is None or notice.acknowledged_at is not None:
                return notice, False
            seen = replace(notice, acknowledged_by=by, acknowledged_at=self._now())
            if isinstance(place, int):
                self._resolved[place] = seen
            else:
                self._standing[seen.key] = seen
            return seen, True

    def save(self) -> None:
        """Keep the notices for the next start, if they have changed; a failed write is logged."""
        with self._lock:
            content = [*self._resolved, *(replace(one, value_now=None) for one in self._standing.values())]
        if content == self._saved:
            return
        try:
            write_whole(self._file, _FILE.dump_json(content, indent=1), durable=False)
        except OSError as error:
            if not self._fails:  # this runs twice a second
                logger.warning("notices are not kept: %s cannot be written: %s", self._file, error.strerror)
            self._fails = True
        else:
            self._saved, self._fails = content, False

    def _restore(self) -> None:
        try:
            content = _FILE.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is damaged"
            logger.warning("the notices in %s are dropped: %s", self._file, why)
            return
        for notice in content:
            if notice.resolved_at is None:
                self._standing[notice.key] = notice
            else:
                self._resolved.append(notice)


class Notices(NoticeLedger):
    """Notices of a site, from its verdicts and from the status of its components.

    `file`: file that keeps the notices.
    `publish`: receives every notice that is raised, acknowledged or resolved; must not wait.
    `clock`: seconds, monotonic.
    """

    def __init__(self, file: Path, publish: Callable[[Notice], None], *, clock: Callable[[], float] = time.monotonic):
        super().__init__(file)
        self._publish, self._clock = publish, clock
        self._watches: dict[str, tuple[object, AlarmWatch]] = {}
        self._sinks: tuple[QueuedSink, ...] = ()
        self._settle_s = 0.0
        self._differs_since_s: dict[NoticeKey, float] = {}
        self._changes: deque[Change] = deque()
        self._sending = threading.Lock()
        self._wake, self._closing = threading.Event(), False
        self._parts: SiteParts | None = None
        self._thread = RestartingThread("notices", self._run)

    # Sources that it follows

    def start(self, parts: SiteParts) -> None:
        """Start checking the components of a site."""
        self._parts = parts
        self._thread.start()

    def follow(self, site: Site, sinks: Mapping[str, QueuedSink]) -> None:
        """Apply a site file; watches with unchanged sections go on, and standing notices stay.

        A new sink that retains notices gets the newest notice of each kind and name.
        """
        standing = {notice.key for notice in self.standing()}
        watches = {}
        for name, pipeline in site.pipelines.items():
            known = self._watches.get(name)
            if known is None or known[0] != pipeline.alarms:
                stands = [kind for kind in ALARMS if (kind, name) in standing]
                known = pipeline.alarms, AlarmWatch(name, pipeline.alarms, stands, clock=self._clock)
            watches[name] = known
        self._watches = watches
        self._settle_s = site.notices.settle_s
        with self._sending:
            before, self._sinks = self._sinks, tuple(sinks[name] for name in site.notices.sinks)
            for sink in self._sinks:
                if sink.retains_notices and sink not in before:
                    for notice in self.newest_of_each():
                        sink.notify(notice)

    def add(self, frame: Frame, verdict: Verdict) -> None:
        """Take a verdict, in its pipeline's thread; never waits."""
        watch = self._watches.get(verdict.pipeline)
        changes = watch[1].add(verdict.decision) if watch is not None else ()
        if changes:
            self._changes.extend(changes)
            self._wake.set()

    def close(self, within_s: float = 0.2) -> None:
        """Stop checking; notices are kept."""
        self._closing = True
        self._wake.set()
        self._thread.join(within_s)

    def acknowledge(self, id: str, *, by: str) -> Notice | None:
        """Note, once and in the audit, that a person has seen a notice; return it, or None if no notice has that id."""
        notice, is_news = self.note_seen(id, by)
        if notice is not None and is_news:
            self._send([notice])
            self.save()
            seen = {"notice": notice.id, "kind": notice.kind, "text": notice.text}
            self._audit(by=by, action="acknowledge", pipeline=notice.name, before=None, after=seen)
        return notice

    # Its thread

    def look(self, parts: SiteParts) -> None:
        """Check everything once, and send the notices that changed."""
        changes = [self._changes.popleft() for _ in range(len(self._changes))]
        news = [self._changed(change) for change in (*changes, *self._settled(self._found(parts)))]
        self._send([notice for notice in news if notice is not None])
        self.save()

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(_LOOK_EVERY_S)
            self._wake.clear()
            if self._parts is not None and not self._closing:
                self.look(self._parts)

    def _found(self, parts: SiteParts) -> FaultReport:
        """Collect all findings from the status; kinds of notices that verdicts raise count as unknown here."""
        found = find_faults(parts)
        standing, unknown = dict(found.standing), set(found.unknown)
        for name, (_, watch) in list(self._watches.items()):
            unknown.update((kind, name) for kind in watch.kinds if kind in OF_VERDICTS)
            self.measure(("yield_below", name), watch.yield_now())
            pipeline = parts.pipelines.get(name)
            running = pipeline is not None and pipeline.state == "running"
            finding = watch.no_part(running=running)
            if finding is not None:
                standing[finding.key] = finding
            elif not running and "no_part" in watch.kinds:
                unknown.add(("no_part", name))
            finding = watch.not_inspected(pipeline.frame_counts if pipeline is not None and running else None)
            if finding is not None:
                standing[finding.key] = finding
            elif not watch.knows_frames and "not_inspected" in watch.kinds:
                unknown.add(("not_inspected", name))
        return FaultReport(standing, frozenset(unknown))

    def _settled(self, found: FaultReport) -> list[Change]:
        """Return states that have lasted or been gone for long enough; also update the texts of standing notices."""
        standing = {notice.key for notice in self.standing()}
        for key in standing & found.standing.keys():
            self.stand(found.standing[key])
        differs = (found.standing.keys() - standing) | (standing - found.standing.keys() - found.unknown)
        now_s = self._clock()
        self._differs_since_s = {key: self._differs_since_s.get(key, now_s) for key in differs}
        return [
            Change(key, found.standing.get(key))
            for key, since_s in self._differs_since_s.items()
            if key[0] in AT_ONCE or now_s - since_s >= self._settle_s
        ]

    def _changed(self, change: Change) -> Notice | None:
        finding = change.finding
        notice = self.resolve(change.key) if finding is None else self.stand(finding)
        if notice is not None and notice.kind in ALARMS:
            _log(notice)
        return notice

    def _send(self, notices: list[Notice]) -> None:
        with self._sending:
            for notice in notices:
                for sink in self._sinks:
                    sink.notify(notice)
                self._publish(notice)

    def _audit(self, **change: Any) -> None:
        assert self._parts is not None
        try:
            self._parts.store.add_audit(**change)
        except EdgeadError as error:
            logger.error("%s of %s is not in the audit: %s", change["action"], change["pipeline"], error)


def _log(notice: Notice) -> None:
    """Log an alarm; faults and drift are logged elsewhere."""
    level = logging.INFO if notice.resolved_at else logging.WARNING
    text = f"{notice.name}: alarm {notice.event}: {notice.text}"
    logger.log(level, text, extra={"pipeline": notice.name, "kind": notice.kind})
