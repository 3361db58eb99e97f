"""snap7's client with a limit for each request as a whole; imported only where its package is there."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from snap7.client import Client
from snap7.connection import ISOTCPConnection
from snap7.error import S7ConnectionError, S7Error, S7ProtocolError, S7TimeoutError

# What every CPU takes; with less a block would go in pieces.
_MIN_PDU = 240


class LimitedConnection(ISOTCPConnection):
    """Waits for an answer until a moment: snap7's own limit begins again with each byte that comes."""

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
    """Asks within `limited`; connecting has the same limit, with all that is agreed on then.

    Parameters
    ----------
    timeout_s : float
    """

    pdu_length: int

    def __init__(self, timeout_s: float):
        super().__init__()
        self._timeout_s = timeout_s
        self._asked_pdu_length = self.pdu_length

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Give the requests within this the time that one has, and raise S7Error alone of their answers."""
        if isinstance(self.connection, LimitedConnection):
            self.connection.ends_s = time.monotonic() + self._timeout_s
        try:
            yield
        except (struct.error, LookupError, ValueError, TypeError) as error:
            raise S7ProtocolError(f"the answer cannot be read: {error}") from None

    def connect(self, address: str, rack: int, slot: int, tcp_port: int = 102) -> LimitedClient:
        tsap = self.connection_type << 8 | rack << 5 | slot
        self.connection = LimitedConnection(address, tcp_port, self.local_tsap, tsap)
        self.pdu_length = self._asked_pdu_length  # else what one PLC took is all that the next one is asked for
        with self.limited():
            self.connection.connect(self._timeout_s)
            self._setup_communication()
        if self.pdu_length < _MIN_PDU:
            raise S7ProtocolError(f"it takes {self.pdu_length} bytes in one request, {_MIN_PDU} are the least")
        self.connected = True
        return self
