"""Verdicts into tags of a Rockwell or compatible PLC (EtherNet/IP, pylogix)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from edgead.plant.ethernet_ip import LogixPlc, LogixPlcOptions, Tag
from edgead.plant.modbus import float32
from edgead.sinks.contract import BaseSink, SinkError
from edgead.sinks.options import SinkOptions
from edgead.sinks.registry import register
from edgead.types import DECISIONS, FAULT, Frame, Verdict

MAX_SERIAL = 82
"""Characters of a STRING of Rockwell's."""


class EthernetIpOptions(SinkOptions, LogixPlcOptions):
    """Verdicts into tags of a Rockwell or compatible PLC by EtherNet/IP (`pip install 'edgead[ethernet-ip]'`)."""

    kind: Literal["ethernet_ip"]
    micro800: Annotated[bool, Field(description="It is a Micro800.")] = False
    tag: Annotated[Tag, Field(description="Whose members Count, Score, ... are written.")] = "Edgead"
    queued: ClassVar[bool] = True

    @property
    def most_waiting(self) -> int:
        return 1  # an old verdict would eject the wrong part


class EthernetIpSink(BaseSink):
    """Writes `Score`, `Decision` and `Serial` of each verdict, and `Count` when the PLC has taken them.

    A PLC that sees the count change reads a whole verdict. One that cannot be written is not tried again, and the count
    shows that.
    """

    needs_image = False
    can_check = True

    def __init__(self, section: EthernetIpOptions):
        self._plc = LogixPlc(section, section.tag, SinkError, micro800=section.micro800)
        self.uri = self._plc.uri
        self._tag = section.tag
        self._count = 0

    def skip(self, count: int) -> None:
        """Count verdicts that were given and will not be written."""
        self._count += count

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Write one verdict.

        Raises
        ------
        SinkError
            The PLC is away or refuses a tag.
        """
        self._count += 1
        serial = frame.part.serial.encode("ascii", "replace")[:MAX_SERIAL]
        values = {
            "Score": float32(verdict.image_score),
            "Decision": (*DECISIONS, FAULT).index(verdict.decision),
            "Serial.LEN": len(serial),
            **({"Serial.DATA[0]": list(serial)} if serial else {}),
            # A DINT has a sign: after 2^31 - 1 the count begins at 0.
            "Count": self._count % 2**31,
        }
        # One by one: pylogix waits without end where one of several tags is not there.
        with self._plc.connected():
            for name, value in values.items():
                self._plc.write(f"{self._tag}.{name}", value)

    def check(self) -> None:
        """Read the count, to know that the PLC is there; raises as `write`."""
        with self._plc.connected():
            self._plc.read(f"{self._tag}.Count")

    def close(self) -> None:
        self._plc.close()


register("ethernet_ip", EthernetIpOptions, lambda name, options: EthernetIpSink(options))
