"""pymodbus's real server in a thread, as the PLC, and what a PLC's program does with its registers."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest
from patience import MAX_S

UNIT = 7


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class ModbusServer:
    """Coils and holding registers from an address on; `written` has the names of the requests that wrote."""

    def __init__(self, port: int | None = None, *, coil: int = 0, register: int = 0, registers: int = 400):
        pytest.importorskip("pymodbus", reason="MODBUS NOT TESTED: pip install 'edgead[daemon]'")
        self.port = port or free_port()
        self.written: list[str] = []
        self._blocks = (coil, register, registers)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(MAX_S)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop).result(MAX_S)
        self._thread.join(MAX_S)

    def client(self):
        from pymodbus.client import ModbusTcpClient

        return ModbusTcpClient("127.0.0.1", port=self.port, timeout=MAX_S)

    def read(self, address: int, count: int) -> list[int]:
        with self.client() as client:
            return client.read_holding_registers(address, count=count, device_id=UNIT).registers

    def write(self, address: int, values: list[int]) -> None:
        with self.client() as client:
            assert not client.write_registers(address, values, device_id=UNIT).isError()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        coil, register, registers = self._blocks
        held = SimData(coil, values=[False] * 16, datatype=DataType.BITS)
        words = SimData(register, values=[0] * registers, datatype=DataType.REGISTERS)
        inputs = SimData(0, values=[False] * 16, datatype=DataType.BITS)
        read_only = SimData(0, values=[0], datatype=DataType.REGISTERS)
        device = SimDevice(UNIT, ([held], [inputs], [words], [read_only]))
        self._server = ModbusTcpServer(device, address=("127.0.0.1", self.port), trace_pdu=self._note)
        await self._server.serve_forever(background=True)
        self._ready.set()
        await self._server.serving

    def _note(self, sending, pdu):
        if not sending and type(pdu).__name__.startswith("Write"):
            self.written.append(type(pdu).__name__)
        return pdu
