"""The wire format of protobuf, as far as an ONNX file needs it (https://protobuf.dev/programming-guides/encoding/)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from edgead.errors import EdgeadError

VARINT, LENGTH = 0, 2
_FIXED64, _FIXED32 = 1, 5


class OnnxFormatError(EdgeadError):
    """Not an ONNX file as edgead writes it."""


class Field(NamedTuple):
    """One field: its number, and where in the file its tag, its content and its end are."""

    number: int
    wire_type: int
    at: int
    start: int
    end: int


def fields(message: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """Yield the fields of a message that lies in some bytes.

    Raises
    ------
    OnnxFormatError
        The bytes are none, or the message is cut off.
    """
    at, end = start, len(message) if end is None else end
    while at < end:
        tag, content = read_varint(message, at)
        wire_type = tag & 7
        if tag > 0xFFFFFFFF:  # readers differ in what they make of it
            raise OnnxFormatError(f"no ONNX file: a field of number {tag >> 3} at byte {at}")
        if wire_type == LENGTH:
            length, content = read_varint(message, content)
        elif wire_type == VARINT:
            length = read_varint(message, content)[1] - content
        elif wire_type in (_FIXED64, _FIXED32):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise OnnxFormatError(f"no ONNX file: a field of unknown type {wire_type} at byte {at}")
        if content + length > end:
            raise OnnxFormatError(f"no whole ONNX file: a field ends at byte {content + length} of {end}")
        yield Field(tag >> 3, wire_type, at, content, content + length)
        at = content + length


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Read a number; returns it and where the next byte is."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise OnnxFormatError(f"no ONNX file: no number ends at byte {at}")
