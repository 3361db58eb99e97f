"""Downloads of a follower: in a thread of low priority, and no faster than it may."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edgead.artifact.oci.pull import pull
from edgead.artifact.oci.reference import Reference
from edgead.artifact.oci.registry import Registry
from edgead.artifact.oci.tokens import RegistryError
from edgead.site.model_following import FollowSection

logger = logging.getLogger(__name__)

_NICE = 10


class Pace:
    """Waits after each block for as long as the rate demands; ends a transfer that nobody waits for any more."""

    def __init__(self, most_bytes_s: float | None, stop: threading.Event, clock: Callable[[], float] = time.monotonic):
        self._rate, self._stop, self._clock = most_bytes_s, stop, clock
        self._begin_s, self._bytes = clock(), 0

    def __call__(self, count: int) -> None:
        self._bytes += count
        ahead_s = self._begin_s + self._bytes / self._rate - self._clock() if self._rate else 0.0
        if self._stop.wait(ahead_s) if ahead_s > 0 else self._stop.is_set():
            raise RegistryError("the transfer was stopped")


class RegistryTag:
    """The tag of a section; `close` ends what is under way.

    Parameters
    ----------
    section : FollowSection
    """

    def __init__(self, section: FollowSection):
        self._reference = Reference.read(section.source)
        self._rate = section.most_kib_s and section.most_kib_s * 1024.0
        self._stop = threading.Event()

    def close(self) -> None:
        self._stop.set()

    def digest(self) -> str:
        """Ask where the tag leads; raises RegistryError."""
        with Registry(self._reference) as registry:
            return registry.digest()

    def pull(self, digest: str, destination: Path, reuse: list[Path]) -> None:
        """Bring the model of a digest; raises as `edgead.artifact.oci.pull.pull`."""
        failed: list[Exception] = []

        def fetch() -> None:
            # Of this thread alone, which is gone afterwards: those of a network inherit it from who loads the model.
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
            try:
                pace = Pace(self._rate, self._stop)
                pulled = pull(self._reference.at(digest), destination, reuse=reuse, pace=pace)
                text = f"{self._reference}: {pulled.fetched_bytes} of {pulled.bytes} bytes came"
                logger.info(text, extra={"digest": digest, "fetched_bytes": pulled.fetched_bytes})
            except Exception as error:  # noqa: BLE001  raised again where it is waited for
                failed.append(error)

        thread = threading.Thread(target=fetch, name="model pull", daemon=True)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
