"""The daemon: startup, main loop, shutdown."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.config import Site
from edgead.daemon.feed import Subscription, VerdictFeed
from edgead.daemon.line import Line
from edgead.daemon.logs import JsonLines
from edgead.daemon.notify import Notifier
from edgead.daemon.pipeline import Pipeline
from edgead.daemon.signals import Requests
from edgead.errors import EdgeadError
from edgead.site_file import load_site

if TYPE_CHECKING:
    from edgead.daemon.http.server import Server
    from edgead.evidence import EvidenceStore
    from edgead.sinks.outlet import Outlet
    from edgead.sources.supervised import SupervisedCamera

logger = logging.getLogger(__name__)

_TICK_S = 0.5
# A pipeline that has been silent for so long hangs in its engine: the service manager may then start all anew.
_HUNG_S = 20.0


class Daemon:
    """Runs a site until it is told to stop.

    Parameters
    ----------
    path : Path
        The site file; read again on SIGHUP.
    log : JsonLines, optional
        Told of the site's secrets.

    Raises
    ------
    SettingsError
        The site file cannot be used.
    """

    def __init__(self, path: Path, *, log: JsonLines | None = None):
        self.path = path
        self.site = load_site(path)
        self.server: Server | None = None
        self._log = log
        self._feed = VerdictFeed()
        self._line = Line(self._feed.publish)
        self._notifier = Notifier()
        self._requests = Requests()

    @property
    def cameras(self) -> dict[str, SupervisedCamera]:
        return self._line.cameras

    @property
    def pipelines(self) -> dict[str, Pipeline]:
        return self._line.pipelines

    @property
    def outlets(self) -> dict[str, Outlet]:
        return self._line.outlets

    @property
    def store(self) -> EvidenceStore:
        return self._line.store

    def subscribe_verdicts(self) -> Subscription:
        """Give a bounded queue that gets every verdict from now on, as long as somebody holds it."""
        return self._feed.subscribe()

    def run(self) -> None:
        """Start, serve until SIGTERM or SIGINT, and stop in time."""
        self._requests.drain_s = self.site.limits.drain_s
        with self._requests.listening():
            try:
                self.startup()
                self.main_loop()
            finally:
                self.shutdown()

    def startup(self) -> None:
        """Open the store and the sinks, start cameras and pipelines, and serve the page.

        Raises
        ------
        EdgeadError
            The store, a sink or the page's address cannot be used. A camera or a model that cannot be is a fault of
            its pipelines alone.
        """
        self._hide_secrets()
        self._line.open(self.site)
        self._serve()
        logger.info("started", extra={"site": str(self.path), "pipelines": list(self.pipelines)})

    def main_loop(self) -> None:
        """Answer signals, and tell the service manager that all is well, until asked to stop."""
        told, hung = "", ""
        period_s = min(_TICK_S, (self._notifier.watchdog_s or _TICK_S) / 3)
        while (request := self._requests.next(period_s)) != "stop":
            if request == "reload":
                self.reload()
            if self._line.settled and (status := self._summary()) != told:
                if told:
                    self._notifier.status(status)
                else:
                    self._notifier.ready(status)
                told = status
            hung_before, hung = hung, self._hung()
            if not hung:
                self._notifier.alive()
            elif hung != hung_before:
                logger.error("no sign of life for %g s: %s", _HUNG_S, hung)

    def shutdown(self) -> None:
        """Stop taking frames, let what is under way end, and close everything within `limits.drain_s`."""
        self._notifier.stopping()
        deadline = time.monotonic() + self.site.limits.drain_s
        counts = self._line.close(deadline, also=[self.server.close] if self.server else [])
        logger.info("stopped", extra={"counts": counts})
        self._notifier.close()

    def reload(self) -> None:
        """Read the site file again and start anew what has changed; with a broken file all goes on as it is."""
        self._notifier.reloading()
        try:
            new = load_site(self.path)
            self._line.change(self.site, new)
        except EdgeadError as error:
            logger.error("not reloaded, the old site goes on: %s", error)
        else:
            old, self.site = self.site, new.model_copy(update={"store": self.site.store})
            self._requests.drain_s = new.limits.drain_s
            self._hide_secrets()
            if old.http != new.http:
                self._serve_anew(old)
            logger.info("reloaded", extra={"site": str(self.path)})
        self._notifier.ready(self._summary())

    def _serve(self) -> None:
        if self.site.http is not None:
            # Only a site with a page pays for its import.
            from edgead.daemon.http.app import build_app
            from edgead.daemon.http.server import serve

            self.server = serve(build_app(self), self.site.http)
            logger.info("serves the page", extra={"host": self.site.http.host, "port": self.server.port})

    def _serve_anew(self, old: Site) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None
        try:
            self._serve()
        except EdgeadError as error:
            logger.error("the page stays where it was: %s", error)
            self.site = self.site.model_copy(update={"http": old.http})
            self._serve()

    def _hung(self) -> str:
        return ", ".join(pipeline.name for pipeline in self.pipelines.values() if pipeline.silent_s() > _HUNG_S)

    def _hide_secrets(self) -> None:
        if self._log is not None:
            self._log.hide(self.site)

    def _summary(self) -> str:
        faults = [pipeline.name for pipeline in self.pipelines.values() if pipeline.state == "fault"]
        text = f"{len(self.pipelines)} pipelines"
        return f"{text}, in fault: {', '.join(faults)}" if faults else text
