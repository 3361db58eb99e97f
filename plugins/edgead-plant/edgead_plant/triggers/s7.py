"""Trigger by a Siemens PLC over the S7 protocol; command and status lie in one of its data blocks."""

from __future__ import annotations

import struct
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgead.line.triggers import TriggerOptions, register
from edgead.line.triggers.handshake import STATUS_REGISTERS, Command
from edgead.line.triggers.plc import HandshakeOptions, PlcError, PlcTrigger, text_of
from edgead_plant.s7 import S7Plc, S7PlcOptions
from edgead_plant.triggers.settled import settled

COMMAND = struct.Struct(">4H")
"""Sequence, heartbeat, recipe and reset (UInt each); String of the serial number and of the batch follow."""
STATUS = struct.Struct(f">BB{STATUS_REGISTERS - 1}H H")
"""Flags (Bool), the values of all handshakes, and the answered number again (UInt)."""
_ANSWERED = 3  # index of the answered number within a status's registers

Characters = Annotated[int, Field(ge=0, le=96)]


class S7TriggerOptions(TriggerOptions, S7PlcOptions, HandshakeOptions):
    """Judge the part that a Siemens PLC asks for, and answer it in a data block (`pip install 'edgead-plant[s7]'`)."""

    kind: Literal["s7"]
    command: Annotated[int, Field(ge=0, le=65_300, description="First byte that the PLC writes.")] = 0
    status: Annotated[int, Field(ge=0, le=65_500, description="First byte that edgead writes.")] = 100
    serial_length: Annotated[Characters, Field(description="n of the serial number's String[n]; 0 without one.")] = 32
    batch_length: Annotated[Characters, Field(description="n of the batch's String[n]; 0 without one.")] = 0

    @property
    def command_size(self) -> int:
        """Size in bytes of the command, which begins at `command`."""
        return COMMAND.size + string_size(self.serial_length) + string_size(self.batch_length)

    @model_validator(mode="after")
    def _apart(self) -> S7TriggerOptions:
        if self.command < self.status + STATUS.size and self.status < self.command + self.command_size:
            raise ValueError(
                f"command takes bytes {self.command} to {self.command + self.command_size - 1} of the data block, "
                f"status {self.status} to {self.status + STATUS.size - 1}: let them lie apart"
            )
        return self


class S7Link:
    """Access to a PLC's data block: reads the command and writes the status of the handshake; see `PlcLink`.

    Raises SettingsError: the package `python-snap7` is missing.
    """

    kind = "s7"

    def __init__(self, options: S7TriggerOptions):
        self._options = options
        self.plc = S7Plc(options, PlcError)
        self._last: Command | None = None
        self.timeout_s = options.timeout_s

    def read_command(self) -> Command:
        self._last = settled(self._look, self._last, self.plc.uri)
        return self._last

    def read_status(self) -> tuple[int, ...]:
        self._last = None  # the PLC may have restarted
        flags, _, *registers, _again = STATUS.unpack(self.plc.read(self._options.status, STATUS.size))
        return (flags, *registers)

    def write_status(self, registers: tuple[int, ...]) -> None:
        # The flags stand in the first byte, so that they are DBX0.0, DBX0.1, ...
        self.plc.write(self._options.status, STATUS.pack(registers[0], 0, *registers[1:], registers[_ANSWERED]))

    def _look(self) -> Command:
        options = self._options
        lengths = (options.serial_length, options.batch_length)
        data = self.plc.read(options.command, options.command_size)
        texts, place = [], COMMAND.size
        for length in lengths:
            texts.append(self._text(data, place, length))
            place += string_size(length)
        return Command(*COMMAND.unpack_from(data), *texts)

    def _text(self, data: bytes, place: int, length: int) -> str:
        if length == 0:
            return ""
        most, used = data[place], data[place + 1]
        if used > length or most not in (0, length):  # 0: the PLC has not filled it yet
            where = f"DBB{self._options.command + place}"
            raise PlcError(f"{self.plc.uri}: {where} is no String[{length}]: it says {used} characters of {most}")
        return text_of(data[place + 2 : place + 2 + used])


def string_size(length: int) -> int:
    """Return the size in bytes of a `String[length]`, padded to an even number; 0 for length 0."""
    return 2 + length + length % 2 if length else 0


register("s7", S7TriggerOptions, lambda options: PlcTrigger(S7Link(options), options))
