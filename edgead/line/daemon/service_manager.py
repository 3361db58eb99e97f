"""Messages to the service manager: ready, alive, reloading, stopping; the protocol is sd_notify(3)."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

logger = logging.getLogger(__name__)


class Notifier:
    """Sender of messages to systemd, if it listens (`NOTIFY_SOCKET`); otherwise it does nothing.

    `watchdog_s`: longest time, in seconds, between two signs of life that systemd expects; None if it expects none.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ):
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if path else None
        if self._socket is not None:
            self._socket.setblocking(False)  # a service manager that hangs must not stop the inspection
        period_us = environment.get("WATCHDOG_USEC", "")
        for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(period_us) / 1e6 if period_us.isdecimal() and for_us else None

    def ready(self, status: str) -> None:
        self._tell("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        self._tell(f"STATUS={status}")

    def alive(self) -> None:
        self._tell("WATCHDOG=1")

    def reloading(self) -> None:
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1", "STATUS=stopping")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, *lines: str) -> None:
        speaking = self._socket  # of several threads; another one may close it meanwhile
        if speaking is None:
            return
        try:
            speaking.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            logger.warning("cannot report %s to the service manager: %s", lines[0], error.strerror)
