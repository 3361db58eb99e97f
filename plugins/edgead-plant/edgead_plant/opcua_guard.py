"""asyncua server with limits against clients that send or ask endlessly; imported only if asyncua is installed."""

from __future__ import annotations

from typing import Any

from asyncua import Server
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol

_MAX_CLIENTS = 100
_MAX_MESSAGE_BYTES = 4 * 2**20  # of a request: clients only read and subscribe, with small messages
_MAX_WAITING_BYTES = 8 * 2**20  # of answers that a client has not read yet, though it goes on asking


class GuardedProtocol(OPCUAProtocol):
    """Connection that is closed when its client would exhaust the memory.

    asyncua buffers a client's data until the message is complete, whatever length the header states, and buffers
    answers until the client reads them.
    """

    _buffer: bytes

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        transport = self.transport
        if transport is None:
            return
        if len(self._buffer) > self.limits.max_recv_buffer or transport.get_write_buffer_size() > _MAX_WAITING_BYTES:
            self._buffer = b""
            transport.abort()


class GuardedServer(Server):
    """Server whose connections are each a GuardedProtocol."""

    def __init__(self, **named: Any):
        self._bserver: BinaryServer | None = None
        super().__init__(**named)
        self.iserver.max_connections = _MAX_CLIENTS
        self.limits.max_message_size = _MAX_MESSAGE_BYTES
        self.limits.max_chunk_count = _MAX_MESSAGE_BYTES // self.limits.max_recv_buffer + 1

    @property
    def bserver(self) -> BinaryServer | None:
        return self._bserver

    @bserver.setter
    def bserver(self, server: BinaryServer | None) -> None:
        # asyncua sets this after it has created the binary server and before it starts it.
        if server is not None:
            made = server

            def protocol() -> OPCUAProtocol:
                return GuardedProtocol(
                    iserver=made.iserver,
                    policies=made._policies,
                    clients=made.clients,
                    closing_tasks=made.closing_tasks,
                    limits=made.limits,
                )

            server._make_protocol = protocol  # type: ignore[method-assign]
        self._bserver = server
