"""The notices that stand and the newest that did, kept over a restart of the daemon."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from edgead.daemon.alarms import Finding
from edgead.files.atomic import write_whole
from edgead.serialization.notice import KINDS, Notice, NoticeKey, NoticeKind, Severity
from edgead.sources.contract import new_id

logger = logging.getLogger(__name__)

_MAX_RESOLVED = 200
_FILE = TypeAdapter(list[Notice])


class NoticeLedger:
    """Raises a notice once and resolves it once; safe from any thread.

    Parameters
    ----------
    file : Path
        Where the notices are kept.
    now : callable
        Gives the time, in UTC.
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
        """Count, by kind and severity, the notices that are `open`, and those `raised` since the start."""
        kinds = [(kind, severity) for kind, (_, severities) in KINDS.items() for severity in severities]
        standing = Counter((notice.kind, notice.severity) for notice in self.standing())
        return {"open": {key: standing[key] for key in kinds}, "raised": {key: self._raised[key] for key in kinds}}

    def newest_of_each(self) -> Iterable[Notice]:
        """Give the newest notice of each kind and name."""
        return {notice.key: notice for notice in [*self.resolved()[::-1], *self.standing()]}.values()

    def stand(self, finding: Finding) -> Notice | None:
        """Raise a notice of what was found; None where one stands already, which takes its words."""
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

    def resolve(self, key: NoticeKey) -> Notice | None:
        """Resolve what stands; None where nothing does."""
        with self._lock:
            notice = self._standing.pop(key, None)
            if notice is None:
                return None
            self._resolved.append(replace(notice, resolved_at=self._now()))
            return self._resolved[-1]

    def acknowledge(self, id: str, by: str) -> tuple[Notice | None, bool]:
        """Note who has seen a notice; gives it, or None where there is none, and whether that is news."""
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
        """Keep the notices for the next start, where they have changed; a disk that takes none is logged."""
        with self._lock:
            content = [*self._resolved, *self._standing.values()]
        if content == self._saved:
            return
        try:
            write_whole(self._file, _FILE.dump_json(content, indent=1), durable=False)
        except OSError as error:
            if not self._fails:  # comes by twice a second
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
