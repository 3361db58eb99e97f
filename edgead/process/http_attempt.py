"""Deadline for a whole HTTP request: httpx limits only each read, so slow bytes could last for ever."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Attempts:
    """Deadline for the requests of one client, which shuts its socket down when time is up.

    The client must have at most one connection, and pass `trace` to each request (`extensions={"trace": ...}`).
    """

    def __init__(self) -> None:
        self.overdue = False
        self._socket: socket.socket | None = None
        self._current: object = None
        self._lock = threading.Lock()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Make the request in the block fail after this time; `overdue` is then True."""
        with self._lock:
            self.overdue, self._current = False, object()
        timer = threading.Timer(seconds, self._end, [self._current])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._current = None  # for a timer that has just gone off

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Remember the socket of each connection that httpcore makes, so that it can be shut down at any time."""
        # Connecting and TLS's handshake have deadlines of their own, each for the whole of it.
        if event.partition(".")[2] in ("connect_tcp.complete", "start_tls.complete"):
            self._hold(info["return_value"].get_extra_info("socket"))

    def _hold(self, connected: socket.socket) -> None:
        with self._lock:
            self._socket = connected
            if self.overdue:
                _shut_down(connected)

    def _end(self, attempt: object) -> None:
        with self._lock:
            if attempt is not self._current:
                return
            self.overdue = True
            if self._socket is not None:
                _shut_down(self._socket)


def _shut_down(one: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        # Not SSLSocket's own, which takes TLS away under the thread that reads.
        socket.socket.shutdown(one, socket.SHUT_RDWR)
