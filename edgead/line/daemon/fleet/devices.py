"""Devices of a fleet, from their reports to a broker."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import Any

from edgead.errors import EdgeadError
from edgead.line.daemon.fleet.report import ONLINE, REPORT, STATE, DeviceReport, read_report
from edgead.plant.mqtt.client import MqttConnection
from edgead.plant.mqtt.options import BrokerOptions

# A broker sends its retained messages at once; they are complete when nothing has come for so long.
_QUIET_S = 0.5
# A device that has not reported for so many of its periods counts as away.
_MISSED = 3.0


@dataclass(frozen=True, slots=True)
class FleetDevice:
    """Known state of a device: whether it is connected, its last report, and the report's time (monotonic seconds)."""

    name: str
    online: bool = False
    report: DeviceReport | None = None
    heard_s: float = 0.0

    def there(self, now_s: float) -> bool:
        """Return whether the device is online and has reported lately."""
        return self.online and self.report is not None and now_s - self.heard_s <= _MISSED * self.report.every_s


class Devices:
    """Listener to the reports of a fleet's devices, until it is closed.

    `topic`: topic that the site files of the devices name.
    Raises EdgeadError: the broker does not answer within `within_s`.
    """

    def __init__(self, broker: BrokerOptions, topic: str, *, within_s: float = 10.0):
        self._topic = topic
        self._found: dict[str, FleetDevice] = {}
        self._lock = threading.Lock()
        self._last_s = time.monotonic()
        self._connection = MqttConnection(broker, "", clean=True)
        self._connection.on_ready = self._subscribe
        self._connection.client.on_message = self._receive
        self._connection.start()
        with self._connection.changed:
            there = self._connection.changed.wait_for(lambda: self._connection.connected, within_s)
        if not there:
            problem = self._connection.problem
            self.close()
            raise EdgeadError(problem or f"{self._connection.uri} is not there")

    def __enter__(self) -> Devices:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def all(self) -> list[FleetDevice]:
        """List the devices known now, by name."""
        with self._lock:
            return [self._found[name] for name in sorted(self._found)]

    def settled(self, most_s: float = 10.0) -> list[FleetDevice]:
        """Wait until no more reports come, at most `most_s`; return the devices."""
        end_s = time.monotonic() + most_s
        while time.monotonic() < min(end_s, self._last_s + _QUIET_S):
            time.sleep(0.05)
        return self.all()

    def _subscribe(self) -> None:
        self._last_s = time.monotonic()
        self._connection.client.subscribe([(f"{self._topic}/+/{kind}", 1) for kind in (STATE, REPORT)])

    def _receive(self, _client: Any, _data: Any, message: Any) -> None:
        name, _, kind = message.topic[len(self._topic) + 1 :].rpartition("/")
        self._last_s = now_s = time.monotonic()
        with self._lock:
            known = self._found.get(name, FleetDevice(name))
            if kind == STATE:
                self._found[name] = replace(known, online=message.payload == ONLINE)
            elif (report := read_report(message.payload)) is not None:
                self._found[name] = replace(known, report=report, heard_s=now_s)
