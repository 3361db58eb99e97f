"""Member of a fleet: this device's followers and its reports."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edgead.errors import EdgeadError
from edgead.line.daemon.fleet.followers import Followers
from edgead.line.daemon.fleet.report import make_report
from edgead.line.site.model_following import FleetSection

if TYPE_CHECKING:
    from edgead.line.daemon.fleet.reporter import Reporter
    from edgead.line.daemon.pipeline import Pipeline
    from edgead.line.evidence import EvidenceStore
    from edgead.line.site.schema import Site

logger = logging.getLogger(__name__)


class FleetMember:
    """Fleet member: follows tags and sends reports as the site file says; its failures stop no inspection."""

    def __init__(self) -> None:
        self.followers = Followers()
        self._reporter: Reporter | None = None
        self._section: FleetSection | None = None

    def follow(self, site: Site, pipelines: Callable[[], Mapping[str, Pipeline]], store: EvidenceStore) -> None:
        """Apply a site file.

        `pipelines`: returns the current pipelines at each call.
        """
        self.followers.follow(site, pipelines(), store)
        if site.fleet != self._section:
            self._report(site.fleet, pipelines)

    def close(self) -> None:
        """Stop following, and report that the device is off; wait for the broker for a few seconds at most."""
        self.followers.close()
        if self._reporter is not None:
            self._reporter.close()

    def _report(self, section: FleetSection | None, pipelines: Callable[[], Mapping[str, Pipeline]]) -> None:
        if self._reporter is not None:
            self._reporter.close()
        self._reporter, self._section = None, section
        if section is None:
            return
        name, every_s, followers = section.name, section.every_s, self.followers.named
        try:
            from edgead.line.daemon.fleet.reporter import Reporter  # only those who have a broker need its package

            self._reporter = Reporter(section, lambda: make_report(name, every_s, pipelines(), followers))
            self._reporter.start()
        except EdgeadError as error:
            logger.error("nothing is reported to the fleet: %s", error)
