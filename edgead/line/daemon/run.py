"""The daemon: startup, main loop, signals, shutdown."""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from edgead.errors import EdgeadError
from edgead.line.daemon.broadcast import Feed, FeedQueue, VerdictFeed, WantedFrame
from edgead.line.daemon.commission import Commissioning
from edgead.line.daemon.fleet.followers import RunningFollower
from edgead.line.daemon.logs import JsonFormatter
from edgead.line.daemon.notices import Notices
from edgead.line.daemon.parts import PartJudge
from edgead.line.daemon.pipeline import Pipeline
from edgead.line.daemon.reload import Reloading
from edgead.line.daemon.service_manager import Notifier
from edgead.line.daemon.site_runtime import SiteRuntime
from edgead.line.daemon.teaching.heaps import Heaps
from edgead.line.daemon.teaching.lessons import Lessons
from edgead.line.daemon.web_thread import Page
from edgead.line.site.load import load_site
from edgead.line.site.schema import HttpSection
from edgead.serialization.notice import News

if TYPE_CHECKING:
    from edgead.line.evidence import EvidenceStore
    from edgead.line.web.server import Server
    from edgead.sinks.queued import QueuedSink
    from edgead.sources.reopened_camera import SupervisedCamera

logger = logging.getLogger(__name__)

# Time after the draining: the store's last commit, the interpreter's own end.
_GRACE_S = 0.3
# After this the kernel ends a process whose interpreter's lock something holds.
_LAST_S = 0.1
# A thread silent for so long hangs in an engine or a driver: the service manager may then restart everything.
_HUNG_S = 20.0
_TICK_S = 0.5
# Longest wait of a thread for Python's lock while another computes. With the usual 5 ms, busy clients of the page delay
# a frame by several such waits.
_SWITCH_S = 0.001
# A reload under way may wait for a model; the end of the daemon does not wait for it.
_RELOAD_S = 0.2


class SignalQueue:
    """Queue of requests by signals: "stop" (SIGTERM, SIGINT) or "reload" (SIGHUP).

    If the shutdown takes too long, a thread ends the process with exit code 0; if that thread cannot run either, a
    timer of the kernel ends it. A second "stop" ends the process at once. The store survives all of that.
    """

    def __init__(self) -> None:
        self.drain_s = 1.0
        self._asked: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ends: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopping = False

    def next(self, timeout_s: float) -> str | None:
        """Wait for a request; return None if none came."""
        try:
            return self._asked.get(timeout=timeout_s)
        except queue.Empty:
            return None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals while the block runs; for the main thread."""
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: self._reload}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        # Started here: a thread that a handler starts may wait for a lock that the main thread holds.
        threading.Thread(target=self._end_in_time, name="end", daemon=True).start()
        try:
            yield
        finally:
            self._ends.put("ended")
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._stopping:
            os._exit(128 + number)
        self._stopping = True
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, self.drain_s + _GRACE_S + _LAST_S)
        self._ends.put("stop")
        self._asked.put("stop")

    def _end_in_time(self) -> None:
        if self._ends.get() == "ended":
            return
        try:
            self._ends.get(timeout=self.drain_s + _GRACE_S)
        except queue.Empty:
            logger.error("the time to drain is over: ended with what hangs")
            os._exit(0)

    def _reload(self, number: int, frame: FrameType | None) -> None:
        self._asked.put("reload")


class Watchdog:
    """Watchdog that restarts dead threads, and sends systemd no sign of life while a thread hangs."""

    def __init__(self, line: SiteRuntime, page: Page, notifier: Notifier):
        self._runtime, self._page, self._notifier = line, page, notifier
        self._said = self._hung = self._failed = ""

    def look(self) -> None:
        """Check all components once; a failure here must end neither the main loop nor the later checks."""
        try:
            self._runtime.look_after()
            self._page.look_after()
            self._failed = ""
        except Exception as error:  # noqa: BLE001  the main loop's own edge
            if repr(error) != self._failed:  # this runs twice a second
                logger.exception("not all parts can be looked after")
            self._failed = repr(error)
        if self._runtime.settled:
            self._say(self.summary())
        hung = ", ".join(self._runtime.silent(_HUNG_S))
        if not hung:
            self._notifier.alive()
        elif hung != self._hung:
            logger.error("hung: no progress for %g s: %s", _HUNG_S, hung)
        self._hung = hung

    def summary(self) -> str:
        """Return the state of all pipelines in one line."""
        pipelines = list(self._runtime.pipelines.values())
        faults = [pipeline.name for pipeline in pipelines if pipeline.state == "fault"]
        return f"{len(pipelines)} pipelines" + (f", in fault: {', '.join(faults)}" if faults else "")

    def _say(self, summary: str) -> None:
        if summary == self._said:
            return
        if self._said:
            self._notifier.status(summary)
        else:
            self._notifier.ready(summary)
        self._said = summary


class Daemon:
    """Daemon that runs a site until it is stopped.

    `path`: the site file; read again on SIGHUP.
    `log`: log that hides the site's secrets.
    Raises SettingsError: the site file cannot be used.
    """

    def __init__(self, path: Path, *, log: JsonFormatter | None = None):
        self.path = path
        self.site = load_site(path)
        self._log = log
        self._feed = VerdictFeed()
        self._wanted: Feed[WantedFrame] = Feed()
        self._runtime = SiteRuntime(self._feed.publish, self._feed.offer, self._wanted.offer)
        self.lessons = Lessons(lambda: self.site, lambda: self.pipelines, lambda: self.store)
        self.heaps = Heaps(self)
        self.commissioning = Commissioning(self)
        self._notifier = Notifier()
        self._page = Page(self._serve)
        self._watch = Watchdog(self._runtime, self._page, self._notifier)
        self._requests = SignalQueue()
        self._reloading = Reloading(self.reload)

    @property
    def cameras(self) -> Mapping[str, SupervisedCamera]:
        return self._runtime.cameras

    @property
    def pipelines(self) -> Mapping[str, Pipeline]:
        return self._runtime.pipelines

    @property
    def sinks(self) -> Mapping[str, QueuedSink]:
        return self._runtime.sinks

    @property
    def parts(self) -> dict[str, PartJudge]:
        return self._runtime.parts.named

    @property
    def notices(self) -> Notices:
        return self._runtime.notices

    @property
    def followers(self) -> dict[str, RunningFollower]:
        return self._runtime.fleet.followers.named

    @property
    def store(self) -> EvidenceStore:
        return self._runtime.store

    def subscribe_verdicts(self) -> FeedQueue[News]:
        """Return a bounded queue that gets every verdict and notice from now on, until the caller drops it."""
        return self._feed.subscribe()

    def subscribe_wanted(self) -> FeedQueue[WantedFrame]:
        """Return such a queue of the frames that triggers choose, judged or not; pauses leave them out."""
        return self._wanted.subscribe()

    def run(self) -> None:
        """Start, serve until SIGTERM or SIGINT, and stop within `limits.drain_s`."""
        sys.setswitchinterval(_SWITCH_S)
        self._requests.drain_s = self.site.limits.drain_s
        with self._requests.listening():
            try:
                self.startup()
                self.main_loop()
            finally:
                self.shutdown()

    def startup(self) -> None:
        """Open the store and the sinks, start cameras and pipelines, and serve the page.

        Raises EdgeadError: the store, a sink or the page's address cannot be used. A camera or model that cannot be
            used is a fault of its pipelines only.
        """
        self._hide_secrets()
        self._page.hold(self.site.http)
        self._runtime.open(self.site)
        self.lessons.open()
        self.commissioning.open()
        self._page.open(self.site.http)
        self._reloading.start()
        logger.info("started", extra={"site": str(self.path), "pipelines": list(self.pipelines)})

    def main_loop(self) -> None:
        """Handle signals and check all components until asked to stop."""
        period_s = min(_TICK_S, (self._notifier.watchdog_s or _TICK_S) / 3)
        while (request := self._requests.next(period_s)) != "stop":
            if request == "reload":
                self._reloading.ask()
            self._watch.look()

    def shutdown(self) -> None:
        """Stop taking frames, let current work end, and close everything within `limits.drain_s`."""
        self._notifier.stopping()
        deadline = time.monotonic() + self.site.limits.drain_s
        self._reloading.close(_RELOAD_S)
        also = [self._page.close, self.lessons.close, self.heaps.close, self.commissioning.close]
        counts = self._runtime.close(deadline, also=also)
        logger.info("stopped", extra={"counts": counts})
        self._notifier.close()

    def reload(self) -> None:
        """Read the site file again and apply its changes; a failure leaves everything running."""
        self._notifier.reloading()
        try:
            kept = self._reload()
        except EdgeadError as error:
            self._runtime.refused_site = str(error)
            logger.error("not reloaded, the old site goes on: %s", error)
        except Exception:  # noqa: BLE001  a reload's edge: it must not end the inspection
            self._runtime.refused_site = "the program failed; the log says where"
            logger.exception("not reloaded as a whole: the program failed")
        else:
            self._runtime.refused_site = ""
            if kept:
                text = f"reloaded, but {', '.join(kept)} {'keeps its' if len(kept) == 1 else 'keep their'} model"
                logger.warning(text, extra={"site": str(self.path)})
            else:
                logger.info("reloaded", extra={"site": str(self.path)})
        self._notifier.ready(self._watch.summary())

    def _reload(self) -> list[str]:
        """Apply the current site file; return the names of pipelines that keep their model."""
        new = load_site(self.path)
        change = self._runtime.prepare(self.site, new)
        # From here on the new site counts, even after a failure: the next reload compares with it.
        old, self.site = self.site, new.model_copy(update={"store": self.site.store})
        self._requests.drain_s = new.limits.drain_s
        self._hide_secrets()
        kept = change()
        self._runtime.refused_http = self._page.move(new.http) if old.http != new.http else ""
        if self._runtime.refused_http:
            self.site = self.site.model_copy(update={"http": old.http})
        return kept

    def _serve(self, section: HttpSection, listening: socket.socket | None) -> Server:
        # Only a site with a page spends the time of its import.
        from edgead.line.web.app import build_app
        from edgead.line.web.server import serve

        return serve(build_app(self), section, listening)

    def _hide_secrets(self) -> None:
        if self._log is not None:
            self._log.hide(self.site)
