"""What the HTTP side needs of a daemon: it is handed one, and knows no more of it than this."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from edgead.evidence.production.counts import Unit
from edgead.evidence.production.formats import Format
from edgead.evidence.production.periods import Period
from edgead.evidence.production.report import Group, Question
from edgead.evidence.production.rows import Wanted
from edgead.evidence.production.tally import Tally
from edgead.site.schema import Site
from edgead.types import NO_PART, Decision, Frame, Part, Verdict


class ServedCamera(Protocol):
    def status(self) -> Any: ...

    def latest(self) -> Frame | None: ...


class ServedPipeline(Protocol):
    def status(self) -> Any: ...

    def latest(self) -> tuple[Frame, Verdict] | None: ...

    def fire(self, part: Part = NO_PART) -> None: ...

    def judge(self, data: bytes, part: Part, within_s: float) -> tuple[Frame, Verdict]: ...

    def self_test(self) -> dict[str, Any]: ...

    def swap(self, model: Path, *, by: str) -> None: ...

    def roll_back(self, *, by: str) -> None: ...

    def accept_drift(self, *, by: str) -> None: ...

    def set_thresholds(self, *, review: float, reject: float, by: str) -> None: ...


class ServedSink(Protocol):
    def status(self) -> Any: ...


class ServedParts(Protocol):
    def status(self) -> Any: ...


class ServedKinds(Protocol):
    def counts(
        self, pipeline: str, *, since: datetime, until: datetime | None = None, decision: Decision = "reject"
    ) -> dict[str, Any]: ...

    def boxes(
        self,
        pipeline: str,
        *,
        since: datetime,
        until: datetime | None = None,
        kind: str | None = None,
        decision: Decision = "reject",
    ) -> list[list[dict[str, Any]]]: ...

    def names(self, pipeline: str) -> dict[str, str]: ...

    def known(self, pipeline: str) -> dict[str, list[str]]: ...

    def rename(self, pipeline: str, kind: str, name: str, *, by: str) -> None: ...

    def merge(self, pipeline: str, kind: str, into: str, *, by: str) -> None: ...

    def split(self, pipeline: str, kind: str, judged: str, name: str | None = None, *, by: str) -> None: ...

    def correct(self, id: str, kind: str | None, *, by: str, pipeline: str | None = None) -> None: ...


class ServedPartRecords(Protocol):
    def newest(
        self, part: str, *, serial: str | None = None, before_id: str | None = None, limit: int = 50
    ) -> list[dict[str, Any]]: ...


class ServedOrders(Protocol):
    def start(self, *, name: str, batch: str, by: str) -> None: ...

    def newest(self, *, limit: int = 50) -> list[dict[str, Any]]: ...

    def between(self, begin: datetime, end: datetime) -> list[Period]: ...


class ServedProduction(Protocol):
    @property
    def orders(self) -> ServedOrders: ...

    def by_hour(self, unit: Unit, period: Period) -> list[Tally]: ...

    def count(self, unit: Unit, period: Period) -> Tally: ...

    def report(self, asked: Question) -> list[Group]: ...

    def marks(self, wanted: Wanted, *, limit: int = 100) -> list[dict[str, Any]]: ...

    def report_file(self, asked: Question, kind: Format) -> bytes: ...

    def verdicts_file(self, wanted: Wanted, kind: Format) -> Iterator[bytes]: ...

    def images_file(self, wanted: Wanted) -> Iterator[bytes]: ...


class ServedStore(Protocol):
    @property
    def production(self) -> ServedProduction: ...

    @property
    def parts(self) -> ServedPartRecords: ...

    @property
    def kinds(self) -> ServedKinds: ...

    def verdicts(
        self,
        *,
        pipeline: str | None = None,
        decision: str | None = None,
        kind: str | None = None,
        part: Part = NO_PART,
        before_id: str | None = None,
        limit: int = 50,
    ) -> list[dict[str, Any]]: ...

    def verdict(self, id: str, *, pipeline: str | None = None) -> dict[str, Any] | None: ...

    def image(self, id: str, name: str, *, pipeline: str | None = None) -> Path | None: ...

    def counts(self, *, pipeline: str | None = None, since: datetime | None = None) -> dict[str, int]: ...

    def mark_false_reject(self, id: str, *, by: str, note: str = "", pipeline: str | None = None) -> None: ...

    def audit(self, *, limit: int = 100) -> list[dict[str, Any]]: ...

    def status(self) -> dict[str, Any]: ...

    def problems(self) -> Sequence[str]: ...


class Served(Protocol):
    @property
    def site(self) -> Site: ...

    @property
    def cameras(self) -> Mapping[str, ServedCamera]: ...

    @property
    def pipelines(self) -> Mapping[str, ServedPipeline]: ...

    @property
    def parts(self) -> Mapping[str, ServedParts]: ...

    @property
    def sinks(self) -> Mapping[str, ServedSink]: ...

    @property
    def store(self) -> ServedStore: ...

    def subscribe_verdicts(self) -> queue.Queue[tuple[Frame, Verdict]]: ...
