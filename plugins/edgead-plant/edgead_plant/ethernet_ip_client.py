"""pylogix client with a time limit for each whole request; imported only if pylogix is installed."""

from __future__ import annotations

import struct
import time

from pylogix import PLC
from pylogix.lgx_comm import Connection

_HEADER = 24  # bytes, of an encapsulated message; its first fields are command, length, session and status
_REGISTER, _UNCONNECTED, _CONNECTED = 0x65, 0x6F, 0x70
_REPLY = 0x80  # bit that an answer sets in the service code
_SEQUENCE = 44  # offset of a connected message's sequence number, which the service code follows


class LogixConnection(Connection):
    """Connection that accepts only whole answers to its own requests, up to a deadline.

    pylogix itself reads for ever if a PLC closes the connection within an answer, takes any answer for the answer to
    its request, and restarts its time limit with each byte received.
    """

    def __init__(self, parent: PLC):
        super().__init__(parent)
        self.Socket.close()  # pylogix creates this socket and never uses it
        self.msg_socket.close()
        self._ends_s = 0.0

    def limit(self, within_s: float) -> None:
        """Set the deadline of all later requests together to `within_s` seconds from now."""
        self._ends_s = time.monotonic() + within_s

    def receive_data(self) -> bytes | None:
        """Receive one message; return None if none came in time or the data received is no message."""
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
    """Create a client that is not connected yet; call `conn.limit` before each use."""
    client = PLC(host, slot, timeout_s, micro800, port)
    client.conn.Socket.close()
    client.conn.msg_socket.close()
    client.conn = LogixConnection(client)
    return client


def _answers(request: bytes, answer: bytes) -> bool:
    number, service = struct.unpack_from("<HB", request, _SEQUENCE)
    return bool(struct.unpack_from("<HB", answer, _SEQUENCE) == (number, service | _REPLY))
