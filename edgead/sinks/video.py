"""An annotated video: `video:PATH?fps=25`, MJPG in .avi or MPEG-4 in .mp4."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, Literal

import cv2
from pydantic import Field

from edgead.images.overlay import draw_overlay
from edgead.process.quiet_libraries import quiet_opencv
from edgead.serialization import frame_label
from edgead.sinks.contract import BaseSink, SinkError, write_error
from edgead.sinks.options import SinkOptions, read_path
from edgead.sinks.registry import register
from edgead.types import Frame, Verdict

_CODECS = {".avi": "MJPG", ".mp4": "mp4v"}


class VideoOptions(SinkOptions):
    """A video of all frames with their verdicts: MJPG in .avi, MPEG-4 in .mp4."""

    kind: Literal["video"]
    path: Annotated[Path, Field(description="File, .avi or .mp4.")]
    fps: Annotated[float, Field(gt=0, le=1000, description="Frames per second at which it plays.")] = 25.0


class VideoSink(BaseSink):
    """Sink that writes every frame with its verdict into a video file.

    The file gets its name only when it is closed and its frames are counted, since OpenCV reports no full disk. Frames
    of another size than the first frame are scaled to that size.

    `path`: path of the file, which ends with .avi or .mp4.
    `fps`: frames per second at which the video plays; the real times of a live camera's frames are in the verdicts.
    """

    def __init__(self, path: str, *, fps: float = 25.0):
        self.uri = f"video:{path}"
        self._path = Path(path)
        suffix = self._path.suffix.lower()
        if suffix not in _CODECS:
            raise SinkError(f"{self.uri}: the name must end with {' or '.join(_CODECS)}")
        # The container is chosen by the suffix, so it stays last.
        self._unfinished = self._path.with_name(f".{self._path.stem}.part{suffix}")
        self._fourcc = cv2.VideoWriter.fourcc(*_CODECS[suffix])
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._written = 0
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(path, error) from error

    def write(self, frame: Frame, verdict: Verdict) -> None:
        image = draw_overlay(frame.image, verdict, frame_label(frame))
        if self._writer is None:
            self._writer = self._open((image.shape[1], image.shape[0]))
        if shutil.disk_usage(self._path.parent).free < image.nbytes:
            raise SinkError(f"{self._path}: the disk is full after {self._written} frames; free some space")
        if (image.shape[1], image.shape[0]) != self._size:
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(image)
        self._written += 1

    def close(self) -> None:
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        try:
            found = self._count_frames()
            if found != self._written:
                raise SinkError(
                    f"{self._path}: {self._written} frames were written and {found} can be read; is the disk full?"
                )
            os.replace(self._unfinished, self._path)
        except OSError as error:
            raise write_error(self._path, error) from error
        finally:
            self._unfinished.unlink(missing_ok=True)

    def _open(self, size: tuple[int, int]) -> cv2.VideoWriter:
        with quiet_opencv():
            writer = cv2.VideoWriter(str(self._unfinished), self._fourcc, self._fps, size)
        if not writer.isOpened():
            self._unfinished.unlink(missing_ok=True)
            raise SinkError(f"{self._path}: OpenCV cannot write this video; run `edgead doctor` for the codecs")
        self._size = size
        return writer

    def _count_frames(self) -> int:
        with quiet_opencv():
            capture = cv2.VideoCapture(str(self._unfinished))
            count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
            capture.release()
        return count


register(
    "video",
    VideoOptions,
    lambda name, options: VideoSink(str(options.path), fps=options.fps),
    schemes={"video": "video:PATH?fps=25"},
    read_uri=lambda uri: read_path(uri, ("fps",)),
)
