"""Sink that writes verdicts into tags of a Rockwell or compatible PLC (EtherNet/IP, pylogix)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgead.plant.modbus_connection import float32
from edgead.sinks import SinkError, register
from edgead.sinks.plc import PlcSink, PlcSinkOptions, decision_number
from edgead.types import Frame, Verdict
from edgead_plant.ethernet_ip import LogixPlc, LogixPlcOptions, Tag

MAX_SERIAL = 82
"""Characters of a STRING of Rockwell's."""


class EthernetIpOptions(PlcSinkOptions, LogixPlcOptions):
    """Verdicts into tags of a Rockwell or compatible PLC by EtherNet/IP (`pip install 'edgead-plant[ethernet-ip]'`)."""

    kind: Literal["ethernet_ip"]
    micro800: Annotated[bool, Field(description="The PLC is a Micro800.")] = False
    tag: Annotated[Tag, Field(description="Tag with the members Count, Score, ...")] = "Edgead"


class EthernetIpSink(PlcSink[LogixPlc]):
    """Sink that writes `Score`, `Decision` and `Serial` of each verdict, and `Count` once the PLC has accepted them.

    So when the PLC sees the count change, the verdict that it reads is complete.
    """

    def __init__(self, section: EthernetIpOptions):
        super().__init__(LogixPlc(section, section.tag, SinkError, micro800=section.micro800))
        self._tag = section.tag

    def put(self, count: int, frame: Frame, verdict: Verdict) -> None:
        serial = frame.part.serial.encode("ascii", "replace")[:MAX_SERIAL]
        values = {
            "Score": float32(verdict.image_score),
            "Decision": decision_number(verdict.decision),
            "Serial.LEN": len(serial),
            **({"Serial.DATA[0]": list(serial)} if serial else {}),
            # A DINT is signed: after 2^31 - 1 the count restarts at 0.
            "Count": count % 2**31,
        }
        # One at a time: pylogix waits for ever if one of several tags does not exist.
        for name, value in values.items():
            self._plc.write(f"{self._tag}.{name}", value)

    def look(self) -> None:
        self._plc.read(f"{self._tag}.Count")


register("ethernet_ip", EthernetIpOptions, lambda name, options: EthernetIpSink(options))
