"""Trigger by a Rockwell or compatible PLC over EtherNet/IP; command and status are members of a tag."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from edgead.line.triggers import TriggerOptions, register
from edgead.line.triggers.handshake import Command
from edgead.line.triggers.plc import HandshakeOptions, PlcError, PlcTrigger, text_of
from edgead_plant.ethernet_ip import LogixPlc, LogixPlcOptions, Tag
from edgead_plant.triggers.settled import settled

COMMAND_SIZE = 4
"""DINTs of a command: sequence, heartbeat, recipe and reset."""
STATUS_SIZE = 12
"""DINTs of a status: the values of all handshakes, the score as the bits of a REAL, the answered number again."""
_SCORE, _ANSWERED = 5, 3
_LONGEST = 255  # characters of a text; Rockwell's STRING has 82


class EthernetIpTriggerOptions(TriggerOptions, LogixPlcOptions, HandshakeOptions):
    """Judge the part that a Rockwell PLC asks for, and answer in a tag (`pip install 'edgead-plant[ethernet-ip]'`)."""

    kind: Literal["ethernet_ip"]
    tag: Annotated[Tag, Field(description="Tag with the members Command, Serial, Batch, Status.")] = "EdgeadPart"
    serial: Annotated[bool, Field(description="The PLC writes a serial number to Serial.")] = True
    batch: Annotated[bool, Field(description="The PLC writes a batch to Batch.")] = False


class LogixLink:
    """Access to a PLC's tags: reads the command and writes the status of the handshake; see `PlcLink`.

    Raises SettingsError: the package `pylogix` is missing.
    """

    kind = "ethernet_ip"

    def __init__(self, options: EthernetIpTriggerOptions):
        self._options = options
        self.plc = LogixPlc(options, options.tag, PlcError)
        self._last: Command | None = None
        self.timeout_s = options.timeout_s

    def read_command(self) -> Command:
        self._last = settled(self._look, self._last, self.plc.uri)
        return self._last

    def read_status(self) -> tuple[int, ...]:
        self._last = None  # the PLC may have restarted
        values = self._integers("Status", STATUS_SIZE)
        score = divmod(values[_SCORE] % 2**32, 2**16)
        return (*values[:_SCORE], *score, *values[_SCORE + 1 : -1])

    def write_status(self, registers: tuple[int, ...]) -> None:
        high, low = registers[_SCORE : _SCORE + 2]
        values = (*registers[:_SCORE], high << 16 | low, *registers[_SCORE + 2 :], registers[_ANSWERED])
        self.plc.write(f"{self._options.tag}.Status[0]", [_signed(value) for value in values])

    def _look(self) -> Command:
        sequence, heartbeat, recipe, reset = self._integers("Command", COMMAND_SIZE)
        last, options = self._last, self._options
        if last is not None and sequence == last.sequence:
            return Command(sequence, heartbeat, recipe, reset, last.serial, last.batch)
        # Read after the number: the PLC writes the number last, and keeps the texts until it is answered.
        serial = self._text("Serial") if options.serial else ""
        batch = self._text("Batch") if options.batch else ""
        return Command(sequence, heartbeat, recipe, reset, serial, batch)

    def _text(self, member: str) -> str:
        (length,) = self._integers(f"{member}.LEN", 1)
        if not 0 <= length <= _LONGEST:
            raise PlcError(f"{self.plc.uri}: {member}.LEN is {length}: is it a STRING?")
        if length == 0:
            return ""
        return text_of(bytes(value % 256 for value in self._integers(f"{member}.DATA", length)))

    def _integers(self, member: str, count: int) -> tuple[int, ...]:
        name = f"{self._options.tag}.{member}"
        values = self.plc.read(f"{name}[0]" if member in _ARRAYS else name, count)
        if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            raise PlcError(f"{self.plc.uri}: {name} holds no whole numbers: make it as the documentation says")
        return tuple(values)


_ARRAYS = {"Command", "Status", "Serial.DATA", "Batch.DATA"}


def _signed(value: Any) -> int:
    """Convert an unsigned 32-bit value to the DINT of the same bits."""
    return int((value + 2**31) % 2**32 - 2**31)


register("ethernet_ip", EthernetIpTriggerOptions, lambda options: PlcTrigger(LogixLink(options), options))
