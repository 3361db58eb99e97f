"""The built-in production line as a source: `synthetic:?seed=1&count=100&defect_rate=0.1`."""

from __future__ import annotations

from collections.abc import Iterator

from edgead.sources.contract import Counters, FrameCounter, SourceError
from edgead.types import Frame
from edgead.uri import parse_options


class SyntheticSource:
    """Parts of the built-in line, as fast as they are asked for; the same seed gives the same parts."""

    live = False

    def __init__(self, uri: str, *, late_after_ms: float | None = None):
        self.uri = uri
        path, _, query = uri.partition(":")[2].partition("?")
        if path:
            raise SourceError(f"{uri}: {path!r} is no part of the line; options follow a ?, as in synthetic:?count=5")
        known = {"seed": _natural, "count": _natural, "defect_rate": _fraction}
        try:
            options = parse_options(uri, query, known)
        except ValueError as error:
            raise SourceError(str(error)) from None
        self._options = {"seed": 1, "count": 100, "defect_rate": 0.1} | options
        self._frames = FrameCounter(uri, late_after_ms=late_after_ms)
        self._closed = False

    @property
    def counters(self) -> Counters:
        return Counters(captured=self._frames.captured, late=self._frames.late)

    def __iter__(self) -> Iterator[Frame]:
        from edgead.demo.line import belt  # only those who ask for the line pay for its import

        for image, _mask, _defect in belt(**self._options):
            if self._closed:
                return
            yield self._frames.hand_over(self._frames.capture(image))

    def close(self) -> None:
        self._closed = True


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError("must be 0 or more")
    return number


def _fraction(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError("must lie between 0 and 1")
    return number
