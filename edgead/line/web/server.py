"""Web server in its own thread."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from typing import Any, cast

import uvicorn
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from edgead.line.site.address import BACKLOG, listen
from edgead.line.site.schema import HttpSection
from edgead.line.web.auth.callers import PEER
from edgead.line.web.connections import BoundedConnection
from edgead.line.web.load_limits import paced_loop
from edgead.process.log_rate import LogRate

# Connections accepted in one go by the event loop: the limit of connections is checked after that.
_MAX_ACCEPT = 64
# Longest wait for tasks that are cancelled at the end; a task that waits for a thread is not reached.
_LEAVE_S = 1.0
# Requests that need a thread: more would not be faster, and would take the cores from the inspection.
_THREADS = 8
# Records within a minute of messages that strangers can cause at will.
_MAX_RECORDS = 10


class Server:
    """Web server of an application, until it is closed.

    Attributes
    ----------
    port : int
        Port that it listens on, also if the section asked for a free one.
    """

    def __init__(self, app: FastAPI, section: HttpSection, listening: socket.socket | None = None):
        self._app = app
        self._socket = listening or listen(section)
        self.host, self.port = section.host, self._socket.getsockname()[1]
        config = uvicorn.Config(
            _believing(app, section),
            log_config=None,  # the daemon's logging is set up already
            access_log=False,
            server_header=False,
            proxy_headers=False,  # see _believing
            http=BoundedConnection,
            ws="none",
            backlog=_MAX_ACCEPT,
            timeout_graceful_shutdown=1,
        )
        self._server = _Listener(config)
        self._rates = {name: LogRate(_MAX_RECORDS, 60.0) for name in ("uvicorn.error", "asyncio")}
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the server's thread is alive."""
        return self._thread.is_alive()

    def start(self) -> None:
        for name, rate in self._rates.items():
            logging.getLogger(name).addFilter(rate)
        self._thread.start()

    def close(self) -> None:
        """Finish current answers, for a second at most; may be called more than once."""
        self._app.state.events.close()  # its streams do not end by themselves
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        for name, rate in self._rates.items():
            logging.getLogger(name).removeFilter(rate)

    def _serve(self) -> None:
        loop = paced_loop()
        try:
            loop.run_until_complete(self._server.serve(sockets=[self._socket]))
        finally:
            loop.run_until_complete(self._server.leave())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


class _Listener(uvicorn.Server):
    async def leave(self) -> None:
        """Abort the open connections: all if serving has failed, otherwise those that have not ended in time."""
        for server in getattr(self, "servers", ()):  # none if it failed before it listened
            server.close()
        await asyncio.sleep(0)  # a connection just accepted gets the transport that closes its socket
        for connection in self.server_state.connections.copy():
            connection.transport.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)  # aborted transports close their sockets
        if tasks:
            await asyncio.wait(tasks, timeout=_LEAVE_S)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        current_default_thread_limiter().total_tokens = _THREADS
        await super().startup(sockets)
        for one in sockets or ():
            one.listen(BACKLOG)  # asyncio accepts at most as many in one go as it asked the kernel to keep


def _believing(app: FastAPI, section: HttpSection) -> ASGIApp:
    """Trust a proxy's headers about the client if the site expects a proxy; keep the proxy's own address too."""
    if not (section.secure_cookie or section.proxy):
        return app
    networks = [str(network) for network in section.proxy.from_] if section.proxy else None
    believed = networks or os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")
    # Starlette and uvicorn name the same interface by types that do not fit.
    inner = cast(ASGIApp, ProxyHeadersMiddleware(cast(Any, app), believed))

    async def keeping_peer(scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        scope[PEER] = client[0] if client else ""
        await inner(scope, receive, send)

    return keeping_peer


def serve(app: FastAPI, section: HttpSection, listening: socket.socket | None = None) -> Server:
    """Serve an application on the address of a section, or on a socket from `listen`.

    Raises
    ------
    SettingsError
        The address is taken, or does not belong to this computer.
    """
    server = Server(app, section, listening)
    server.start()
    return server
