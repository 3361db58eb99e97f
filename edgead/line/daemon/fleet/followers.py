"""Followers of a site: one thread of low priority for each pipeline that has a tag.

Downloads keep to the configured rate.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.artifact.oci.client import RegistryError
from edgead.artifact.oci.pull import pull
from edgead.artifact.oci.reference import Reference
from edgead.artifact.oci.registry import Repository
from edgead.line.daemon.fleet.follower import Follower
from edgead.line.site.model_following import FollowSection
from edgead.line.site.status import FollowStatus
from edgead.process.restarting_thread import RestartingThread

if TYPE_CHECKING:
    from edgead.line.daemon.pipeline import Pipeline
    from edgead.line.evidence import EvidenceStore
    from edgead.line.site.schema import Site

logger = logging.getLogger(__name__)

_NICE = 10
# The step under way may be loading a model: nobody waits for that.
_LEAVE_S = 0.2


class TransferRate:
    """Rate limit of a transfer: waits after each block, and ends the transfer by RegistryError when `stop` is set."""

    def __init__(self, most_bytes_s: float | None, stop: threading.Event, clock: Callable[[], float] = time.monotonic):
        self._rate, self._stop, self._clock = most_bytes_s, stop, clock
        self._begin_s, self._bytes = clock(), 0

    def __call__(self, count: int) -> None:
        self._bytes += count
        ahead_s = self._begin_s + self._bytes / self._rate - self._clock() if self._rate else 0.0
        if self._stop.wait(ahead_s) if ahead_s > 0 else self._stop.is_set():
            raise RegistryError("the transfer was stopped")


class RegistryTag:
    """Registry's tag that a section names; `close` ends a transfer."""

    def __init__(self, section: FollowSection):
        self._reference = Reference.read(section.source)
        self._rate = section.most_kib_s and section.most_kib_s * 1024.0
        self._stop = threading.Event()

    def close(self) -> None:
        self._stop.set()

    def digest(self) -> str:
        """Ask the registry for the tag's digest; raise RegistryError if that fails."""
        with Repository(self._reference) as registry:
            return registry.digest()

    def pull(self, digest: str, destination: Path, reuse: list[Path]) -> None:
        """Pull the model of a digest; raises the errors of `edgead.artifact.oci.pull.pull`."""
        failed: list[Exception] = []

        def fetch() -> None:
            # Only for this thread, which ends afterwards: threads of a network inherit the priority of their loader.
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
            try:
                pace = TransferRate(self._rate, self._stop)
                pulled = pull(self._reference.at(digest), destination, reuse=reuse, pace=pace)
                text = f"{self._reference}: {pulled.fetched_bytes} of {pulled.bytes} bytes came"
                logger.info(text, extra={"digest": digest, "fetched_bytes": pulled.fetched_bytes})
            except Exception as error:  # noqa: BLE001  raised again after the join
                failed.append(error)

        thread = threading.Thread(target=fetch, name="model pull", daemon=True)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]


class RunningFollower:
    """Follower of a tag for one pipeline, in a thread of its own until it is closed.

    `name`: name of the pipeline.
    `folder`: folder of the models.
    """

    def __init__(self, name: str, section: FollowSection, folder: Path, store: EvidenceStore):
        self.name, self.section = name, section
        self.pipeline: Pipeline | None = None
        self._tag = RegistryTag(section)
        self._follower = Follower(section, folder, self._tag, time.monotonic)
        self._store = store
        self._wake, self._closed = threading.Event(), False
        self._thread = RestartingThread(f"follower {name}", self._run)

    @property
    def status(self) -> FollowStatus:
        return self._follower.status

    def begin(self) -> Path | None:
        """Return the model that judges first; see `Follower.begin`."""
        return self._follower.begin()

    def start(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._thread.start()

    def follow_again(self, *, by: str) -> None:
        """Try the tag's model again, even if it was refused; the audit records that."""
        status = self.status
        before, after = f"{status.state} {status.digest or 'site file'}", status.source
        self._store.add_audit(by=by, action="follow again", pipeline=self.name, before=before, after=after)
        self._follower.follow_again()
        self._wake.set()

    def stop(self) -> None:
        """Take no further step; `close` waits briefly for the step under way."""
        self._closed = True
        self._tag.close()
        self._wake.set()

    def close(self) -> None:
        self.stop()
        self._thread.join(_LEAVE_S)

    def _run(self) -> None:
        while not self._closed and self.pipeline is not None:
            self._wake.wait(self._follower.step(self.pipeline))
            self._wake.clear()


class Followers:
    """Followers of a site, made and ended as the site file says; `named` maps pipelines to them."""

    def __init__(self) -> None:
        self.named: dict[str, RunningFollower] = {}

    def begin(self, name: str, site: Site, store: EvidenceStore) -> Path | None:
        """Make the follower of a new pipeline; return the model that judges first, or None for the site file's."""
        section = site.pipelines[name].follow
        self._end(name)
        if section is None:
            return None
        self.named[name] = RunningFollower(name, section, site.store.folder / "models" / name, store)
        return self.named[name].begin()

    def follow(self, site: Site, pipelines: Mapping[str, Pipeline], store: EvidenceStore) -> None:
        """Start new followers, replace followers whose section has changed, end followers that no section wants."""
        for name in [name for name in self.named if name not in pipelines]:
            self._end(name)
        for name, pipeline in pipelines.items():
            running = self.named.get(name)
            if (running.section if running else None) != site.pipelines[name].follow:
                self.begin(name, site, store)
            running = self.named.get(name)
            if running is not None and running.pipeline is None:
                running.start(pipeline)

    def stop(self) -> None:
        """Let no follower take a further step; never waits."""
        for running in list(self.named.values()):
            running.stop()

    def close(self) -> None:
        self.stop()
        for name in list(self.named):
            self._end(name)

    def _end(self, name: str) -> None:
        running = self.named.pop(name, None)
        if running is not None:
            running.close()
