"""Server-sent events of verdicts and notices: one thread reads them, and each listener has a queue."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable

from edgead.line.web.answers import VerdictAnswer
from edgead.line.web.routes.notices import NoticeAnswer
from edgead.process.restarting_thread import RestartingThread
from edgead.serialization import verdict_record
from edgead.serialization.notice import News, Notice

_MAX_LISTENERS = 32
_MAX_WAITING = 200
_LOOK_EVERY_S = 0.25
_JOIN_S = 2.0


class TooManyListeners(Exception):
    """Refused listener: the allowed number of listeners is reached."""


class VerdictEvents:
    """Server-sent events: `verdict` and `notice` with records, `dropped` with the count that a slow listener missed."""

    def __init__(self, subscribe: Callable[[], queue.Queue[News]], *, heartbeat_s: float = 5.0):
        self._subscribe, self._heartbeat_s = subscribe, heartbeat_s
        self._listeners: set[_Listener] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: RestartingThread | None = None

    def close(self) -> None:
        """End every listener's stream; may be called more than once."""
        self._closed.set()
        with self._lock:
            thread = self._thread
            for listener in self._listeners:
                listener.end()
        if thread:
            thread.join(_JOIN_S)

    def listen(self) -> AsyncGenerator[str, None]:
        """Start a stream of events; called on the event loop.

        Raises
        ------
        TooManyListeners
        """
        listener = _Listener(asyncio.get_running_loop())
        with self._lock:
            if len(self._listeners) >= _MAX_LISTENERS:
                raise TooManyListeners(f"{_MAX_LISTENERS} listen already")
            self._listeners.add(listener)
            if self._thread is None:
                self._thread = RestartingThread("verdict events", self._pump)
                self._thread.start()
        return self._events(listener)

    async def _events(self, listener: _Listener) -> AsyncGenerator[str, None]:
        try:
            yield "retry: 2000\n\n"
            while not self._closed.is_set():
                dropped, events = await listener.take(self._heartbeat_s)
                if dropped:
                    yield f'event: dropped\ndata: {{"dropped": {dropped}}}\n\n'
                # A comment shows a proxy and the browser that the connection lives.
                yield "".join(events) or ": no verdict\n\n"
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def _pump(self) -> None:
        """Pass verdicts and notices on to the listeners, as long as somebody listens."""
        news = self._subscribe()
        while listeners := self._listening():
            try:
                event = _written(news.get(timeout=_LOOK_EVERY_S))
            except queue.Empty:
                continue
            for listener in listeners:
                listener.offer(event)

    def _listening(self) -> tuple[_Listener, ...]:
        with self._lock:
            listeners = () if self._closed.is_set() else tuple(self._listeners)
            if not listeners:
                self._thread = None
            return listeners


def _written(news: News) -> str:
    if isinstance(news, Notice):
        return f"event: notice\ndata: {NoticeAnswer.model_validate(news).model_dump_json()}\n\n"
    frame, verdict = news
    answer = VerdictAnswer.model_validate(verdict_record(frame, verdict))
    return f"id: {frame.id}\nevent: verdict\ndata: {answer.model_dump_json()}\n\n"


class _Listener:
    """Bounded queue between the feed's thread and one connection on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._lock = threading.Lock()
        self._news = asyncio.Event()

    def offer(self, event: str) -> None:
        with self._lock:
            self._waiting.append(event)
            if len(self._waiting) > _MAX_WAITING:
                self._waiting.popleft()
                self._dropped += 1
        self._wake()

    def end(self) -> None:
        self._wake()

    async def take(self, timeout_s: float) -> tuple[int, list[str]]:
        """Wait for events; return the number of dropped ones and the events; 0 and no events after the timeout."""
        try:
            await asyncio.wait_for(self._news.wait(), timeout_s)
        except asyncio.TimeoutError:
            pass
        self._news.clear()
        with self._lock:
            dropped, events = self._dropped, list(self._waiting)
            self._dropped = 0
            self._waiting.clear()
        return dropped, events

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:
            pass  # the loop has ended, and the connection with it
