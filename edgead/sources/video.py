"""Source of a video file: each frame once, in order, and a fault if frames are missing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from edgead.images.files import MAX_MEGAPIXELS, ImageError, decode_image
from edgead.process.quiet_libraries import quiet_opencv
from edgead.sources.contract import Counters, FrameCounter, SourceError
from edgead.types import Frame

# Containers that state their number of frames; for others OpenCV estimates it from the duration.
_EXACT_COUNT = frozenset({".avi", ".mp4", ".m4v", ".mov"})
_MOTION_JPEG = cv2.VideoWriter.fourcc(*"MJPG")


class VideoSource:
    """Source of a video file.

    Frames of Motion JPEG are decoded like image files, as OpenCV decodes a camera's frames. FFmpeg, which reads all
    other files, decodes them up to a grey level darker, which a detector takes for a defect in dark places.

    FFmpeg silently skips frames that it cannot decode. So a file that gives fewer frames than it states (5 frames or
    2 % fewer if the count is an estimate) ends with a fault that says how many are missing and, if the time
    stamps show the gap, after which frame.
    """

    live = False

    def __init__(self, path: str | Path, *, late_after_ms: float | None = None, max_megapixels: float = MAX_MEGAPIXELS):
        self.path = Path(path)
        self.uri = str(path)
        if not self.path.is_file():
            raise SourceError(f"{path}: no such file")
        if self.path.stat().st_size == 0:
            raise SourceError(f"{path}: the file is empty (0 bytes)")
        if _is_text(self.path):
            raise SourceError(f"{path}: not a video but text")
        self._frames = FrameCounter(self.uri, late_after_ms=late_after_ms, max_megapixels=max_megapixels)
        self._max_megapixels = max_megapixels
        self._lock = threading.Lock()
        self._closed = False
        self._last_ms = 0.0
        self._gap_after: int | None = None
        with quiet_opencv():
            self._capture = cv2.VideoCapture(str(self.path), _file_backend())
        if not self._capture.isOpened():
            raise SourceError(f"{path}: not a video that OpenCV can read, or a truncated one")
        sides = (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
        self._frames.check_size(*(int(self._capture.get(side)) for side in sides))
        self.fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._stated = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._coded = self._gives_jpeg()

    @property
    def counters(self) -> Counters:
        return Counters(captured=self._frames.captured, late=self._frames.late)

    def __iter__(self) -> Iterator[Frame]:
        while (image := self._read()) is not None:
            yield self._frames.hand_over(self._frames.capture(image))
        if not self._closed:
            self._check_complete()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._capture.release()

    def _read(self) -> np.ndarray | None:
        with self._lock, quiet_opencv():
            if self._closed:
                return None
            try:
                image = self._decoded_frame()
            except cv2.error as error:
                number = self._frames.captured
                raise SourceError(f"{self.uri}: frame {number}: OpenCV failed while reading: {error}") from error
            at_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        if image is None:
            return None
        step_ms, self._last_ms = at_ms - self._last_ms, at_ms
        if self._gap_after is None and self.fps > 0 and self._frames.captured and step_ms > 1900 / self.fps:
            self._gap_after = self._frames.captured - 1
        return image

    def _decoded_frame(self) -> np.ndarray | None:
        """Return the next frame that can be decoded, skipping others as FFmpeg does; None at the end."""
        while True:
            ok, image = self._capture.read()
            if not ok:
                return None
            if not self._coded:
                return np.asarray(image)
            try:
                return decode_image(image.tobytes(), max_megapixels=self._max_megapixels)
            except ImageError:
                continue

    def _gives_jpeg(self) -> bool:
        """Switch the capture to undecoded frames if the file is Motion JPEG, and rewind it; return whether it is."""
        if int(self._capture.get(cv2.CAP_PROP_FOURCC)) != _MOTION_JPEG or _file_backend() != cv2.CAP_FFMPEG:
            return False
        with quiet_opencv():
            coded = self._capture.set(cv2.CAP_PROP_FORMAT, -1)
            ok, data = self._capture.read()
            self._capture.open(str(self.path), cv2.CAP_FFMPEG)
        try:
            shape = decode_image(data.tobytes(), max_megapixels=self._max_megapixels).shape if coded and ok else ()
        except ImageError:
            return False
        sides = (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
        # Half as high if it is interlaced: FFmpeg joins both fields.
        whole = shape[:2] == tuple(int(self._capture.get(side)) for side in sides)
        return whole and self._capture.set(cv2.CAP_PROP_FORMAT, -1)

    def _check_complete(self) -> None:
        given = self._frames.captured
        if given == 0:
            raise SourceError(f"{self.uri}: no frame of it can be decoded")
        missing = self._stated - given
        exact = self.path.suffix.lower() in _EXACT_COUNT
        if missing > (0 if exact else max(5, self._stated // 50)):
            where = "" if self._gap_after is None else f", the first after frame {self._gap_after}"
            raise SourceError(
                f"{self.uri}: ended after frame {given - 1}: {missing} of {self._stated} frames are missing"
                f" or damaged{where}"
            )


def _is_text(path: Path) -> bool:
    """Whether a file is text: FFmpeg would render it as ANSI art, or follow a playlist to other files."""
    with path.open("rb") as file:
        head = file.read(4096)
    try:
        head[:-3].decode("utf-8")  # without the last bytes, which may be a part of a character
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


def _file_backend() -> int:
    # FFmpeg if available, as other backends may take a file for an image sequence.
    backends = cv2.videoio_registry.getStreamBackends()
    return cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in backends else cv2.CAP_ANY
