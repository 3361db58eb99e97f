"""Source of strips: each frame of another source with the four frames before it, once there are four without a gap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgead.components.options import NoOptions
from edgead.sources import open_source
from edgead.sources.contract import Counters, Source, SourceError
from edgead.sources.live import LiveLimits
from edgead.sources.registry import register
from edgead.types import Frame
from edgead_video.strips import SIDE, Ring

SCHEME = "strips"
CAMERAS = ("camera", "rtsp", "rtsps", "http", "https")


class RecordingOptions(NoOptions):
    """Strips of five frames, for models of clips, from a video or a folder of frames: `strips:video.mp4`."""


class StripCameraOptions(NoOptions):
    """Strips of five frames, for models of clips, from a camera: `strips+camera:0`, `strips+rtsp://HOST/PATH`."""


class StripSource:
    """Source that gives each frame of another source with the four before it, as a strip.

    A gap in frame numbers, another connection or another source begins a new stream: four frames pass before the next
    strip.

    `source`: source of single frames; closed with this source.
    """

    def __init__(self, source: Source):
        self.uri = f"{SCHEME}:{source.uri}"
        self.live = source.live
        self._source = source

    @property
    def counters(self) -> Counters:
        return self._source.counters

    def __iter__(self) -> Iterator[Frame]:
        ring = Ring(SIDE)
        follows: tuple[str, int, int] | None = None
        for frame in self._source:
            if (frame.source, frame.connection, frame.number) != follows:
                ring.clear()
            follows = frame.source, frame.connection, frame.number + 1
            strip = ring.add(frame.image)
            if strip is not None:
                yield replace(frame, image=strip, source=self.uri, others={})

    def close(self) -> None:
        self._source.close()


def open_strips(uri: str, _: NoOptions, limits: LiveLimits) -> StripSource:
    """Open the source whose name follows `strips:`, or whose scheme follows `strips+`.

    Raises SourceError: there is no such source, or it does not give single frames.
    """
    inner = uri[len(SCHEME) + 1 :]
    if inner.startswith(SCHEME):
        raise SourceError(f"{SCHEME} are made of single frames: write the scheme once")
    if uri.startswith(f"{SCHEME}:") and "://" in inner:  # its password would be shown with the rest
        raise SourceError(f"{SCHEME}: is for files and folders; a camera of the network is {SCHEME}+rtsp://HOST/PATH")
    return StripSource(
        open_source(
            inner,
            late_after_ms=limits.late_after_ms,
            open_timeout_s=limits.open_timeout_s,
            read_timeout_s=limits.read_timeout_s,
            stop=limits.stop,
            max_megapixels=limits.max_megapixels,
        )
    )


register(SCHEME, RecordingOptions, open_strips, schemes={SCHEME: f"{SCHEME}:VIDEO_OR_FOLDER"}, has_query=False)
register(
    "strips_of_camera",
    StripCameraOptions,
    open_strips,
    schemes={f"{SCHEME}+{camera}": f"{SCHEME}+{camera}:..." for camera in CAMERAS},
    live=True,
    has_query=False,
)
