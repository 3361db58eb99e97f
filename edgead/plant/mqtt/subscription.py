"""Messages from an MQTT broker (paho-mqtt)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from edgead.plant.mqtt.connection import Connection
from edgead.plant.mqtt.options import BrokerOptions


class Subscription:
    """Calls a function with every message of a topic.

    What came while the connection was away does not count, nor do retained messages: they are of the past, and
    a trigger is for now.

    Parameters
    ----------
    section : BrokerOptions
        Whose broker, user and certificates are used.
    topic : str
    on_message : callable
        Called with the payload, in a thread of the connection; must not block.
    """

    def __init__(self, section: BrokerOptions, topic: str, on_message: Callable[[bytes], object]):
        self._topic = topic
        self._on_message = on_message
        # An id of its own: two clients with the same one throw each other out.
        self._connection = Connection(section, "", clean=True)
        self.uri = f"{self._connection.uri}/{topic}"
        self._connection.on_ready = self._subscribe
        self._connection.client.on_message = self._receive
        self._connection.start()

    @property
    def problem(self) -> str | None:
        return self._connection.problem

    def wait(self, timeout_s: float) -> bool:
        """Wait until the broker is there."""
        deadline = time.monotonic() + timeout_s
        with self._connection.changed:
            return self._connection.changed.wait_for(
                lambda: self._connection.connected, max(0.0, deadline - time.monotonic())
            )

    def close(self) -> None:
        self._connection.close()

    def _subscribe(self) -> None:
        self._connection.client.subscribe(self._topic, qos=1)

    def _receive(self, _client: Any, _data: Any, message: Any) -> None:
        if not message.retain:
            self._on_message(message.payload)
