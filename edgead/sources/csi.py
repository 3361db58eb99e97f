"""Cameras on the board's own connector: `csi://0`. A program of the board's system reads them and hands over frames."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from edgead.components.options import Section
from edgead.components.uri import without_credentials
from edgead.sources.camera import Rate, Side
from edgead.sources.connection import LiveAddress
from edgead.sources.contract import SourceError
from edgead.sources.live import Limits
from edgead.sources.program import ProgramCapture, RawFrames
from edgead.sources.registry import register

_TEGRA = Path("/etc/nv_tegra_release")
_GSTREAMER = "gst-launch-1.0"
_RPICAM = ("rpicam-vid", "libcamera-vid")  # the latter is its name before Raspberry Pi OS bookworm
_RPICAM_MULTIPLE_PX = 64  # it hands over rows as the camera's memory has them, filled up to this
_INSTALL = (
    "install rpicam-apps (Raspberry Pi), or gstreamer1.0-tools, gstreamer1.0-plugins-base and, but on a Jetson,"
    " gstreamer1.0-libcamera"
)


def _camera_name(text: str) -> str:
    if not re.fullmatch(r"[\w/@.,:+-]+", text):  # it becomes a part of a pipeline
        raise ValueError("a name has letters, digits and / @ . , : + -")
    return text


CameraName = Annotated[str, AfterValidator(_camera_name)]


class CsiOptions(Section):
    """A camera on the board's connector, through a program of its system: rpicam-vid or gst-launch-1.0."""

    width: Annotated[Side, Field(description="Pixels.")] = 1280
    height: Annotated[Side, Field(description="Pixels.")] = 720
    fps: Annotated[Rate, Field(description="Frames per second.")] = 30
    name: Annotated[CameraName | None, Field(description="As `cam --list` shows it; read by GStreamer.")] = None


def csi_address(uri: str, options: CsiOptions, limits: Limits) -> LiveAddress:
    """Address a camera on the board's own connector by its number: `csi://0?width=1920&height=1080&fps=30`.

    GStreamer's libcamera knows all but the first by name alone: `csi://1?name=/base/soc/...`, as `cam --list` shows it.
    """
    sensor = uri.partition("://")[2].partition("?")[0]
    uri = without_credentials(uri)
    if not sensor.isdigit():
        raise SourceError(f"{uri}: give the number of the sensor, such as csi://0")
    size = options.width, options.height
    rpicam = next(filter(shutil.which, _RPICAM), None)
    if not _TEGRA.exists() and options.name is None and rpicam is not None:
        command, frames = rpicam_command(rpicam, int(sensor), options), RawFrames(*size, "yuv420")
    elif shutil.which(_GSTREAMER):
        source = csi_source(int(sensor), options, tegra=_TEGRA.exists())
        command, frames = gstreamer_command(source, options), RawFrames(*size, "bgr")
    else:
        raise SourceError(f"{uri}: no program on this machine reads such a camera: {_INSTALL}")
    return LiveAddress(uri, lambda: ProgramCapture(uri, command, frames, limits))


def rpicam_command(program: str, sensor: int, options: CsiOptions) -> list[str]:
    """Write the command of rpicam-vid that gives planes of YUV 4:2:0 without an end."""
    if options.width % _RPICAM_MULTIPLE_PX or options.height % 2:
        raise SourceError(
            f"csi://{sensor}: {program} takes a width in multiples of {_RPICAM_MULTIPLE_PX} and an even height, found"
            f" {options.width} x {options.height}; GStreamer takes any, with ?name=..., as `cam --list` shows it"
        )
    size = f"--width {options.width} --height {options.height} --framerate {options.fps:g}"
    return f"{program} --camera {sensor} {size} --codec yuv420 --timeout 0 --nopreview --verbose 0 --output -".split()


def gstreamer_command(source: str, options: CsiOptions) -> list[str]:
    """Write the command of gst-launch-1.0 that gives rows of BGR from the first elements of a pipeline."""
    # One buffer that is dropped for a newer one: a pipeline that queues shows the past.
    pipeline = (
        f"{source} ! queue leaky=downstream max-size-buffers=1 ! videoconvert !"
        f" video/x-raw,format=BGR,width={options.width},height={options.height} ! fdsink fd=1 sync=false"
    )
    return [_GSTREAMER, "--quiet", *pipeline.split()]


def csi_source(sensor: int, options: CsiOptions, *, tegra: bool) -> str:
    """Write the elements that give frames of a sensor: of a Jetson, or of what libcamera knows."""
    caps = f"width={options.width},height={options.height},framerate={options.fps:g}/1"
    if tegra:
        camera = f"nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),{caps}"
        return f"{camera} ! nvvidconv ! video/x-raw,format=BGRx"
    if sensor and options.name is None:
        raise SourceError(f"csi://{sensor}: libcamera needs its name: add ?name=..., as `cam --list` shows it")
    name = "" if options.name is None else f" camera-name={options.name}"
    return f"libcamerasrc{name} ! video/x-raw,{caps}"


register("csi", CsiOptions, schemes={"csi": "csi://0?width=1920&height=1080&fps=30"}, address=csi_address)
