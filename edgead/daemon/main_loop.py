"""Main loop between two signals: it watches all parts, and speaks to the service manager."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edgead.daemon.service_manager import Notifier

if TYPE_CHECKING:
    from edgead.daemon.site_runtime import SiteRuntime
    from edgead.daemon.web_thread import Page

logger = logging.getLogger(__name__)

# What has been silent for so long hangs in an engine or a driver: the service manager may then start everything again.
_HUNG_S = 20.0


class Watch:
    """Starts parts again that have died, and withholds the sign of life while one hangs.

    Parameters
    ----------
    line : SiteRuntime
    page : Page
    notifier : Notifier
    """

    def __init__(self, line: SiteRuntime, page: Page, notifier: Notifier):
        self._runtime, self._page, self._notifier = line, page, notifier
        self._said = self._hung = self._failed = ""

    def look(self) -> None:
        """Look once; what fails in here must end neither the loop nor what comes after it."""
        try:
            self._runtime.look_after()
            self._page.look_after()
            self._failed = ""
        except Exception as error:  # noqa: BLE001  the main loop's own edge
            if repr(error) != self._failed:  # comes by twice a second
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
        """The state of all pipelines in one line."""
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
