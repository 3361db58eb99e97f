"""Broadcast of verdicts and notices to all subscribers; a slow subscriber misses the oldest."""

from __future__ import annotations

import queue
import threading
import weakref

from edgead.serialization.notice import News, Notice
from edgead.types import Frame, Verdict


class NewsQueue(queue.Queue[News]):
    """Bounded queue of (frame, verdict) and notices; if it is full, the oldest is dropped and counted in `dropped`."""

    def __init__(self, most: int):
        super().__init__(maxsize=most)
        self.dropped = 0

    def offer(self, news: News) -> None:
        with self.mutex:
            if self._qsize() >= self.maxsize:
                self._get()
                self.dropped += 1
            self._put(news)
            self.not_empty.notify()


class VerdictFeed:
    """Broadcast of every verdict and notice to all subscriptions, which are held by weak references."""

    def __init__(self, *, most: int = 32):
        self._most = most
        self._subscriptions: weakref.WeakSet[NewsQueue] = weakref.WeakSet()
        self._lock = threading.Lock()

    def subscribe(self) -> NewsQueue:
        """Make a subscription; it ends when it is garbage-collected, or with `unsubscribe`."""
        subscription = NewsQueue(self._most)
        with self._lock:
            self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: NewsQueue) -> None:
        with self._lock:
            self._subscriptions.discard(subscription)

    def publish(self, frame: Frame, verdict: Verdict) -> None:
        """Offer a verdict to all subscriptions, without waiting for any."""
        self._offer((frame, verdict))

    def publish_notice(self, notice: Notice) -> None:
        """Offer a notice to all subscriptions, without waiting for any."""
        self._offer(notice)

    def _offer(self, news: News) -> None:
        with self._lock:
            watching = tuple(self._subscriptions)
        for subscription in watching:
            subscription.offer(news)
