"""GenICam cameras (GigE Vision, USB3 Vision) through Aravis: `genicam://SERIAL?exposure_us=2000&trigger=Line1`."""

from __future__ import annotations

from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field

from edgead.components.options import Section
from edgead.components.uri import without_credentials
from edgead.sources.aravis import AravisCamera, Buffer, Camera, list_devices
from edgead.sources.camera import Rate
from edgead.sources.connection import LiveAddress, NoFrameYetError
from edgead.sources.contract import SourceError
from edgead.sources.live import LiveLimits
from edgead.sources.registry import register

_POLL_S = 0.25
# Codes of GenICam's Pixel Format Naming Convention, with their conversion to 8 bits of grey or BGR.
_SHIFTS = {0x01080001: 0, 0x01100003: 2, 0x01100005: 4, 0x01100007: 8}  # Mono8, Mono10, Mono12, Mono16
_COLOURS = {
    0x01080008: cv2.COLOR_BayerGRBG2BGR,
    0x01080009: cv2.COLOR_BayerRGGB2BGR,
    0x0108000A: cv2.COLOR_BayerGBRG2BGR,
    0x0108000B: cv2.COLOR_BayerBGGR2BGR,
    0x02180014: cv2.COLOR_RGB2BGR,
}
_BGR8 = 0x02180015
FORMATS = "Mono8, Mono10, Mono12, Mono16, BayerGR8, BayerRG8, BayerGB8, BayerBG8, RGB8, BGR8"
_WRAPS_AT = 65535  # block ids of GigE Vision 1.x, which skip 0


class GenicamOptions(Section):
    """GigE Vision or USB3 Vision camera by its serial number, through the library Aravis."""

    exposure_us: Annotated[
        float | None, Field(gt=0, le=1e8, description="Exposure in microseconds; by default the camera's own.")
    ] = None
    gain: Annotated[float | None, Field(ge=0, le=1000, description="Gain in the camera's unit, mostly dB.")] = None
    fps: Annotated[Rate | None, Field(description="Frames per second, without a trigger.")] = None
    pixel_format: Annotated[
        str | None, Field(pattern=r"^[A-Za-z0-9]{1,32}$", description=f"As the camera names it; read are {FORMATS}.")
    ] = None
    trigger: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9_]{1,32}$",
            description="Source of the camera's trigger, such as Line1; a long time without frames is then no fault.",
        ),
    ] = None


def genicam_address(uri: str, options: GenicamOptions, limits: LiveLimits) -> LiveAddress:
    """Make the address of a camera from its serial number, IP address or name in Aravis; empty for the only camera."""
    wanted = uri.partition("://")[2].partition("?")[0]
    shown = without_credentials(uri)
    return LiveAddress(shown, lambda: GenicamCapture(shown, wanted, options))


class GenicamCapture:
    """Capture from a GenICam camera, with the interface of `cv2.VideoCapture`.

    `lost_packets`: number of packets that did not arrive.
    `lost_frames`: number of frames that are missing in the camera's numbering.
    Raises SourceError: the camera is not found, refuses a setting, or no longer answers.
    """

    def __init__(self, shown: str, wanted: str, options: GenicamOptions):
        self._shown, self._options = shown, options
        self.lost_packets = self.lost_frames = 0
        self._frame_id: int | None = None
        try:
            self._camera = Camera(_find(wanted, list_devices()).id)
        except SourceError as error:
            raise SourceError(f"{shown}: {error}") from None
        try:
            self._set_up()
        except SourceError:
            self._camera.close()
            raise

    def get(self, propId: int, /) -> float:
        return 0.0  # unknown; every frame's size is checked

    def read(self) -> tuple[bool, Any]:
        """Wait for the next frame; an incomplete one gives no image.

        Raises NoFrameYetError: no frame in time; with a trigger the camera may wait for long.
        Raises SourceError: the camera no longer answers.
        """
        buffer = self._camera.next(_POLL_S)
        self.lost_packets = self._camera.missing_packets
        if buffer is None:
            try:
                self._camera.payload()
            except SourceError as error:
                raise SourceError(f"{self._shown}: no longer answers: {error}") from None
            raise NoFrameYetError(may_last=self._options.trigger is not None)
        self._count(buffer.frame_id)
        return True, None if buffer.data is None else self._image(buffer, buffer.data)

    def release(self) -> None:
        self._camera.close()

    def _set_up(self) -> None:
        camera, options = self._camera, self._options
        camera.clear_triggers()
        wanted: dict[str, float | str | None] = {
            "pixel_format_from_string": options.pixel_format,
            "exposure_time": options.exposure_us,
            "gain": options.gain,
            "frame_rate": options.fps,
            "trigger": options.trigger,
        }
        for what, value in wanted.items():
            if value is not None:
                try:
                    camera.set(what, value)
                except SourceError as error:
                    name = what.removesuffix("_from_string")
                    raise SourceError(f"{self._shown}: the camera refuses {name} {value}: {error}") from None
        camera.start()

    def _count(self, frame_id: int) -> None:
        before, self._frame_id = self._frame_id, frame_id
        if before is None:
            return
        step = frame_id - before if frame_id > before else frame_id - before + _WRAPS_AT
        self.lost_frames += max(0, step - 1)

    def _image(self, buffer: Buffer, data: np.ndarray) -> np.ndarray:
        try:
            return as_image(data, buffer.pixel_format, buffer.height, buffer.width)
        except SourceError as error:
            raise SourceError(f"{self._shown}: {error}") from None


def as_image(data: np.ndarray, pixel_format: int, height: int, width: int) -> np.ndarray:
    """Convert a camera's data to an image: (H, W) or (H, W, 3) BGR, uint8, in C order.

    `data`: ndarray of shape (n,), uint8.
    `pixel_format`: code of GenICam's naming convention.
    Raises SourceError: the format is not supported, or there are too few bytes.
    """
    bytes_per_pixel = (pixel_format >> 16 & 0xFF) // 8
    count = height * width * bytes_per_pixel
    if pixel_format not in (*_SHIFTS, *_COLOURS, _BGR8):
        raise SourceError(f"pixel format {pixel_format:#010x} is not read: set pixel_format to one of {FORMATS}")
    if data.size < count:
        raise SourceError(
            f"{width} x {height} pixels of {bytes_per_pixel} bytes are more than the {data.size} that came"
        )
    data = data[:count]
    if pixel_format in _SHIFTS:
        grey = (
            data if bytes_per_pixel == 1 else (data.view("<u2") >> _SHIFTS[pixel_format]).clip(0, 255).astype(np.uint8)
        )
        return grey.reshape(height, width)
    pixels = data.reshape((height, width, 3) if bytes_per_pixel == 3 else (height, width))
    return pixels if pixel_format == _BGR8 else cv2.cvtColor(pixels, _COLOURS[pixel_format])


def _find(wanted: str, devices: list[AravisCamera]) -> AravisCamera:
    found = [one for one in devices if not wanted or wanted in (one.serial, one.id, one.address)]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{one.serial or one.id} at {one.address}" for one in devices) or "none"
    problem = "several cameras answer, name one" if found else "no such camera answers"
    raise SourceError(f"{problem}; found: {there}")


register(
    "genicam",
    GenicamOptions,
    schemes={"genicam": "genicam://SERIAL?exposure_us=2000&gain=1&pixel_format=BayerRG8&trigger=Line1"},
    address=genicam_address,
)
