"""Where frames come from: cameras, network streams, video files, folders and the built-in line."""

from __future__ import annotations

import glob
import re
import threading
from pathlib import Path

from edgead.images import is_image_path
from edgead.sources.camera import open_camera
from edgead.sources.contract import Counters, Source, SourceError
from edgead.sources.folder import FolderSource
from edgead.sources.live import Limits
from edgead.sources.network import SCHEMES, open_network
from edgead.sources.synthetic import SyntheticSource
from edgead.sources.video import VideoSource
from edgead.uri import without_credentials

__all__ = ["Counters", "Source", "SourceError", "open_source", "without_credentials"]

# Two letters or more, so that the drive letter of a Windows path is no scheme.
_SCHEME = re.compile(r"^([a-z][a-z0-9+]+):")


def open_source(
    uri: str | Path | int,
    *,
    late_after_ms: float | None = None,
    open_timeout_s: float = 5.0,
    read_timeout_s: float = 5.0,
    stop: threading.Event | None = None,
) -> Source:
    """Open a source of frames.

    Parameters
    ----------
    uri : str, Path or int
        `camera:0` (or `0`), `camera:/dev/video0`, `rtsp://...`, `http://...`, `https://...`, a video file,
        an image, a folder of images, a glob such as `parts/*.png`, or
        `synthetic:?seed=1&count=100&defect_rate=0.1`.
    late_after_ms : float, optional
        Frames that are older when they are handed over are counted as late; they are still handed over.
        None counts nothing: what is too old depends on the line.
    open_timeout_s, read_timeout_s : float
        How long a live source may take to open, and to give the next frame.
    stop : threading.Event, optional
        Ends the iteration of a live source, also while it waits for a frame.

    Raises
    ------
    SourceError
        There is no such source, or it cannot be opened; credentials do not appear in the message.
    """
    text = str(uri)
    limits = Limits(open_timeout_s, read_timeout_s, late_after_ms, stop)
    if not text:
        raise SourceError("the name of the source is empty")
    if text.isdigit():
        return open_camera(text, limits)
    found = _SCHEME.match(text.lower())
    if found is None or Path(text).exists():
        return _open_path(text, late_after_ms)
    scheme = found[1]
    if scheme == "camera":
        return open_camera(text[len("camera:") :], limits)
    if scheme in SCHEMES:
        return open_network(text, limits)
    if scheme == "synthetic":
        return SyntheticSource(text, late_after_ms=late_after_ms)
    shown = without_credentials(text)
    # Of admin:secret@camera/1, what looks like the scheme is the user's name.
    problem = f"unknown scheme {scheme!r}" if shown.lower().startswith(f"{scheme}:") else "no scheme"
    raise SourceError(
        f"{shown}: {problem}; known are camera:, synthetic:,"
        f" {', '.join(name + '://' for name in SCHEMES)}, and paths of videos, images and folders"
    )


def _open_path(text: str, late_after_ms: float | None) -> Source:
    path = Path(text)
    if not path.exists() and glob.has_magic(text):
        return FolderSource(text, late_after_ms=late_after_ms)
    if not path.exists():
        raise SourceError(f"{without_credentials(text)}: no such file or folder")
    if path.is_dir() or is_image_path(path):
        return FolderSource(text, late_after_ms=late_after_ms)
    return VideoSource(text, late_after_ms=late_after_ms)
