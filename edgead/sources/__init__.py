"""Where frames come from: cameras, network streams, video files, folders and the built-in line."""

from __future__ import annotations

import glob
import re
import threading
from pathlib import Path

from edgead.images.files import MOST_MEGAPIXELS, is_image_path
from edgead.sources.camera import camera_address, csi_address, v4l2_address
from edgead.sources.connection import LiveAddress
from edgead.sources.contract import Counters, Source, SourceError
from edgead.sources.folder import FolderSource
from edgead.sources.live import Limits, LiveSource
from edgead.sources.network import SCHEMES, network_address
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
    max_megapixels: float = MOST_MEGAPIXELS,
) -> Source:
    """Open a source of frames.

    Parameters
    ----------
    uri : str, Path or int
        `camera:0` (or `0`), `camera:/dev/video0`, `v4l2:///dev/video0?width=1280&height=720&fps=30&fourcc=MJPG`,
        `csi://0`, `rtsp://...`, `http://...`, `https://...`, `udp://...`, a video file, an image, a folder of images,
        a glob such as `parts/*.png`, or `synthetic:?seed=1&count=100&defect_rate=0.1`.
    late_after_ms : float, optional
        Frames that are older when they are handed over are counted as late; they are still handed over.
        None counts nothing: what is too old depends on the line.
    open_timeout_s, read_timeout_s : float
        How long a live source may take to open, and to give the next frame.
    stop : threading.Event, optional
        Ends the iteration of a live source, also while it waits for a frame.
    max_megapixels : float
        Larger frames are refused: of files by their header, of a camera when it says how large they are.

    Raises
    ------
    SourceError
        There is no such source, or it cannot be opened; credentials do not appear in the message.
    """
    text = str(uri)
    limits = Limits(open_timeout_s, read_timeout_s, late_after_ms, stop, max_megapixels)
    if not text:
        raise SourceError("the name of the source is empty")
    address = live_address(text, limits)
    if address is not None:
        return LiveSource(address, limits)
    scheme = _scheme(text)
    if scheme is None:
        return _open_path(text, late_after_ms, max_megapixels)
    if scheme == "synthetic":
        return SyntheticSource(text, late_after_ms=late_after_ms)
    shown = without_credentials(text)
    # Of admin:secret@camera/1, what looks like the scheme is the user's name.
    problem = f"unknown scheme {scheme!r}" if shown.lower().startswith(f"{scheme}:") else "no scheme"
    raise SourceError(
        f"{shown}: {problem}; known are camera:, synthetic:, v4l2://, csi://,"
        f" {', '.join(name + '://' for name in SCHEMES)}, and paths of videos, images and folders"
    )


def live_address(uri: str, limits: Limits) -> LiveAddress | None:
    """Find the camera that a URI names; None where it names a recording, the built-in line, or nothing.

    Raises
    ------
    SourceError
        There is no such camera on this machine, or the URI is malformed.
    """
    if uri.isdigit():
        return camera_address(uri)
    scheme = _scheme(uri)
    if scheme == "camera":
        return camera_address(uri[len("camera:") :])
    if scheme == "v4l2":
        return v4l2_address(uri)
    if scheme == "csi":
        return csi_address(uri)
    return network_address(uri, limits) if scheme in SCHEMES else None


def is_live(uri: str) -> bool:
    """Tell whether a URI names a camera, there or not: what it gives comes at its own pace, and has no end."""
    scheme = _scheme(uri)
    return uri.isdigit() or scheme in ("camera", "v4l2", "csi", *SCHEMES)


def _scheme(text: str) -> str | None:
    """The scheme of a URI; None for a path."""
    found = _SCHEME.match(text.lower())
    return None if found is None or Path(text).exists() else found[1]


def _open_path(text: str, late_after_ms: float | None, max_megapixels: float) -> Source:
    path = Path(text)
    if not path.exists() and glob.has_magic(text):
        return FolderSource(text, late_after_ms=late_after_ms, max_megapixels=max_megapixels)
    if not path.exists():
        raise SourceError(f"{without_credentials(text)}: no such file or folder")
    if path.is_dir() or is_image_path(path):
        return FolderSource(text, late_after_ms=late_after_ms, max_megapixels=max_megapixels)
    return VideoSource(text, late_after_ms=late_after_ms, max_megapixels=max_megapixels)
