"""Trigger by a PLC over Modbus/TCP, which names the part and waits for the verdict; the PLC is the server."""

from __future__ import annotations

import struct
from typing import Annotated, Literal

from pydantic import Field

from edgead.line.triggers.contract import TriggerOptions
from edgead.line.triggers.handshake import STATUS_REGISTERS, Command
from edgead.line.triggers.plc import HandshakeOptions, PlcError, PlcTrigger, text_of
from edgead.line.triggers.registry import register
from edgead.plant.modbus_connection import ModbusPlc, PlcOptions

FIRST_TEXT = 4
"""Number of a command's registers before its texts."""

Words = Annotated[int, Field(ge=0, le=32)]


class ModbusTriggerOptions(TriggerOptions, PlcOptions, HandshakeOptions):
    """Judge the part that a PLC requests over Modbus/TCP, and answer the PLC: ready, busy, done, decision, score."""

    kind: Literal["modbus"]
    command: Annotated[
        int, Field(ge=0, le=65_468, description="First of the holding registers that the PLC writes.")
    ] = 200
    status: Annotated[int, Field(ge=0, le=65_524, description="First of the holding registers that edgead writes.")] = (
        300
    )
    serial_registers: Annotated[Words, Field(description="Registers of the serial number, 2 characters each.")] = 0
    batch_registers: Annotated[Words, Field(description="Registers of the batch, after the serial number.")] = 0
    low_byte_first: Annotated[bool, Field(description="Whether the first of 2 characters is in the low byte.")] = False


class ModbusLink:
    """Command and status in the holding registers of a PLC; see `PlcLink`.

    Raises SettingsError: the package `pymodbus` is missing.
    """

    kind = "modbus"

    def __init__(self, options: ModbusTriggerOptions):
        self._options = options
        self.plc = ModbusPlc(options, PlcError)
        self.timeout_s = options.timeout_s

    def read_command(self) -> Command:
        options = self._options
        count = FIRST_TEXT + options.serial_registers + options.batch_registers
        registers = self.plc.read(options.command, count)
        first, texts = registers[:FIRST_TEXT], registers[FIRST_TEXT:]
        serial, batch = texts[: options.serial_registers], texts[options.serial_registers :]
        sequence, heartbeat, recipe, reset = first
        written = (words_text(words, options.low_byte_first) for words in (serial, batch))
        return Command(sequence, heartbeat, recipe, reset, *written)

    def read_status(self) -> tuple[int, ...]:
        return self.plc.read(self._options.status, STATUS_REGISTERS)

    def write_status(self, registers: tuple[int, ...]) -> None:
        self.plc.write(self._options.status, registers)


def words_text(registers: tuple[int, ...], low_byte_first: bool = False) -> str:
    """Decode ASCII text with two characters per register; see `text_of`."""
    return text_of(struct.pack(f"{'<' if low_byte_first else '>'}{len(registers)}H", *registers))


register("modbus", ModbusTriggerOptions, lambda options: PlcTrigger(ModbusLink(options), options))
