"""A trigger by a PLC over Modbus/TCP, which names the part and waits for its verdict; the PLC is the server."""

from __future__ import annotations

import logging
import struct
import threading
import time
from typing import Annotated, Literal

from pydantic import Field

from edgead.components.options import Seconds
from edgead.errors import EdgeadError
from edgead.plant.modbus import ModbusPlc, PlcOptions
from edgead.process.log_rate import limited_log
from edgead.triggers.contract import TriggerOptions
from edgead.triggers.handshake import STATUS_REGISTERS, Command, Handshake
from edgead.triggers.registry import register
from edgead.types import Frame, Part, Verdict

FIRST_TEXT = 4
"""Registers of a command before its texts."""
_AGAIN_S = 0.5
_LEAVE_S = 1.0

Words = Annotated[int, Field(ge=0, le=32)]


class ModbusTriggerOptions(TriggerOptions, PlcOptions):
    """Judge the part that a PLC asks for over Modbus/TCP, and answer it: ready, busy, done, decision, score."""

    kind: Literal["modbus"]
    command: Annotated[
        int, Field(ge=0, le=65_468, description="First of the holding registers that the PLC writes.")
    ] = 200
    status: Annotated[int, Field(ge=0, le=65_524, description="First of the holding registers that edgead writes.")] = (
        300
    )
    serial_registers: Annotated[Words, Field(description="Of the serial number, two ASCII characters each.")] = 0
    batch_registers: Annotated[Words, Field(description="Of the batch, which follow the serial number.")] = 0
    low_byte_first: Annotated[bool, Field(description="The first of two characters is in the low byte.")] = False
    recipes: Annotated[
        dict[Annotated[int, Field(ge=1, le=65_535)], str],
        Field(description="Names of recipes by the PLC's numbers; a number that is not listed is refused."),
    ] = {}
    poll_ms: Annotated[float, Field(ge=1, le=10_000, description="Between two looks at the PLC.")] = 10.0
    beat_s: Annotated[Seconds, Field(description="edgead's heartbeat counts at least so often.")] = 0.5
    silent_s: Annotated[
        Seconds | None, Field(description="The PLC's heartbeat must change within that; by default none is expected.")
    ] = None
    answer_within_s: Annotated[
        Seconds, Field(description="A part without a verdict by then is answered as not judged.")
    ] = 5.0


class PlcError(EdgeadError):
    """The PLC is away, refuses, or answers something else."""


class ModbusTrigger:
    """Accepts the first frame that was captured after a PLC asked for it, and answers with its verdict.

    The PLC is the server, as it is for the sink: most have one, it needs no address of the device, and nothing of the
    device can be reached from its network. One that is away is looked for until it is back.

    Raises
    ------
    SettingsError
        The package `pymodbus` is missing.
    """

    def __init__(self, options: ModbusTriggerOptions):
        self._options = options
        self._plc = ModbusPlc(options, PlcError)
        self._handshake = Handshake(options.recipes, round(options.answer_within_s * 1e9))
        self._problem: str | None = f"{self._plc.uri}: not connected yet"
        self._connection = 0
        self._beat_s = float("-inf")
        self._heartbeat: tuple[int, float] | None = None  # the PLC's, and when it changed
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._log = limited_log(__name__, 20, 60.0)
        self._thread = threading.Thread(target=self._watch, name=f"modbus trigger {options.host}", daemon=True)
        self._thread.start()

    @property
    def part(self) -> Part:
        return self._handshake.part

    @property
    def problem(self) -> str | None:
        """Why no part can be asked for; None while all is well."""
        return self._problem

    def accepts(self, frame: Frame) -> bool:
        with self._lock:
            return self._handshake.accepts(frame.captured_ns)

    def answer(self, verdict: Verdict | None) -> None:
        """Answer the part of the frame accepted last; None where it has no verdict."""
        with self._lock:
            if verdict is None:
                self._handshake.answer(None)
            else:
                self._handshake.answer(verdict.decision, float(verdict.image_score))
        self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        # One that answers nothing is left behind: its thread ends with its request.
        self._thread.join(_LEAVE_S + self._options.timeout_s)

    def _watch(self) -> None:
        while not self._closing:
            self._report(self._step())
            pause_s = self._options.poll_ms / 1e3 if self._plc.client.connected else _AGAIN_S
            if self._wake.wait(pause_s):
                self._wake.clear()
        with self._lock:
            self._handshake.leave()
        self._step()
        self._plc.close()

    def _step(self) -> str | None:
        """Read what the PLC says and write what it is answered; gives what is wrong."""
        try:
            with self._plc.connected():
                if self._connection != self._plc.connections:
                    registers = self._plc.read(self._options.status, STATUS_REGISTERS)
                    with self._lock:
                        self._handshake.meet(registers)
                    self._connection = self._plc.connections
                if not self._closing:
                    self._read()
                self._write()
        except PlcError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  a trigger that ends in silence lets every part pass
            self._log.error("%s: the trigger failed", self._plc.uri, exc_info=error)
            return f"{self._plc.uri}: the trigger failed by {type(error).__name__}, see the log"
        return self._complaint()

    def _read(self) -> None:
        options = self._options
        count = FIRST_TEXT + options.serial_registers + options.batch_registers
        registers = self._plc.read(options.command, count)
        first, texts = registers[:FIRST_TEXT], registers[FIRST_TEXT:]
        serial, batch = texts[: options.serial_registers], texts[options.serial_registers :]
        sequence, heartbeat, recipe, reset = first
        written = (text_of(words, options.low_byte_first) for words in (serial, batch))
        command = Command(sequence, heartbeat, recipe, reset, *written)
        now_s = time.monotonic()
        if self._heartbeat is None or self._heartbeat[0] != command.heartbeat:
            self._heartbeat = (command.heartbeat, now_s)
        with self._lock:
            self._handshake.read(command, time.perf_counter_ns())

    def _write(self) -> None:
        now_s = time.monotonic()
        beat = self._closing or now_s - self._beat_s >= self._options.beat_s
        with self._lock:
            registers = self._handshake.shown(time.perf_counter_ns(), beat=beat)
        if registers is not None:
            self._plc.write(self._options.status, registers)
            with self._lock:
                self._handshake.confirm()
            self._beat_s = now_s

    def _complaint(self) -> str | None:
        if (unknown := self._handshake.unknown_recipe) is not None:
            known = ", ".join(map(str, self._options.recipes))
            return f"{self._plc.uri}: the PLC asks for recipe {unknown}, known are {known}: add it to recipes"
        silent_s = self._options.silent_s
        if silent_s is not None and self._heartbeat is not None and time.monotonic() - self._heartbeat[1] > silent_s:
            return f"{self._plc.uri}: the PLC's heartbeat has stood still for more than {silent_s:g} s: is it in stop?"
        return None

    def _report(self, problem: str | None) -> None:
        if problem != self._problem:
            self._log.log(logging.WARNING if problem else logging.INFO, "%s", problem or f"{self._plc.uri}: connected")
            self._problem = problem


def text_of(registers: tuple[int, ...], low_byte_first: bool = False) -> str:
    """Read ASCII, two characters a register, up to the first NUL; what cannot be printed becomes a question mark."""
    data = struct.pack(f"{'<' if low_byte_first else '>'}{len(registers)}H", *registers)
    text = data.partition(b"\0")[0].decode("ascii", "replace")
    return "".join(character if " " <= character <= "~" else "?" for character in text).strip()


register("modbus", ModbusTriggerOptions, ModbusTrigger)
