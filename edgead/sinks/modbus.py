"""Verdicts to a PLC over Modbus/TCP: coils and holding registers (pymodbus)."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from edgead.components.options import Host, Port, Seconds
from edgead.errors import SettingsError
from edgead.process.installation import install_command
from edgead.sinks.contract import BaseSink, SinkError
from edgead.sinks.options import SinkOptions, read_host
from edgead.sinks.registry import register
from edgead.types import DECISIONS, FAULT, Frame, Verdict

# What an answer must bear to be one to the request.
_FUNCTIONS = {"read_coils": 1, "write_coils": 15, "write_registers": 16}

# It logs each failed attempt by itself; the sink's problem says it once.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)


class ModbusOptions(SinkOptions):
    """Verdicts to a PLC over Modbus/TCP: coils and holding registers from the addresses that are given."""

    kind: Literal["modbus"]
    host: Annotated[Host, Field(description="Name or address of the PLC.")]
    port: Annotated[Port, Field(description="Of the PLC.")] = 502
    unit: Annotated[int, Field(ge=0, le=255, description="Modbus unit, also called slave address.")] = 1
    coil: Annotated[int, Field(ge=0, le=65532, description="ok, review, reject, and one that toggles.")] = 0
    register_: Annotated[
        int, Field(ge=0, le=65529, alias="register", description="Count (2), score (2), decision, kind.")
    ] = 0
    kinds: Annotated[
        tuple[str, ...],
        Field(max_length=65_534, description="Kinds of defects in the order of the PLC's numbers; adds a register."),
    ] = ()
    timeout_s: Annotated[Seconds, Field(description="Of one request.")] = 1.0
    queued: ClassVar[bool] = True

    @property
    def most_waiting(self) -> int:
        return 1  # an old verdict would eject the wrong part


def to_registers(count: int, score: float, decision: str) -> list[int]:
    """Five registers, high words first: count (uint32), score (float32), decision (0 ok to 2 reject, 3 fault)."""
    data = struct.pack(">IfH", count & 0xFFFFFFFF, _float32(score), (*DECISIONS, FAULT).index(decision))
    return list(struct.unpack(">5H", data))


OTHER_KIND = 65_535
"""The number of a kind that `kinds` does not list, and of an unknown one."""


def kind_number(kind: str | None, kinds: tuple[str, ...]) -> int:
    """The number of a kind for a PLC: its place in `kinds` from 1 on, 0 for none, `OTHER_KIND` for every other."""
    if kind is None:
        return 0
    return kinds.index(kind) + 1 if kind in kinds else OTHER_KIND


def _float32(value: float) -> float:
    # struct refuses what float32 cannot hold; a PLC learns that it is beyond all thresholds.
    largest = 3.4028234663852886e38
    return max(-largest, min(largest, value))


class ModbusSink(BaseSink):
    """Writes the registers of each verdict, then its coils: ok, review, reject and one that toggles.

    At a part of which a view is missing the first three are all off.

    The four coils go in one request, and after the registers: a PLC that sees the toggle change reads a whole
    verdict. The count goes up with every verdict that was given, so that a PLC sees what it has missed. A verdict that
    cannot be written is not tried again: for a PLC only the part before it counts.
    """

    needs_image = False
    can_check = True

    def __init__(self, section: ModbusOptions):
        try:
            from pymodbus.client import ModbusTcpClient
            from pymodbus.exceptions import ModbusException
        except ModuleNotFoundError:
            raise SettingsError(f"Modbus needs `{install_command('daemon')}`") from None
        self._failure = ModbusException
        self.uri = f"modbus://{section.host}:{section.port}?unit={section.unit}"
        self._section = section
        self._count = 0
        self._toggle: bool | None = None
        self._client = ModbusTcpClient(section.host, port=section.port, timeout=section.timeout_s, retries=0)

    def skip(self, count: int) -> None:
        """Count verdicts that were given and will not be written."""
        self._count += count

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Write one verdict.

        Raises
        ------
        SinkError
            The PLC is away, refuses the addresses, or answers something else.
        """
        self._count += 1
        registers = to_registers(self._count, verdict.image_score, verdict.decision)
        if self._section.kinds:  # a PLC that was set up before there were kinds may have no such register
            registers.append(kind_number(verdict.kind, self._section.kinds))
        with self._connected():
            toggle = not self._last_toggle()
            coils = [verdict.decision == decision for decision in DECISIONS] + [toggle]
            self._ask(self._client.write_registers, self._section.register_, registers)
            self._ask(self._client.write_coils, self._section.coil, coils)
        self._toggle = toggle

    def check(self) -> None:
        """Read what the PLC has seen last, to know that it is there.

        Raises
        ------
        SinkError
            See `write`.
        """
        with self._connected():
            self._toggle = None
            self._last_toggle()

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Connect where there is no connection, and end one that has failed: half an answer may be left in it."""
        try:
            if not self._client.connected:
                if not self._client.connect():
                    raise SinkError(f"{self.uri}: no connection")
                self._toggle = None  # it may have started again, or have taken what it did not confirm
            yield
        except SinkError:
            raise
        except (self._failure, OSError) as error:
            self._client.close()
            raise SinkError(f"{self.uri}: cannot be written: {error}") from None
        except BaseException:
            self._client.close()
            raise

    def _last_toggle(self) -> bool:
        """What the PLC has seen last, also from the process before this one."""
        if self._toggle is None:
            bits = self._ask(self._client.read_coils, self._section.coil + 3).bits
            if not bits:
                raise self._failure("the answer to read_coils holds no coil")
            self._toggle = bool(bits[0])
        return self._toggle

    def _ask(self, request: Callable[..., Any], address: int, *values: Any) -> Any:
        answer = request(address, *values, device_id=self._section.unit)
        if answer.isError():
            raise SinkError(f"{self.uri}: {request.__name__} at {address} is refused: {answer}")
        if answer.function_code != _FUNCTIONS[request.__name__]:
            raise self._failure(f"{request.__name__} is answered by function {answer.function_code}")
        return answer

    def close(self) -> None:
        self._client.close()


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
