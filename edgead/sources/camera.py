"""Cameras attached to this machine: `camera:0`, `v4l2:///dev/video0?fps=30`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import cv2
from pydantic import AfterValidator, Field

from edgead.components.options import Section
from edgead.components.uri import without_credentials
from edgead.sources.connection import LiveAddress
from edgead.sources.contract import SourceError
from edgead.sources.live import LiveLimits
from edgead.sources.registry import register


def _fourcc(text: str) -> str:
    if len(text) != 4 or not text.isascii():
        raise ValueError("must be four characters, such as MJPG or YUYV")
    return text


Side = Annotated[int, Field(ge=1, le=100_000)]
Rate = Annotated[float, Field(gt=0, le=1000)]
Fourcc = Annotated[str, AfterValidator(_fourcc)]


class CameraOptions(Section):
    """Camera of this computer, by its number or its device."""


class V4l2Options(Section):
    """Camera of this computer, with a format; it is an error if the camera does not give that format."""

    width: Annotated[Side | None, Field(description="Pixels.")] = None
    height: Annotated[Side | None, Field(description="Pixels.")] = None
    fps: Annotated[Rate | None, Field(description="Frames per second.")] = None
    fourcc: Annotated[Fourcc | None, Field(description="Coding, such as MJPG or YUYV.")] = None


def camera_address(text: str, options: CameraOptions, limits: LiveLimits) -> LiveAddress:
    """Make the address of a camera from its index (`camera:0`, `0`) or its device (`camera:/dev/video0`)."""
    camera = text if text.isdigit() else text.partition(":")[2]
    uri = without_credentials(f"camera:{camera}")
    if not camera.isdigit() and not camera.startswith("/dev/"):
        raise SourceError(f"{uri}: give an index or a device, such as camera:0 or camera:/dev/video0")
    if sys.platform.startswith("linux"):
        _check_device(uri, Path(f"/dev/video{camera}" if camera.isdigit() else camera))
    # With CAP_ANY, OpenCV tries one backend after the other and may open another camera than the named one.
    backend = cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY
    return LiveAddress(
        uri, lambda: _opened(uri, cv2.VideoCapture(int(camera) if camera.isdigit() else camera, backend))
    )


def v4l2_address(uri: str, options: V4l2Options, limits: LiveLimits) -> LiveAddress:
    """Make the address of a camera and its format: `v4l2:///dev/video0?width=1280&height=720&fps=30&fourcc=MJPG`."""
    device = uri.partition("://")[2].partition("?")[0]
    uri = without_credentials(uri)
    if not device.startswith("/dev/"):
        raise SourceError(f"{uri}: give the device after three slashes, such as v4l2:///dev/video0")
    _check_device(uri, Path(device))
    wanted = options.model_dump(exclude_none=True)
    if options.fourcc is not None:
        wanted["fourcc"] = cv2.VideoWriter.fourcc(*options.fourcc)
    return LiveAddress(uri, lambda: _connect_v4l2(uri, device, wanted))


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


def _connect_v4l2(uri: str, device: str, options: dict[str, Any]) -> cv2.VideoCapture:
    capture = _opened(uri, cv2.VideoCapture(device, cv2.CAP_V4L2))
    # The pixel format comes first, as sizes and rates depend on it.
    for name in sorted(options, key=lambda name: name != "fourcc"):
        capture.set(_PROPERTIES[name], options[name])
    refused = {
        name: capture.get(_PROPERTIES[name])
        for name, wanted in options.items()
        if abs(capture.get(_PROPERTIES[name]) - wanted) > 0.5
    }
    if refused:
        capture.release()
        given = ", ".join(f"{name} {_shown(name, value)}" for name, value in refused.items())
        raise SourceError(f"{uri}: the camera gives {given} instead; `v4l2-ctl --list-formats-ext` lists what it can")
    return capture


def _opened(uri: str, capture: cv2.VideoCapture) -> cv2.VideoCapture:
    if not capture.isOpened():
        capture.release()
        raise SourceError(f"{uri}: cannot be opened; it is in use by another program or gives no images")
    return capture


def _shown(name: str, value: float) -> str:
    return int(value).to_bytes(4, "little").decode("latin-1") if name == "fourcc" else f"{value:g}"


_PROPERTIES = {
    "fourcc": cv2.CAP_PROP_FOURCC,
    "width": cv2.CAP_PROP_FRAME_WIDTH,
    "height": cv2.CAP_PROP_FRAME_HEIGHT,
    "fps": cv2.CAP_PROP_FPS,
}

register("camera", CameraOptions, schemes={"camera": "camera:0"}, address=camera_address)
register(
    "v4l2",
    V4l2Options,
    schemes={"v4l2": "v4l2:///dev/video0?width=1280&height=720&fps=30&fourcc=MJPG"},
    address=v4l2_address,
)
