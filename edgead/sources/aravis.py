"""Bindings of Aravis, the free library for GenICam cameras, through its C interface.

PyGObject offers the same calls, but has no wheels and would have to be compiled on the device. Functions are declared
as in Aravis 0.8 (https://aravisproject.github.io/aravis/aravis-stable/), which keeps them stable.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from edgead.sources.contract import SourceError

_NAME = "libaravis-0.8.so.0"
_BUFFERS = 8
_COMPLETE = 0  # ARV_BUFFER_STATUS_SUCCESS
_CONTINUOUS = 0  # ARV_ACQUISITION_MODE_CONTINUOUS


class _Error(ctypes.Structure):
    _fields_ = [("domain", c_uint32), ("code", c_int), ("message", c_char_p)]


_Fault = POINTER(_Error)
# Result and argument types of each function; those that can fail take a pointer for the error last.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "arv_update_device_list": (None,),
    "arv_get_n_devices": (c_uint,),
    "arv_get_device_id": (c_char_p, c_uint),
    "arv_get_device_serial_nbr": (c_char_p, c_uint),
    "arv_get_device_address": (c_char_p, c_uint),
    "arv_stream_push_buffer": (None, c_void_p, c_void_p),
    "arv_stream_timeout_pop_buffer": (c_void_p, c_void_p, c_uint64),
    "arv_stream_get_info_uint64_by_name": (c_uint64, c_void_p, c_char_p),
    "arv_buffer_new_allocate": (c_void_p, c_size_t),
    "arv_buffer_get_status": (c_int, c_void_p),
    "arv_buffer_get_frame_id": (c_uint64, c_void_p),
    "arv_buffer_get_image_width": (c_int, c_void_p),
    "arv_buffer_get_image_height": (c_int, c_void_p),
    "arv_buffer_get_image_pixel_format": (c_uint32, c_void_p),
    "arv_buffer_get_image_data": (c_void_p, c_void_p, POINTER(c_size_t)),
    "g_object_unref": (None, c_void_p),
    "g_clear_error": (None, POINTER(_Fault)),
}
_FALLIBLE: dict[str, tuple[Any, ...]] = {
    "arv_camera_new": (c_void_p, c_char_p),
    "arv_camera_set_acquisition_mode": (None, c_void_p, c_int),
    "arv_camera_set_exposure_time": (None, c_void_p, c_double),
    "arv_camera_set_gain": (None, c_void_p, c_double),
    "arv_camera_set_frame_rate": (None, c_void_p, c_double),
    "arv_camera_set_pixel_format_from_string": (None, c_void_p, c_char_p),
    "arv_camera_set_trigger": (None, c_void_p, c_char_p),
    "arv_camera_clear_triggers": (None, c_void_p),
    "arv_camera_get_payload": (c_uint, c_void_p),
    "arv_camera_create_stream": (c_void_p, c_void_p, c_void_p, c_void_p),
    "arv_camera_start_acquisition": (None, c_void_p),
    "arv_camera_stop_acquisition": (None, c_void_p),
}


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_NAME)
    except OSError:
        raise SourceError(f"GenICam cameras need the library {_NAME}: `apt install libaravis-0.8-0`") from None
    for name, (result, *takes) in _PLAIN.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, takes
    for name, (result, *takes) in _FALLIBLE.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, [*takes, POINTER(_Fault)]
    return library


def _call(name: str, *given: Any) -> Any:
    """Call a function of the library; raise SourceError with the library's reason if it fails."""
    library, fault = _library(), _Fault()
    result = getattr(library, name)(*given, byref(fault))
    if fault:
        reason = (fault.contents.message or b"").decode("utf-8", "replace")
        library.g_clear_error(byref(fault))
        raise SourceError(reason)
    return result


@dataclass(frozen=True, slots=True)
class AravisCamera:
    """Camera that Aravis has found: its name in Aravis, serial number and address."""

    id: str
    serial: str
    address: str


def list_devices() -> list[AravisCamera]:
    """Search the networks and buses of this computer for cameras, which takes about a second.

    Raises SourceError: the library is missing.
    """
    library = _library()
    library.arv_update_device_list()
    asked = (library.arv_get_device_id, library.arv_get_device_serial_nbr, library.arv_get_device_address)
    found = [[(ask(number) or b"").decode() for ask in asked] for number in range(library.arv_get_n_devices())]
    return [AravisCamera(*one) for one in found]


@dataclass(frozen=True, slots=True)
class Buffer:
    """Image buffer of a camera: `data` is a copy, None if parts of it did not arrive."""

    frame_id: int
    pixel_format: int
    width: int
    height: int
    data: np.ndarray | None


class Camera:
    """GenICam camera that streams after `start`; for use by one thread.

    Raises SourceError: in all methods: the camera refuses a call, or no longer answers.
    """

    def __init__(self, id: str):
        self._library = _library()
        self._stream: int | None = None
        self._camera: int | None = _call("arv_camera_new", id.encode())

    def set(self, what: str, value: float | str) -> None:
        """Set "exposure_time" (microseconds), "gain", "frame_rate", "pixel_format_from_string" or "trigger"."""
        _call(f"arv_camera_set_{what}", self._camera, value.encode() if isinstance(value, str) else value)

    def start(self) -> None:
        _call("arv_camera_set_acquisition_mode", self._camera, _CONTINUOUS)
        self._stream = _call("arv_camera_create_stream", self._camera, None, None)
        for _ in range(_BUFFERS):
            buffer = self._library.arv_buffer_new_allocate(self.payload())
            self._library.arv_stream_push_buffer(self._stream, buffer)
        _call("arv_camera_start_acquisition", self._camera)

    def clear_triggers(self) -> None:
        _call("arv_camera_clear_triggers", self._camera)

    def payload(self) -> int:
        """Number of bytes of an image; this queries the camera, so it fails if the camera is gone."""
        return _call("arv_camera_get_payload", self._camera)

    def next(self, timeout_s: float) -> Buffer | None:
        """Wait for an image; None if none comes in time."""
        library = self._library
        buffer = library.arv_stream_timeout_pop_buffer(self._stream, round(timeout_s * 1e6))
        if not buffer:
            return None
        try:
            data = self._data(buffer) if library.arv_buffer_get_status(buffer) == _COMPLETE else None
            frame_id = library.arv_buffer_get_frame_id(buffer)
            return Buffer(frame_id, *(self._shape(buffer) if data is not None else (0, 0, 0)), data)
        finally:
            library.arv_stream_push_buffer(self._stream, buffer)

    @property
    def missing_packets(self) -> int:
        """Number of GigE Vision packets that did not arrive, even after a resend request."""
        return self._library.arv_stream_get_info_uint64_by_name(self._stream, b"n_missing_packets")

    def close(self) -> None:
        try:
            if self._stream is not None:
                _call("arv_camera_stop_acquisition", self._camera)
        except SourceError:
            pass  # the camera is gone already
        for thing in self._release():
            self._library.g_object_unref(thing)

    def _release(self) -> Iterator[int]:
        things, self._stream, self._camera = (self._stream, self._camera), None, None
        return (thing for thing in things if thing is not None)

    def _shape(self, buffer: int) -> tuple[int, int, int]:
        library = self._library
        return (
            library.arv_buffer_get_image_pixel_format(buffer),
            library.arv_buffer_get_image_width(buffer),
            library.arv_buffer_get_image_height(buffer),
        )

    def _data(self, buffer: int) -> np.ndarray:
        size = c_size_t()
        address = self._library.arv_buffer_get_image_data(buffer, byref(size))
        return np.frombuffer(ctypes.string_at(address, size.value), np.uint8)
