"""asyncua's server with limits for clients that send or ask without end; imported only where its package is there."""

from __future__ import annotations

from typing import Any

from asyncua import Server
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol

_MAX_CLIENTS = 100
_MAX_MESSAGE_BYTES = 4 * 2**20  # clients read and subscribe: what they send is small
_MAX_WAITING_BYTES = 8 * 2**20  # answers that a client has not taken, while it asks on


class GuardedProtocol(OPCUAProtocol):
    """Ends the connection of a client that would take our memory.

    asyncua keeps what a client sends until a message is whole, however long its header says that it is, and what it is
    answered until it takes that.
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
    """Makes a GuardedProtocol of each connection."""

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
        # Where asyncua has made it and not started it yet.
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
