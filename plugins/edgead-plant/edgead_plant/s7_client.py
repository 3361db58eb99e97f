"""snap7 client with a time limit for each whole request; imported only if python-snap7 is installed."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from snap7.client import Client
from snap7.connection import ISOTCPConnection
from snap7.error import S7ConnectionError, S7Error, S7ProtocolError, S7TimeoutError

# Bytes in one request that every CPU accepts; with fewer, a block would be sent in pieces.
_MIN_PDU = 240


class S7Connection(ISOTCPConnection):
    """Connection that waits for an answer up to a deadline; snap7's own limit restarts with each byte received."""

    ends_s = 0.0

    def _recv_exact(self, size: int) -> bytes:
        if self.socket is None:
            raise S7ConnectionError("not connected")
        data = bytearray()
        try:
            while len(data) < size:
                left_s = self.ends_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                self.socket.settimeout(left_s)
                received = self.socket.recv(size - len(data))
                if not received:
                    raise S7ConnectionError("the PLC has ended the connection")
                data += received
        except TimeoutError:
            self.connected = False
            raise S7TimeoutError("no answer in time") from None
        except (OSError, S7Error):
            self.connected = False
            raise
        return bytes(data)


class LimitedClient(Client):
    """Client whose requests are made within `limited`; connecting and negotiating have the same time limit."""

    pdu_length: int

    def __init__(self, timeout_s: float):
        super().__init__()
        self._timeout_s = timeout_s
        self._asked_pdu_length = self.pdu_length

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Limit the enclosed requests together to `timeout_s`, and raise S7Error for every unreadable answer."""
        if isinstance(self.connection, S7Connection):
            self.connection.ends_s = time.monotonic() + self._timeout_s
        try:
            yield
        except (struct.error, LookupError, ValueError, TypeError) as error:
            raise S7ProtocolError(f"the answer cannot be read: {error}") from None

    def connect(self, address: str, rack: int, slot: int, tcp_port: int = 102) -> LimitedClient:
        tsap = self.connection_type << 8 | rack << 5 | slot
        self.connection = S7Connection(address, tcp_port, self.local_tsap, tsap)
        self.pdu_length = self._asked_pdu_length  # reset, or the last PLC's smaller size would be asked for
        with self.limited():
            self.connection.connect(self._timeout_s)
            self._setup_communication()
        if self.pdu_length < _MIN_PDU:
            raise S7ProtocolError(f"it takes {self.pdu_length} bytes in one request, {_MIN_PDU} are the least")
        self.connected = True
        return self
