"""Verdicts into a data block of a Siemens PLC (S7 protocol, python-snap7)."""

from __future__ import annotations

import struct
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from edgead.plant.modbus import float32
from edgead.plant.s7 import S7Plc, S7PlcOptions
from edgead.sinks.contract import BaseSink, SinkError
from edgead.sinks.options import SinkOptions
from edgead.sinks.registry import register
from edgead.types import DECISIONS, FAULT, Frame, Verdict

MAX_SERIAL = 32
_LAYOUT = struct.Struct(f">Ifh BB{MAX_SERIAL}s I")
"""Count (UDInt), score (Real), decision (Int), serial number (String[32]) and the count again (UDInt)."""


class S7Options(SinkOptions, S7PlcOptions):
    """Verdicts into a data block of a Siemens PLC (`pip install 'edgead[s7]'`)."""

    kind: Literal["s7"]
    start: Annotated[int, Field(ge=0, le=65_400, description="First byte in it.")] = 0
    queued: ClassVar[bool] = True

    @property
    def most_waiting(self) -> int:
        return 1  # an old verdict would eject the wrong part


def block(count: int, score: float, decision: str, serial: str) -> bytes:
    """The bytes of a verdict, big-endian; what of the serial number is no ASCII becomes a question mark.

    The count stands at both ends: a PLC whose CPU takes the request in pieces reads a whole verdict where both agree.
    """
    text = serial.encode("ascii", "replace")[:MAX_SERIAL]
    count &= 0xFFFFFFFF
    code = (*DECISIONS, FAULT).index(decision)
    return _LAYOUT.pack(count, float32(score), code, MAX_SERIAL, len(text), text, count)


class S7Sink(BaseSink):
    """Writes each verdict in one request; one that cannot be written is not tried again, and the count shows that."""

    needs_image = False
    can_check = True

    def __init__(self, section: S7Options):
        self._plc = S7Plc(section, SinkError)
        self.uri = self._plc.uri
        self._start = section.start
        self._count = 0

    def skip(self, count: int) -> None:
        """Count verdicts that were given and will not be written."""
        self._count += count

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Write one verdict.

        Raises
        ------
        SinkError
            The PLC is away or refuses the data block.
        """
        self._count += 1
        data = block(self._count, verdict.image_score, verdict.decision, frame.part.serial)
        with self._plc.connected():
            self._plc.write(self._start, data)

    def check(self) -> None:
        """Read the data block, to know that the PLC is there; raises as `write`."""
        with self._plc.connected():
            self._plc.read(self._start, _LAYOUT.size)

    def close(self) -> None:
        self._plc.close()


register("s7", S7Options, lambda name, options: S7Sink(options))
