"""Frames with ids and verdicts of a pipeline, as a daemon's pipeline gives them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

from fakes import make_verdict, numbered

from edgead.serialization.notice import Notice
from edgead.sources.contract import FrameCounter
from edgead.types import Frame, Verdict


class Line:
    """A camera and a pipeline: captures numbered frames and judges them."""

    def __init__(self, pipeline: str = "caps", camera: str = "top"):
        self._pipeline = pipeline
        self._counter = FrameCounter(camera)

    def capture(self) -> Frame:
        return self._counter.capture(numbered(self._counter.captured))

    def part(self, score: float = 0.1, kind: str | None = None) -> tuple[Frame, Verdict]:
        verdict = replace(make_verdict(score), pipeline=self._pipeline, model="5e" * 32, review_threshold=0.4)
        return self.capture(), replace(verdict, kind=kind, kind_p_value=None if kind is None else 0.25)

    def parts(self, count: int, score: float = 0.1) -> list[tuple[Frame, Verdict]]:
        return [self.part(score) for _ in range(count)]


def notice(text: str = "5 parts in a row were rejected") -> Notice:
    """An alarm of the pipeline caps."""
    when = datetime(2026, 11, 25, 6, 0, tzinfo=timezone.utc)
    return Notice("n-1", "rejects_in_a_row", "pipeline", "caps", "critical", text, when, 5.0, 5.0)


def ids(records: list[dict]) -> list[str]:
    return [record["id"] for record in records]
