"""Reports and files of many verdicts: one at a time, and at a pace that leaves the cores to the inspection."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

# Of one core, on average.
_SHARE = 0.2


class OneAtATime:
    """Hands out reports, which read much of the database; who comes meanwhile is refused, and holds no thread."""

    def __init__(self) -> None:
        self._free = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep all others out."""
        self._take()
        try:
            yield
        finally:
            self._free.release()

    def hand_out(self, begin: Callable[[], Iterator[bytes]], media_type: str, name: str) -> StreamingResponse:
        """Send a file that is made while it is sent; the turn ends with the file, or when its reader leaves."""
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
            self._ended()  # also where not one piece was asked for


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
        await asyncio.sleep(worked_s * (1 / _SHARE - 1))
