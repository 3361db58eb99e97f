"""Frames that went by uninspected in a pipeline's pauses, counted hour by hour."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone

_HOUR = len("2026-12-02T04")  # of an instant as text


class PassedFrames(Counter[str]):
    """Numbers of frames, by the time of each hour's first one (ISO 8601 in UTC); one thread adds, others read."""

    def add(self) -> None:
        """Count one more frame, of now."""
        now, last = datetime.now(timezone.utc).isoformat(), next(reversed(self), "")
        self[last if last[:_HOUR] == now[:_HOUR] else now] += 1

    def taken(self) -> dict[str, int]:
        """Return the numbers so far; `subtract` them when they are on record."""
        return {at: frames for at, frames in dict(self).items() if frames}
