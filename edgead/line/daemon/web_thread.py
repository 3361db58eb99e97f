"""Page of a daemon: served as its site file says, and restarted if its thread has died."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgead.errors import EdgeadError
from edgead.line.daemon.hanging_calls import all_within
from edgead.line.site.address import listen
from edgead.line.site.schema import HttpSection
from edgead.line.site.users import check_users

if TYPE_CHECKING:
    from edgead.line.web.server import Server

logger = logging.getLogger(__name__)

_CLOSE_S = 3.0


class Page:
    """Page's server, for one section `http` at a time.

    `serve`: returns a running server for a section, on the given socket or on a new one if that is None; raises
        EdgeadError.
    """

    def __init__(self, serve: Callable[[HttpSection, socket.socket | None], Server]):
        self._serve = serve
        self._held: socket.socket | None = None
        self._section: HttpSection | None = None
        self._server: Server | None = None
        self._changing = threading.Lock()
        self._problem = ""

    def hold(self, section: HttpSection | None) -> None:
        """Listen on the address of a section; a browser that connects before `open` waits.

        Raises EdgeadError: the address cannot be used.
        """
        if section is not None:
            self._held = listen(section)

    def open(self, section: HttpSection | None) -> None:
        """Serve the page as a section says; None serves nothing.

        Raises EdgeadError: the address cannot be used.
        """
        with self._changing:
            self._open(section)

    def move(self, section: HttpSection | None) -> str:
        """Serve as another section says; if that fails, or nobody could sign in, keep the old page and return why."""
        with self._changing:
            before = self._section
            try:
                if section is not None and section.users is not None:
                    check_users(section.users)
                self._close()
                self._open(section)
            except EdgeadError as error:
                logger.error("the page stays as it was: %s", error)
                if self._server is None:
                    self._open(before)
                return str(error)
            return ""

    def look_after(self) -> None:
        """Serve again if the thread has died; the main loop calls this often, and it waits only for a dead server."""
        if not self._changing.acquire(blocking=False):
            return
        try:
            if self._section is None or (self._server is not None and self._server.alive):
                return
            self._close()
            self._open(self._section)
            self._problem = ""
            logger.error("the page's thread had died, see the log: it is served again")
        except EdgeadError as error:
            if str(error) != self._problem:  # this runs twice a second
                logger.error("the page cannot be served again: %s", error)
            self._problem = str(error)
        finally:
            self._changing.release()

    def close(self) -> None:
        """Finish the current answers, and stop."""
        self._section = None
        self._close()

    def _open(self, section: HttpSection | None) -> None:
        self._section = section
        if section is not None:
            held, self._held = self._held, None
            self._server = self._serve(section, held)
            logger.info("HTTP server listening", extra={"host": section.host, "port": self._server.port})

    def _close(self) -> None:
        held, self._held = self._held, None
        if held is not None:  # if the start failed before the page was opened
            held.close()
        server, self._server = self._server, None
        if server is not None:
            all_within(_CLOSE_S, [server.close])
