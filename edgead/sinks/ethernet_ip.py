"""Verdicts into tags of a Rockwell or compatible PLC (EtherNet/IP, pylogix)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from edgead.components.options import Host, Port, Seconds
from edgead.errors import SettingsError
from edgead.plant.modbus import float32
from edgead.process.installation import install_command
from edgead.sinks.contract import BaseSink, SinkError
from edgead.sinks.options import SinkOptions
from edgead.sinks.registry import register
from edgead.types import DECISIONS, Frame, Verdict

SERIAL_MOST = 82
"""Characters of a STRING of Rockwell's."""


class EthernetIpOptions(SinkOptions):
    """Verdicts into tags of a Rockwell or compatible PLC by EtherNet/IP (`pip install 'edgead[ethernet-ip]'`)."""

    kind: Literal["ethernet_ip"]
    host: Annotated[Host, Field(description="Name or address of the PLC.")]
    port: Annotated[Port, Field(description="Of the PLC.")] = 44818
    slot: Annotated[int, Field(ge=0, le=31, description="Of the CPU in its rack.")] = 0
    micro800: Annotated[bool, Field(description="It is a Micro800.")] = False
    tag: Annotated[
        str,
        Field(pattern=r"^[A-Za-z_][A-Za-z0-9_:.]{0,79}$", description="Whose members Count, Score, ... are written."),
    ] = "Edgead"
    timeout_s: Annotated[Seconds, Field(description="Of one request.")] = 1.0
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
        try:
            from pylogix import PLC
        except ModuleNotFoundError:
            raise SettingsError(f"EtherNet/IP needs `{install_command('ethernet-ip')}`") from None
        self.uri = f"ethernet-ip://{section.host}:{section.port}/{section.tag}"
        self._tag = section.tag
        self._count = 0
        self._plc: Any = PLC(section.host, section.slot, section.timeout_s, section.micro800, section.port)

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
        serial = frame.part.serial.encode("ascii", "replace")[:SERIAL_MOST]
        values = {
            "Score": float32(verdict.image_score),
            "Decision": DECISIONS.index(verdict.decision),
            "Serial.LEN": len(serial),
            **({"Serial.DATA[0]": list(serial)} if serial else {}),
            # A DINT has a sign: after 2^31 - 1 the count begins at 0.
            "Count": self._count % 2**31,
        }
        # One by one: pylogix waits without end where one of several tags is not there.
        for name, value in values.items():
            self._ask(self._plc.Write, f"{self._tag}.{name}", value)

    def check(self) -> None:
        """Read the count, to know that the PLC is there; raises as `write`."""
        self._ask(self._plc.Read, f"{self._tag}.Count")

    def _ask(self, request: Any, tag: str, *values: Any) -> None:
        try:
            status = request(tag, *values).Status
        except OSError as error:
            self._plc.Close()
            raise SinkError(f"{self.uri}: cannot be written or read: {error}") from None
        except BaseException:
            self._plc.Close()
            raise
        if status != "Success":
            self._plc.Close()
            raise SinkError(f"{self.uri}: {tag} cannot be written or read: {status}")

    def close(self) -> None:
        self._plc.Close()


register("ethernet_ip", EthernetIpOptions, lambda name, options: EthernetIpSink(options))
