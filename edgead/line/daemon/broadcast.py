"""Broadcast of verdicts, notices and frames to all subscribers; a slow subscriber misses the oldest."""

from __future__ import annotations

import queue
import threading
import weakref
from typing import Generic, TypeVar

from edgead.serialization.notice import News
from edgead.types import Frame, Verdict

T = TypeVar("T")

WantedFrame = tuple[str, Frame]
"""Name of a camera, and a frame of it that the trigger of a pipeline chooses."""


class FeedQueue(queue.Queue[T]):
    """Bounded queue of a feed's items; if it is full, the oldest is dropped and counted in `dropped`."""

    def __init__(self, most: int):
        super().__init__(maxsize=most)
        self.dropped = 0

    def offer(self, item: T) -> None:
        with self.mutex:
            if self._qsize() >= self.maxsize:
                self._get()
                self.dropped += 1
            self._put(item)
            self.not_empty.notify()


class Feed(Generic[T]):
    """Broadcast of every item to all subscriptions, which are held by weak references."""

    def __init__(self, *, most: int = 32):
        self._most = most
        self._subscriptions: weakref.WeakSet[FeedQueue[T]] = weakref.WeakSet()
        self._lock = threading.Lock()

    def subscribe(self) -> FeedQueue[T]:
        """Make a subscription; it ends when it is garbage-collected, or with `unsubscribe`."""
        subscription: FeedQueue[T] = FeedQueue(self._most)
        with self._lock:
            self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: FeedQueue[T]) -> None:
        with self._lock:
            self._subscriptions.discard(subscription)

    def offer(self, item: T) -> None:
        """Offer an item to all subscriptions, without waiting for any."""
        with self._lock:
            watching = tuple(self._subscriptions)
        for subscription in watching:
            subscription.offer(item)


class VerdictFeed(Feed[News]):
    """Broadcast of every verdict, with its frame, and of every notice."""

    def publish(self, frame: Frame, verdict: Verdict) -> None:
        self.offer((frame, verdict))
