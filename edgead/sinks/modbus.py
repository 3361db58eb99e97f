"""Verdicts to a PLC over Modbus/TCP: coils and holding registers (pymodbus)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from edgead.plant.modbus_connection import ModbusPlc, PlcOptions, float32_registers
from edgead.sinks.contract import SinkError
from edgead.sinks.options import read_host
from edgead.sinks.plc import PlcSink, PlcSinkOptions, decision_number
from edgead.sinks.registry import register
from edgead.types import DECISIONS, Decision, Frame, Verdict


class ModbusOptions(PlcSinkOptions, PlcOptions):
    """Verdicts to a PLC over Modbus/TCP: coils and holding registers, from the given addresses on."""

    kind: Literal["modbus"]
    coil: Annotated[int, Field(ge=0, le=65532, description="First of four coils: ok, review, reject, toggle.")] = 0
    register_: Annotated[
        int, Field(ge=0, le=65529, alias="register", description="First of: count (2), score (2), decision, kind.")
    ] = 0
    kinds: Annotated[
        tuple[str, ...],
        Field(max_length=65_534, description="Kinds of defects in the order of the PLC's numbers; adds a register."),
    ] = ()


def to_registers(count: int, score: float, decision: Decision) -> list[int]:
    """Convert a verdict to five registers, high words first: count (uint32), score (float32), decision (0 to 3)."""
    high, low = divmod(count & 0xFFFFFFFF, 2**16)
    return [high, low, *float32_registers(score), decision_number(decision)]


OTHER_KIND = 65_535
"""The number of a kind that `kinds` does not list, and of an unknown one."""


def kind_number(kind: str | None, kinds: tuple[str, ...]) -> int:
    """Return a kind's number for a PLC: its place in `kinds` from 1 on, 0 without a kind, `OTHER_KIND` if not in it."""
    if kind is None:
        return 0
    return kinds.index(kind) + 1 if kind in kinds else OTHER_KIND


class ModbusSink(PlcSink[ModbusPlc]):
    """Sink that writes the registers of each verdict, then its coils: ok, review, reject and a toggle.

    For a part that is a fault, as a view is missing, the first three coils are off.

    The four coils go in one request, and after the registers: a PLC that sees the toggle change reads a whole
    verdict.
    """

    def __init__(self, section: ModbusOptions):
        super().__init__(ModbusPlc(section, SinkError))
        self._section = section
        self._toggle: bool | None = None
        self._connection = 0

    def put(self, count: int, frame: Frame, verdict: Verdict) -> None:
        registers = to_registers(count, verdict.image_score, verdict.decision)
        if self._section.kinds:  # a PLC that was set up before there were kinds may have no such register
            registers.append(kind_number(verdict.kind, self._section.kinds))
        toggle = not self._last_toggle()
        coils = [verdict.decision == decision for decision in DECISIONS] + [toggle]
        self._plc.write(self._section.register_, tuple(registers))
        self._plc.ask(self._plc.client.write_coils, self._section.coil, coils)
        self._toggle = toggle

    def look(self) -> None:
        self._toggle = None
        self._last_toggle()

    def _last_toggle(self) -> bool:
        """Read the toggle's state from the PLC, where an earlier process may have left it."""
        # With a new connection the PLC may have restarted, or have taken a value that it did not confirm.
        if self._toggle is None or self._connection != self._plc.connections:
            self._toggle = self._plc.read_coil(self._section.coil + 3)
            self._connection = self._plc.connections
        return self._toggle


def _read_uri(uri: str) -> dict[str, Any]:
    parts, values = read_host(uri, ("coil", "register", "unit"))
    return values | {"port": parts.port or 502}


register(
    "modbus",
    ModbusOptions,
    lambda name, options: ModbusSink(options),
    schemes={"modbus": "modbus://HOST:PORT?unit=1&coil=0&register=0"},
    read_uri=_read_uri,
)
