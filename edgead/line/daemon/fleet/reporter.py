"""Reports of a device to an MQTT broker: retained for later subscribers, and with a last will."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from edgead.line.daemon.fleet.report import OFFLINE, ONLINE, REPORT, STATE, DeviceReport
from edgead.line.site.model_following import FleetSection
from edgead.plant.mqtt.client import MqttConnection
from edgead.process.restarting_thread import RestartingThread

_LOOK_S = 1.0
_LEAVE_S = 1.0


class Reporter:
    """Publisher of the device's reports: one every `every_s` seconds, and one whenever the content changes.

    `make`: returns the report.
    """

    def __init__(self, section: FleetSection, make: Callable[[], DeviceReport]):
        self.section = section
        self._make = make
        self._topic = f"{section.topic}/{section.name}"
        # The same name twice in a fleet shows at once: the two throw each other out.
        self._connection = MqttConnection(section, f"edgead-fleet-{section.name}", clean=True)
        self._connection.client.will_set(f"{self._topic}/{STATE}", OFFLINE, qos=1, retain=True)
        self._connection.on_ready = self._greet
        self._closing = threading.Event()
        self._fresh = False
        self._thread = RestartingThread("fleet report", self._run)

    def start(self) -> None:
        self._connection.start()
        self._thread.start()

    def close(self) -> None:
        """Report that the device is off, if the broker answers, and disconnect."""
        self._closing.set()
        self._thread.join(_LEAVE_S)
        if self._connection.connected:
            with suppress(RuntimeError, ValueError):  # the connection has just ended: the last will reports it
                self._publish(STATE, OFFLINE).wait_for_publish(_LEAVE_S)
        self._connection.close()

    def _greet(self) -> None:
        # In paho's thread, which must not wait: the report follows within a second.
        self._publish(STATE, ONLINE)
        self._fresh = True

    def _run(self) -> None:
        said: dict[str, Any] | None = None
        left_s = 0.0
        while not self._closing.is_set():
            report = self._make()
            if self._connection.connected and (self._fresh or left_s <= 0 or report.said != said):
                self._fresh, said, left_s = False, report.said, self.section.every_s
                self._publish(REPORT, report.dump())
            self._closing.wait(_LOOK_S)
            left_s -= _LOOK_S

    def _publish(self, kind: str, payload: bytes) -> Any:
        return self._connection.client.publish(f"{self._topic}/{kind}", payload, qos=1, retain=True)
