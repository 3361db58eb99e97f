"""pylogix's client with a limit for each request as a whole; imported only where its package is there."""

from __future__ import annotations

import struct
import time

from pylogix import PLC
from pylogix.lgx_comm import Connection

_HEADER = 24  # of an encapsulated message; its first fields are command, length, session and status
_REGISTER, _UNCONNECTED, _CONNECTED = 0x65, 0x6F, 0x70
_REPLY = 0x80  # is set in the service of an answer
_SEQUENCE = 44  # where a connected message has its number, and after it the service


class LimitedConnection(Connection):
    """Takes whole answers to its own requests, until a moment.

    pylogix reads on without end where a PLC ends the connection in the middle of an answer, takes any answer for that
    to its request, and its limit begins again with each byte that comes.
    """

    def __init__(self, parent: PLC):
        super().__init__(parent)
        self.Socket.close()  # it makes one that it never uses
        self.msg_socket.close()
        self._ends_s = 0.0

    def limit(self, within_s: float) -> None:
        """Give all requests from now on so much time together."""
        self._ends_s = time.monotonic() + within_s

    def receive_data(self) -> bytes | None:
        """Receive one message; None where none came in time, or what came is none."""
        try:
            header = self._receive(_HEADER)
            command, length, _, status = struct.unpack_from("<HHII", header)
            if status != 0 or command not in (_REGISTER, _UNCONNECTED, _CONNECTED):
                return None
            return header + self._receive(length)
        except OSError:
            return None

    def _get_bytes(self, data: bytes, connected: bool) -> tuple[int, bytes | None]:
        answer: tuple[int, bytes | None] = super()._get_bytes(data, connected)
        received = answer[1]
        if received is not None and connected and not _answers(data, received):
            raise ConnectionError("the answer is none to the request")
        return answer

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            left_s = self._ends_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self.Socket.settimeout(left_s)
            received = self.Socket.recv(size - len(data))
            if not received:
                raise ConnectionError
            data += received
        return bytes(data)


def open_client(host: str, port: int, slot: int, timeout_s: float, micro800: bool) -> PLC:
    """Make a client that is not connected yet; `conn.limit` has to be called before each use."""
    client = PLC(host, slot, timeout_s, micro800, port)
    client.conn.Socket.close()
    client.conn.msg_socket.close()
    client.conn = LimitedConnection(client)
    return client


def _answers(request: bytes, answer: bytes) -> bool:
    number, service = struct.unpack_from("<HB", request, _SEQUENCE)
    return bool(struct.unpack_from("<HB", answer, _SEQUENCE) == (number, service | _REPLY))
