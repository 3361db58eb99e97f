"""Cameras on the board's CSI connector, `csi://0`, read through a program of the board's system.

The program writes raw frames to its standard output, so no special OpenCV is needed.
"""

from __future__ import annotations

import re
import select
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import AfterValidator, Field

from edgead.components.options import Section
from edgead.components.uri import without_credentials
from edgead.sources.camera import Rate, Side
from edgead.sources.connection import LiveAddress
from edgead.sources.contract import SourceError
from edgead.sources.live import LiveLimits
from edgead.sources.registry import register

_PIPE_BYTES = 1 << 20  # with the default of 64 KiB a 1080p frame takes a hundred context switches
_END_S = 1.0
_TEGRA = Path("/etc/nv_tegra_release")
_GSTREAMER = "gst-launch-1.0"
_RPICAM = ("rpicam-vid", "libcamera-vid")  # the second is its name before Raspberry Pi OS bookworm
_RPICAM_MULTIPLE_PX = 64  # its rows are padded to this multiple, as in the camera's memory
_INSTALL = (
    "install rpicam-apps (Raspberry Pi), or gstreamer1.0-tools, gstreamer1.0-plugins-base and, but on a Jetson,"
    " gstreamer1.0-libcamera"
)


@dataclass(frozen=True, slots=True)
class RawFrames:
    """Format of raw frames in a byte stream.

    `coding`: rows of BGR, each padded to a multiple of four bytes as by GStreamer; or planes without padding, the
        chroma planes with half the width and half the height.
    """

    width: int
    height: int
    coding: Literal["bgr", "yuv420"]

    @property
    def nbytes(self) -> int:
        return self._row_bytes * self.height * (3 if self.coding == "yuv420" else 2) // 2

    @property
    def _row_bytes(self) -> int:
        return self.width if self.coding == "yuv420" else -(-3 * self.width // 4) * 4

    def decode(self, data: bytearray) -> np.ndarray:
        """Decode the bytes of one frame to an image, (H, W, 3) uint8 BGR."""
        rows = np.frombuffer(data, np.uint8).reshape(-1, self._row_bytes)
        if self.coding == "yuv420":
            return cv2.cvtColor(rows, cv2.COLOR_YUV2BGR_I420)
        return rows[:, : 3 * self.width].reshape(self.height, self.width, 3)


class ProgramCapture:
    """Capture from a running program, with the interface that a connection needs of `cv2.VideoCapture`.

    `shown`: name of the camera in errors.
    Raises SourceError: the program is not installed, ends, or delivers nothing in time; its last message is quoted.
    """

    def __init__(self, shown: str, command: Sequence[str], frames: RawFrames, limits: LiveLimits):
        self._frames, self._limits = frames, limits
        self._said: deque[str] = deque(maxlen=20)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pipesize=_PIPE_BYTES,
            )
        except OSError as error:
            raise SourceError(f"{shown}: {command[0]} cannot be started: {error.strerror}") from None
        self._listener = threading.Thread(target=self._listen, name=f"errors of {command[0]}", daemon=True)
        self._listener.start()
        self._first = self._next(limits.open_timeout_s)
        if self._first is None:
            self.release()
            raise SourceError(f"{shown}: {command[0]} gives no frame: {self._last_words()}")

    def get(self, side: int) -> float:
        """Return width or height; 0 for every other property of OpenCV."""
        sides = {cv2.CAP_PROP_FRAME_WIDTH: self._frames.width, cv2.CAP_PROP_FRAME_HEIGHT: self._frames.height}
        return sides.get(side, 0)

    def read(self) -> tuple[bool, np.ndarray | None]:
        """Wait for the next frame; False if the program has ended, or exceeds the time limit."""
        data, self._first = self._first or self._next(self._limits.read_timeout_s), None
        return (False, None) if data is None else (True, self._frames.decode(data))

    def release(self) -> None:
        """End the program, even if it hangs."""
        self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            pass  # it is stuck in a driver
        self._listener.join(_END_S)

    def _next(self, timeout_s: float) -> bytearray | None:
        deadline_s = time.monotonic() + timeout_s
        data = bytearray(self._frames.nbytes)
        missing, pipe = memoryview(data), self._process.stdout
        assert pipe is not None
        while missing:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([pipe], [], [], left_s)[0]:
                return None
            count = pipe.readinto(missing)  # type: ignore[attr-defined]  # unbuffered: a FileIO
            if not count:
                return None
            missing = missing[count:]
        return data

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            for line in pipe:
                self._said.append(line.decode(errors="replace").strip())

    def _last_words(self) -> str:
        """Return the program's line that names an error, or else its last line."""
        said = [line for line in self._said if line]
        return next((line for line in said if "error" in line.lower()), said[-1] if said else "it says nothing")


def _camera_name(text: str) -> str:
    if not re.fullmatch(r"[\w/@.,:+-]+", text):  # the text is inserted into a pipeline description
        raise ValueError("a name has letters, digits and / @ . , : + -")
    return text


CameraName = Annotated[str, AfterValidator(_camera_name)]


class CsiOptions(Section):
    """Camera on the board's CSI connector, through a program of its system: rpicam-vid or gst-launch-1.0."""

    width: Annotated[Side, Field(description="Pixels.")] = 1280
    height: Annotated[Side, Field(description="Pixels.")] = 720
    fps: Annotated[Rate, Field(description="Frames per second.")] = 30
    name: Annotated[CameraName | None, Field(description="Name for GStreamer, as in `cam --list`.")] = None


def csi_address(uri: str, options: CsiOptions, limits: LiveLimits) -> LiveAddress:
    """Make the address of a CSI camera from its number: `csi://0?width=1920&height=1080&fps=30`.

    GStreamer's libcamera finds all but the first only by name: `csi://1?name=/base/soc/...`, as `cam --list` shows it.
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
    """Make the command line of rpicam-vid that writes frames in YUV 4:2:0 without an end."""
    if options.width % _RPICAM_MULTIPLE_PX or options.height % 2:
        raise SourceError(
            f"csi://{sensor}: {program} takes a width in multiples of {_RPICAM_MULTIPLE_PX} and an even height, found"
            f" {options.width} x {options.height}; GStreamer takes any, with ?name=..., as `cam --list` shows it"
        )
    size = f"--width {options.width} --height {options.height} --framerate {options.fps:g}"
    return f"{program} --camera {sensor} {size} --codec yuv420 --timeout 0 --nopreview --verbose 0 --output -".split()


def gstreamer_command(source: str, options: CsiOptions) -> list[str]:
    """Make the command line of gst-launch-1.0 that writes BGR frames, from the source elements of a pipeline."""
    # A queue of one buffer, dropped for a newer one: a longer queue would deliver old frames.
    pipeline = (
        f"{source} ! queue leaky=downstream max-size-buffers=1 ! videoconvert !"
        f" video/x-raw,format=BGR,width={options.width},height={options.height} ! fdsink fd=1 sync=false"
    )
    return [_GSTREAMER, "--quiet", *pipeline.split()]


def csi_source(sensor: int, options: CsiOptions, *, tegra: bool) -> str:
    """Make the source elements of a GStreamer pipeline for a sensor, on a Jetson or through libcamera."""
    caps = f"width={options.width},height={options.height},framerate={options.fps:g}/1"
    if tegra:
        camera = f"nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),{caps}"
        return f"{camera} ! nvvidconv ! video/x-raw,format=BGRx"
    if sensor and options.name is None:
        raise SourceError(f"csi://{sensor}: libcamera needs its name: add ?name=..., as `cam --list` shows it")
    name = "" if options.name is None else f" camera-name={options.name}"
    return f"libcamerasrc{name} ! video/x-raw,{caps}"


register("csi", CsiOptions, schemes={"csi": "csi://0?width=1920&height=1080&fps=30"}, address=csi_address)
