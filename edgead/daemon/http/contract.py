"""What the HTTP side needs of a daemon: it is handed one, and knows no more of it than this."""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from edgead.site.schema import Site
from edgead.types import Frame, Verdict


class ServedCamera(Protocol):
    def status(self) -> Any: ...

    def latest(self) -> Frame | None: ...


class ServedPipeline(Protocol):
    def status(self) -> Any: ...

    def latest(self) -> tuple[Frame, Verdict] | None: ...

    def fire(self) -> None: ...

    def self_test(self) -> dict[str, Any]: ...

    def swap(self, model: Path, *, by: str) -> None: ...

    def roll_back(self, *, by: str) -> None: ...

    def accept_drift(self, *, by: str) -> None: ...

    def set_thresholds(self, *, review: float, reject: float, by: str) -> None: ...


class ServedSink(Protocol):
    def status(self) -> Any: ...


class ServedStore(Protocol):
    def verdicts(
        self,
        *,
        pipeline: str | None = None,
        decision: str | None = None,
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
    def sinks(self) -> Mapping[str, ServedSink]: ...

    @property
    def store(self) -> ServedStore: ...

    def subscribe_verdicts(self) -> queue.Queue[tuple[Frame, Verdict]]: ...
