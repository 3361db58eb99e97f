"""Verdicts into a data block of a Siemens PLC (S7 protocol, python-snap7)."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from edgead.components.options import Host, Port
from edgead.errors import SettingsError
from edgead.plant.modbus import float32
from edgead.process.installation import install_command
from edgead.sinks.contract import BaseSink, SinkError
from edgead.sinks.options import SinkOptions
from edgead.sinks.registry import register
from edgead.types import DECISIONS, Frame, Verdict

SERIAL_MOST = 32
_LAYOUT = struct.Struct(f">Ifh BB{SERIAL_MOST}s I")
"""Count (UDInt), score (Real), decision (Int), serial number (String[32]) and the count again (UDInt)."""

# It logs each failed attempt by itself; the sink's problem says it once.
logging.getLogger("snap7").setLevel(logging.CRITICAL)


class S7Options(SinkOptions):
    """Verdicts into a data block of a Siemens PLC (`pip install 'edgead[s7]'`)."""

    kind: Literal["s7"]
    host: Annotated[Host, Field(description="Name or address of the PLC.")]
    port: Annotated[Port, Field(description="Of the PLC.")] = 102
    rack: Annotated[int, Field(ge=0, le=7, description="Of the CPU.")] = 0
    slot: Annotated[int, Field(ge=0, le=31, description="Of the CPU: 1 of an S7-1200 or 1500, 2 of an S7-300.")] = 1
    db: Annotated[int, Field(ge=1, le=65_535, description="Number of the data block, not optimised.")]
    start: Annotated[int, Field(ge=0, le=65_400, description="First byte in it.")] = 0
    queued: ClassVar[bool] = True

    @property
    def most_waiting(self) -> int:
        return 1  # an old verdict would eject the wrong part


def block(count: int, score: float, decision: str, serial: str) -> bytes:
    """The bytes of a verdict, big-endian; what of the serial number is no ASCII becomes a question mark.

    The count stands at both ends: a PLC whose CPU takes the request in pieces reads a whole verdict where both agree.
    """
    text = serial.encode("ascii", "replace")[:SERIAL_MOST]
    count &= 0xFFFFFFFF
    return _LAYOUT.pack(count, float32(score), DECISIONS.index(decision), SERIAL_MOST, len(text), text, count)


class S7Sink(BaseSink):
    """Writes each verdict in one request; one that cannot be written is not tried again, and the count shows that."""

    needs_image = False
    can_check = True

    def __init__(self, section: S7Options):
        try:
            from snap7.client import Client
            from snap7.error import S7Error
        except ModuleNotFoundError:
            raise SettingsError(f"S7 needs `{install_command('s7')}`") from None
        self.uri = f"s7://{section.host}:{section.port}/db{section.db}"
        self._section, self._failure = section, S7Error
        self._count = 0
        self._client: Any = Client()

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
        with self._connected():
            self._client.db_write(self._section.db, self._section.start, bytearray(data))

    def check(self) -> None:
        """Read the data block, to know that the PLC is there; raises as `write`."""
        with self._connected():
            self._client.db_read(self._section.db, self._section.start, _LAYOUT.size)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        section = self._section
        try:
            if not self._client.get_connected():
                self._client.disconnect()  # it would leave what is left of the last connection open
                self._client.connect(section.host, section.rack, section.slot, section.port)
            yield
        except (self._failure, OSError) as error:
            self._client.disconnect()
            raise SinkError(f"{self.uri}: cannot be written or read: {error}") from None
        except BaseException:
            self._client.disconnect()
            raise

    def close(self) -> None:
        self._client.disconnect()


register("s7", S7Options, lambda name, options: S7Sink(options))
