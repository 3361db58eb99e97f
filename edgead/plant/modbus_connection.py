"""Connection to a PLC over Modbus/TCP (pymodbus), made when it is needed, and again after a failure."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import Field

from edgead.components.options import Host, Port, Seconds, Section
from edgead.errors import EdgeadError, SettingsError
from edgead.process.installation import install_command

# Function code that the answer to each request must have.
_FUNCTIONS = {"read_coils": 1, "read_holding_registers": 3, "write_coils": 15, "write_registers": 16}

# It logs each failed attempt by itself; the caller reports it once.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)


class PlcOptions(Section):
    """PLC that answers over Modbus/TCP."""

    host: Annotated[Host, Field(description="Name or address of the PLC.")]
    port: Annotated[Port, Field(description="Port of the PLC.")] = 502
    unit: Annotated[int, Field(ge=0, le=255, description="Modbus unit, also called slave address.")] = 1
    timeout_s: Annotated[Seconds, Field(description="Time limit of one request.")] = 1.0


class ModbusPlc:
    """Connection to a PLC, for one thread.

    `failed`: class of the errors raised if the PLC does not answer, refuses, or sends an answer of another form.
    `connections`: number of connections made so far; between two, the PLC may have restarted.
    Raises SettingsError: the package `pymodbus` is missing.
    """

    def __init__(self, options: PlcOptions, failed: type[EdgeadError]):
        try:
            from pymodbus.client import ModbusTcpClient
            from pymodbus.exceptions import ModbusException
        except ModuleNotFoundError:
            raise SettingsError(f"Modbus needs `{install_command('daemon')}`") from None
        self.uri = f"modbus://{options.host}:{options.port}?unit={options.unit}"
        self.connections = 0
        self.client = ModbusTcpClient(options.host, port=options.port, timeout=options.timeout_s, retries=0)
        self._unit = options.unit
        self._failed, self._failure = failed, ModbusException

    @property
    def is_connected(self) -> bool:
        return bool(self.client.connected)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connect if needed; close the connection if the block fails, as part of an answer may still be in it."""
        try:
            if not self.is_connected:
                if not self.client.connect():
                    raise self._failed(f"{self.uri}: no connection")
                self.connections += 1
            yield
        except self._failed:
            raise
        except (self._failure, OSError) as error:
            self.client.close()
            raise self._failed(f"{self.uri}: cannot be written or read: {error}") from None
        except BaseException:
            self.client.close()
            raise

    def ask(self, request: Callable[..., Any], address: int, *values: Any, **named: Any) -> Any:
        """Send a request of `client` inside `connected`; return its answer, and refuse an answer of another form."""
        answer = request(address, *values, device_id=self._unit, **named)
        if answer.isError():
            raise self._failed(f"{self.uri}: {request.__name__} at {address} is refused: {answer}")
        if answer.function_code != _FUNCTIONS[request.__name__]:
            raise self._failure(f"{request.__name__} is answered by function {answer.function_code}")
        return answer

    def read_coil(self, address: int) -> bool:
        """Read whether one coil is on; call it inside `with connected():`."""
        bits = self.ask(self.client.read_coils, address).bits
        if not bits:
            raise self._failure("the answer to read_coils holds no coil")
        return bool(bits[0])

    def read(self, address: int, count: int) -> tuple[int, ...]:
        """Read holding registers, inside `connected`."""
        registers = self.ask(self.client.read_holding_registers, address, count=count).registers
        if len(registers) != count:
            raise self._failure(f"{count} registers were asked for, {len(registers)} came")
        return tuple(registers)

    def write(self, address: int, registers: tuple[int, ...]) -> None:
        """Write holding registers in one request, inside `connected`."""
        self.ask(self.client.write_registers, address, list(registers))

    def close(self) -> None:
        self.client.close()


def float32(value: float) -> float:
    """Clip a value to the range of float32, so that the PLC gets a finite number on the same side of thresholds."""
    largest = 3.4028234663852886e38
    return max(-largest, min(largest, value))


def float32_registers(value: float) -> tuple[int, int]:
    """Convert a value to the two registers of a float32, the high word first."""
    high, low = struct.unpack(">2H", struct.pack(">f", float32(value)))
    return high, low


def float32_of(high: int, low: int) -> float:
    """Convert the two registers of a float32, the high word first, to its value."""
    value: float = struct.unpack(">f", struct.pack(">2H", high, low))[0]
    return value
