"""Deadlines and limits of connections, since uvicorn keeps connections without a request for ever."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgead.line.web.auth.rate_limit import network_of

# Together with those that the event loop accepts in one go, far below 1024 open files, most systems' limit.
MAX_CONNECTIONS = 128
# Longest time from the connection, or the last answer, to the end of a request's header.
HEADER_S = 5.0
# Longest time from there to the end of its body, which is small.
BODY_S = 10.0
# Time to read a body that the answer did not need: the answer must arrive before the connection is closed.
LINGER_S = 1.0
UNREAD_BYTES = 256 * 1024
# Longest wait of an answer for a client that does not read.
STALL_S = 30.0


class BoundedConnection(H11Protocol):
    """Connection that ends if the client does nothing for too long, or its address has most of too many connections.

    Attributes
    ----------
    network : str
        Address or network of the client.
    waits_since_s : float or None
        Monotonic time since when the server waits for the client; None while the client waits for the answer.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.waits_since_s: float | None = time.monotonic()
        self.network = network_of(self.client[0]) if self.client else ""
        self._phase: tuple[Any, ...] | None = None
        self._unread_bytes = UNREAD_BYTES
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._follow_phase()
        if len(self.connections) > MAX_CONNECTIONS:
            _least_entitled(self.connections).give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        self._cancel_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._answered and self.conn.their_state is h11.SEND_BODY:
            self._unread_bytes -= len(data)
            if self._unread_bytes < 0:
                self.flow.pause_reading()  # an endless body is of no use, and costs time
                return
        super().data_received(data)

    def handle_events(self) -> None:
        super().handle_events()
        self._follow_phase()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._follow_phase()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.waits_since_s = self.waits_since_s or time.monotonic()
        self._cancel_stall()
        self._stall = self.loop.call_later(STALL_S, self.give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_stall()
        self._phase = None
        self._follow_phase()

    def give_up(self) -> None:
        """Close the connection at once, without sending the rest."""
        self.connections.discard(self)  # connections made in the same turn of the loop count already
        self.transport.abort()

    def _follow_phase(self) -> None:
        """Set the deadline when a new phase of the request begins; slow bytes within a phase do not extend it."""
        phase = (self.conn.their_state, self.cycle, self._answered)
        if phase == self._phase:
            return
        self._phase = phase
        self._cancel_deadline()
        seconds = self._seconds()
        self.waits_since_s = None if seconds is None else time.monotonic()
        if seconds is not None:
            self._deadline = self.loop.call_later(seconds, self.give_up)

    @property
    def _answered(self) -> bool:
        return self.cycle is not None and self.cycle.response_complete

    def _seconds(self) -> float | None:
        """Return the seconds that this phase may last; None while the client waits for the answer."""
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            return LINGER_S if self._answered else BODY_S
        # When the connection closes after an answer, its client may still not read it.
        return HEADER_S if state is h11.IDLE or self._answered else None

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cancel_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


def _least_entitled(connections: Iterable[Any]) -> Any:
    """Choose the connection to end: one that waits for its client, the longest waiting of the busiest address."""
    waiting = [one for one in connections if one.waits_since_s is not None]
    if not waiting:
        return next(iter(connections))
    shares = Counter([one.network for one in connections])
    most = max(shares[one.network] for one in waiting)
    return min((one for one in waiting if shares[one.network] == most), key=lambda one: one.waits_since_s)
