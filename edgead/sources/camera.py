"""Cameras that are attached to this machine: `camera:0`, `v4l2:///dev/video0?fps=30`, `csi://0`."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import cv2
from pydantic import AfterValidator, Field

from edgead.components.options import Section
from edgead.sources.connection import LiveAddress
from edgead.sources.contract import SourceError
from edgead.sources.live import Limits
from edgead.sources.registry import register
from edgead.uri import without_credentials

_TEGRA = Path("/etc/nv_tegra_release")


def _fourcc(text: str) -> str:
    if len(text) != 4 or not text.isascii():
        raise ValueError("must be four characters, such as MJPG or YUYV")
    return text


def _camera_name(text: str) -> str:
    if not re.fullmatch(r"[\w/@.,:+-]+", text):  # it becomes a part of a pipeline
        raise ValueError("a name has letters, digits and / @ . , : + -")
    return text


Side = Annotated[int, Field(ge=1, le=100_000)]
Rate = Annotated[float, Field(gt=0, le=1000)]
Fourcc = Annotated[str, AfterValidator(_fourcc)]
CameraName = Annotated[str, AfterValidator(_camera_name)]


class CameraOptions(Section):
    """A camera of this computer, by its number or its device."""


class V4l2Options(Section):
    """A camera of this computer in a format of its own; what it does not give is refused."""

    width: Annotated[Side | None, Field(description="Pixels.")] = None
    height: Annotated[Side | None, Field(description="Pixels.")] = None
    fps: Annotated[Rate | None, Field(description="Frames per second.")] = None
    fourcc: Annotated[Fourcc | None, Field(description="Coding, such as MJPG or YUYV.")] = None


class CsiOptions(Section):
    """A camera on the board's connector, through GStreamer: Jetson, or libcamera (all but its first by `name`)."""

    width: Annotated[Side, Field(description="Pixels.")] = 1280
    height: Annotated[Side, Field(description="Pixels.")] = 720
    fps: Annotated[Rate, Field(description="Frames per second.")] = 30
    name: Annotated[CameraName | None, Field(description="As `cam --list` shows it.")] = None


def camera_address(text: str, options: CameraOptions, limits: Limits) -> LiveAddress:
    """Address a camera by its index (`camera:0`, `0`) or its device (`camera:/dev/video0`)."""
    camera = text if text.isdigit() else text.partition(":")[2]
    uri = without_credentials(f"camera:{camera}")
    if not camera.isdigit() and not camera.startswith("/dev/"):
        raise SourceError(f"{uri}: give an index or a device, such as camera:0 or camera:/dev/video0")
    if sys.platform.startswith("linux"):
        _check_device(uri, Path(f"/dev/video{camera}" if camera.isdigit() else camera))
    # With CAP_ANY, OpenCV tries one backend after the other and may open another camera than the one named.
    backend = cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY
    return LiveAddress(
        uri, lambda: _opened(uri, cv2.VideoCapture(int(camera) if camera.isdigit() else camera, backend))
    )


def v4l2_address(uri: str, options: V4l2Options, limits: Limits) -> LiveAddress:
    """Address a camera with what it shall deliver: `v4l2:///dev/video0?width=1280&height=720&fps=30&fourcc=MJPG`."""
    device = uri.partition("://")[2].partition("?")[0]
    uri = without_credentials(uri)
    if not device.startswith("/dev/"):
        raise SourceError(f"{uri}: give the device after three slashes, such as v4l2:///dev/video0")
    _check_device(uri, Path(device))
    wanted = options.model_dump(exclude_none=True)
    if options.fourcc is not None:
        wanted["fourcc"] = cv2.VideoWriter.fourcc(*options.fourcc)
    return LiveAddress(uri, lambda: _connect_v4l2(uri, device, wanted))


def csi_address(uri: str, options: CsiOptions, limits: Limits) -> LiveAddress:
    """Address a camera on the board's own connector by its number: `csi://0?width=1920&height=1080&fps=30`.

    libcamera knows all but the first by name alone: `csi://1?name=/base/soc/...`, as `cam --list` shows it.
    """
    sensor = uri.partition("://")[2].partition("?")[0]
    uri = without_credentials(uri)
    if not sensor.isdigit():
        raise SourceError(f"{uri}: give the number of the sensor, such as csi://0")
    # Not the list of backends: it has those that could be plugged in too.
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise SourceError(
            f"{uri}: this OpenCV was built without GStreamer, as the wheels of PyPI are: use that of the board's own"
            " system (python3-opencv, in an environment with --system-site-packages)"
        )
    pipeline = csi_pipeline(int(sensor), options, tegra=_TEGRA.exists())
    return LiveAddress(uri, lambda: _opened(uri, cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)))


def csi_pipeline(sensor: int, options: CsiOptions, *, tegra: bool) -> str:
    """Write the GStreamer pipeline of a CSI sensor: of a Jetson, or of what libcamera knows (Raspberry Pi)."""
    caps = f"width={options.width},height={options.height},framerate={options.fps:g}/1"
    # One buffer that is dropped for a newer one: a pipeline that queues shows the past.
    sink = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
    if tegra:
        return (
            f"nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),{caps} ! nvvidconv !"
            f" video/x-raw,format=BGRx ! {sink}"
        )
    if sensor and options.name is None:
        raise SourceError(f"csi://{sensor}: libcamera needs its name: add ?name=..., as `cam --list` shows it")
    name = "" if options.name is None else f' camera-name="{options.name}"'
    return f"libcamerasrc{name} ! video/x-raw,{caps} ! {sink}"


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
    # The coding first: sizes and rates depend on it.
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
register("csi", CsiOptions, schemes={"csi": "csi://0?width=1920&height=1080&fps=30"}, address=csi_address)
