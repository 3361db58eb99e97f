"""Limits of the page's load: number of requests at a time, share of a core, and one download at a time.

The inspection needs the cores, and Python's lock, which all clients use too.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgead.line.web.middleware import MAX_IMAGE_BYTES, OPEN_FOLDER, OPEN_PATHS
from edgead.line.web.problems import problem

# Callers who sign in are not known yet: they may wait for each other, and for nobody else.
_SIGN_IN = "/api/login"
_MAX_REQUESTS = {_SIGN_IN: 8, "": 64}
# Bytes of bodies that are arriving: four of the largest.
_MAX_ARRIVING = 4 * MAX_IMAGE_BYTES
_TOO_MUCH = HTTPException(503)
# Share of one core, on average. An open page takes about a hundredth.
_CPU_SHARE = 0.1
# Seconds that may be used at once after a rest: loading the page takes a tenth of it.
_BURST_S = 0.3
# Longest rest between two looks at the connections: probes must not wait longer.
_REST_S = 0.5
# Share of one core, on average.
_DOWNLOAD_SHARE = 0.2


@dataclass(eq=False, slots=True)
class _Body:
    """Body of a request as far as it has arrived, and the reason to refuse the rest."""

    messages: list[Message] = field(default_factory=list)
    size: int = 0
    problem: HTTPException | None = None


class ConcurrencyLimit:
    """Middleware that answers 503 when too many requests, or too large bodies, are under way.

    Paths that need no sign-in are always answered: probes, since a monitor would restart a busy device, and the page's
    files, since anybody may request them and could fill the limit. Only the number of connections limits these.

    Other requests count once their bodies are complete, so a slow sender does not count. If arriving bodies take too
    much memory, the body that began first is refused.
    """

    def __init__(self, app: ASGIApp):
        self._app = app
        self._under_way: Counter[str] = Counter()
        self._arriving: list[_Body] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        lane = _SIGN_IN if path == _SIGN_IN else ""
        if scope["type"] != "http" or (not lane and (path in OPEN_PATHS or path.startswith(OPEN_FOLDER))):
            await self._app(scope, receive, send)
            return
        body = await self._whole(receive)
        if body.messages and body.messages[-1]["type"] == "http.disconnect":
            return  # nobody reads an answer
        if body.problem is _TOO_MUCH or self._under_way[lane] >= _MAX_REQUESTS[lane]:
            many = f"{_MAX_REQUESTS[lane]} requests are under way"
            what = "bodies of other requests arrive" if body.problem is _TOO_MUCH else many
            headers = {"Retry-After": "1", "Connection": "close"}
            await problem(503, f"{what}: try again", headers)(scope, receive, send)
            return
        self._under_way[lane] += 1
        try:
            await self._app(scope, _again(body, receive), send)
        finally:
            self._under_way[lane] -= 1

    async def _whole(self, receive: Receive) -> _Body:
        """Receive a whole body, or set its `problem` if it cannot be received."""
        body = _Body()
        self._arriving.append(body)
        try:
            while body.problem is None and (not body.messages or body.messages[-1].get("more_body", False)):
                message = await receive()
                body.messages.append(message)
                body.size += len(message.get("body", b""))
                while sum(one.size for one in self._arriving) > _MAX_ARRIVING:
                    longest = self._arriving.pop(0)
                    longest.problem = _TOO_MUCH
                    longest.messages.clear()
        except HTTPException as error:  # it is too long: the app answers that
            body.problem = error
        finally:
            if body in self._arriving:
                self._arriving.remove(body)
        return body


def _again(body: _Body, receive: Receive) -> Receive:
    """Make a `receive` function that returns the messages of a received body, and then later messages."""

    async def again() -> Message:
        if body.messages:
            return body.messages.pop(0)
        if body.problem is not None:
            raise body.problem
        return await receive()

    return again


class PacedSelector(selectors.DefaultSelector):
    """Selector that lets this thread's event loop sleep when it has used more than its share of a core."""

    def __init__(self) -> None:
        super().__init__()
        self._left_s = _BURST_S
        self._worked_s, self._at_s = time.thread_time(), time.monotonic()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        worked_s, at_s = time.thread_time(), time.monotonic()
        self._left_s = min(_BURST_S, self._left_s + (at_s - self._at_s) * _CPU_SHARE) - (worked_s - self._worked_s)
        self._worked_s, self._at_s = worked_s, at_s
        if self._left_s < 0:
            time.sleep(min(-self._left_s / _CPU_SHARE, _REST_S))
        return super().select(timeout)


def paced_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop, for the calling thread only, that keeps to its share of a core."""
    return asyncio.SelectorEventLoop(PacedSelector())


class OneAtATime:
    """Lock for reports, which read much of the database; meanwhile other callers get a 503 at once."""

    def __init__(self) -> None:
        self._free = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the lock during a block; raise HTTPException 503 if it is taken."""
        self._take()
        try:
            yield
        finally:
            self._free.release()

    def hand_out(self, begin: Callable[[], Iterator[bytes]], media_type: str, name: str) -> StreamingResponse:
        """Stream a file while it is made; the lock is released at its end, or when its reader leaves."""
        self._take()
        try:
            pieces = begin()
        except BaseException:
            self._free.release()
            raise
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return _Download(_paced(pieces), self._free.release, media_type=media_type, headers=headers)

    def _take(self) -> None:
        if not self._free.acquire(blocking=False):
            raise HTTPException(503, "another report is under way: try again", {"Retry-After": "2"})


class _Download(StreamingResponse):
    def __init__(self, pieces: AsyncIterator[bytes], ended: Callable[[], None], **settings: Any):
        super().__init__(pieces, **settings)
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()  # also if not one piece was requested


async def _paced(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    def make() -> tuple[bytes | None, float]:
        begun_s = time.thread_time()
        return next(pieces, None), time.thread_time() - begun_s

    while True:
        piece, worked_s = await run_in_threadpool(make)
        if piece is None:
            return
        if piece:
            yield piece
        await asyncio.sleep(worked_s * (1 / _DOWNLOAD_SHARE - 1))
