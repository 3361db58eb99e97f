"""A PLC on Modbus/TCP that answers as it should, or with garbage of a chosen kind."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

READ_COILS, WRITE_COILS, WRITE_REGISTERS = 1, 15, 16
_LONGEST_S = 3.0  # for kinds without an end


class Request:
    """A request as it was read: transaction, unit, function code and its data."""

    def __init__(self, raw: bytes):
        self.raw = raw
        self.transaction, _, _, self.unit, self.function = struct.unpack(">HHHBB", raw[:8])
        self.data = raw[8:]

    def answer(self, data: bytes, *, function: int | None = None, unit: int | None = None, transaction: int = 0):
        """A frame around an answer; what is not said is as it should be."""
        code = bytes([self.function if function is None else function])
        unit = self.unit if unit is None else unit
        return frame(self.transaction + transaction, unit, code + data)


def frame(transaction: int, unit: int, pdu: bytes, *, protocol: int = 0, length: int | None = None) -> bytes:
    length = len(pdu) + 1 if length is None else length
    return struct.pack(">HHHB", transaction & 0xFFFF, protocol, length, unit & 0xFF) + pdu


def right(request: Request) -> bytes:
    if request.function == READ_COILS:
        return request.answer(b"\x01\x00")
    return request.answer(request.data[:4])


def _dripped(request: Request) -> Iterator[bytes]:
    for byte in right(request)[:-1]:
        yield bytes([byte])
        time.sleep(0.15)


def _endless(_request: Request) -> Iterator[bytes]:
    end = time.monotonic() + _LONGEST_S
    while time.monotonic() < end:
        yield bytes(4096)


def _random(request: Request) -> bytes:
    return random.Random(request.transaction).randbytes(64)


# What it sends; None ends the connection, an empty answer is silence.
KINDS: dict[str, Callable[[Request], bytes | Iterator[bytes] | None]] = {
    "no_bits": lambda r: r.answer(b"\x00"),
    "function_alone": lambda r: r.answer(b""),
    "registers_for_coils": lambda r: r.answer(b"\x02\x00\x07", function=3),
    "discrete_inputs_for_coils": lambda r: r.answer(b"\x01\x01", function=2),
    "the_other_write": lambda r: (
        right(r) if r.function == READ_COILS else r.answer(r.data[:4], function=31 - r.function)
    ),
    "write_without_address": lambda r: right(r) if r.function == READ_COILS else r.answer(b""),
    "write_with_half_an_address": lambda r: right(r) if r.function == READ_COILS else r.answer(b"\x00"),
    "single_coil": lambda r: r.answer(r.data[:4], function=5),
    "unknown_function": lambda r: r.answer(b"\x00\x00", function=0x63),
    "function_zero": lambda r: r.answer(b"\x00", function=0),
    "exception_of_nothing": lambda r: r.answer(b"\x02", function=0x80),
    "illegal_address": lambda r: r.answer(b"\x02", function=r.function | 0x80),
    "exception_without_code": lambda r: r.answer(b"", function=r.function | 0x80),
    "exception_of_another": lambda r: r.answer(b"\xff", function=0xFF),
    "byte_count_lies": lambda r: r.answer(b"\xff"),
    "another_transaction": lambda r: r.answer(b"\x01\x00", transaction=77),
    "another_unit": lambda r: r.answer(b"\x01\x00", unit=r.unit + 1),
    "another_protocol": lambda r: frame(r.transaction, r.unit, b"\x01\x01\x00", protocol=9),
    "length_zero": lambda r: frame(r.transaction, r.unit, b"\x01\x01\x00", length=0),
    "length_huge": lambda r: frame(r.transaction, r.unit, b"\x01\x01\x00", length=0xFFFF),
    "echo": lambda r: r.raw,
    "http": lambda r: b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    "noise": _random,
    "silence": lambda r: b"",
    "hangs_up": lambda r: None,
    "half_and_silence": lambda r: right(r)[:6],
    "drip": _dripped,
    "endless_zeros": _endless,
    "twice": lambda r: right(r) * 2,
}


class HostilePlc:
    """Serves one client at a time, by `answer`; keeps the coils that were written rightly."""

    def __init__(self, answer: Callable[[Request], bytes | Iterator[bytes] | None]):
        self.answer = answer
        self.requests = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._listening, *self._clients):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._clients.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, struct.error), client:
            while len(head := client.recv(6, socket.MSG_WAITALL)) == 6:
                raw = head + client.recv(struct.unpack(">H", head[4:])[0], socket.MSG_WAITALL)
                self.requests += 1
                answer = self.answer(Request(raw))
                if answer is None:
                    return
                for part in [answer] if isinstance(answer, bytes) else answer:
                    client.sendall(part)
