"""Sink that writes verdicts into a data block of a Siemens PLC (S7 protocol, python-snap7)."""

from __future__ import annotations

import struct
from typing import Annotated, Literal

from pydantic import Field

from edgead.plant.modbus_connection import float32
from edgead.sinks import SinkError, register
from edgead.sinks.plc import PlcSink, PlcSinkOptions, decision_number
from edgead.types import Decision, Frame, Verdict
from edgead_plant.s7 import S7Plc, S7PlcOptions

MAX_SERIAL = 32
_LAYOUT = struct.Struct(f">Ifh BB{MAX_SERIAL}s I")
"""Count (UDInt), score (Real), decision (Int), serial number (String[32]) and the count again (UDInt)."""


class S7Options(PlcSinkOptions, S7PlcOptions):
    """Verdicts into a data block of a Siemens PLC (`pip install 'edgead-plant[s7]'`)."""

    kind: Literal["s7"]
    start: Annotated[int, Field(ge=0, le=65_400, description="First byte in the block.")] = 0


def block(count: int, score: float, decision: Decision, serial: str) -> bytes:
    """Encode a verdict as big-endian bytes; characters of the serial number outside ASCII become question marks.

    The count is at both ends: if a CPU takes the request in pieces, the verdict is complete once both are equal.
    """
    text = serial.encode("ascii", "replace")[:MAX_SERIAL]
    count &= 0xFFFFFFFF
    return _LAYOUT.pack(count, float32(score), decision_number(decision), MAX_SERIAL, len(text), text, count)


class S7Sink(PlcSink[S7Plc]):
    """Sink that writes each verdict in one request."""

    def __init__(self, section: S7Options):
        super().__init__(S7Plc(section, SinkError))
        self._start = section.start

    def put(self, count: int, frame: Frame, verdict: Verdict) -> None:
        self._plc.write(self._start, block(count, verdict.image_score, verdict.decision, frame.part.serial))

    def look(self) -> None:
        self._plc.read(self._start, _LAYOUT.size)


register("s7", S7Options, lambda name, options: S7Sink(options))
