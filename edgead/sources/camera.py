"""Cameras that are attached to this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2

from edgead.sources.contract import SourceError
from edgead.sources.live import Limits, LiveSource


def open_camera(camera: str, limits: Limits) -> LiveSource:
    """Open a camera by its index (`0`) or its device (`/dev/video0`)."""
    uri = f"camera:{camera}"
    if not camera.isdigit() and not camera.startswith("/dev/"):
        raise SourceError(f"{uri}: give an index or a device, such as camera:0 or camera:/dev/video0")
    if sys.platform.startswith("linux"):
        _check_device(uri, Path(f"/dev/video{camera}" if camera.isdigit() else camera))
    return LiveSource(uri, lambda: _connect(uri, camera), limits)


def list_cameras() -> list[Path]:
    """List the video devices of a Linux machine in the order of their numbers; not all are cameras."""
    devices = [path for path in Path("/dev").glob("video*") if path.name[5:].isdigit()]
    return sorted(devices, key=lambda path: int(path.name[5:]))


def _check_device(uri: str, device: Path) -> None:
    if not device.exists():
        found = ", ".join(str(path) for path in list_cameras()) or "none"
        raise SourceError(f"{uri}: no camera at {device}; video devices on this machine: {found}")
    if not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(f'{uri}: no permission for {device}; add the user to the group "video"')


def _connect(uri: str, camera: str) -> cv2.VideoCapture:
    # With CAP_ANY, OpenCV tries one backend after the other and may open another camera than the one named.
    backend = cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY
    capture = cv2.VideoCapture(int(camera) if camera.isdigit() else camera, backend)
    if not capture.isOpened():
        capture.release()
        raise SourceError(f"{uri}: cannot be opened; it is in use by another program or gives no pictures")
    return capture
