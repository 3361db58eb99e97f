"""Messages to an MQTT broker, each until the broker has it (paho-mqtt)."""

from __future__ import annotations

from collections import deque
from typing import Any

from edgead.errors import EdgeadError
from edgead.plant.mqtt.connection import Connection


class Publisher:
    """Publishes over a connection, and hears what became of it.

    Parameters
    ----------
    connection : Connection
    uri : str
        What errors name.
    failed : type of EdgeadError
        What is raised where a message could not be delivered.
    """

    def __init__(self, connection: Connection, uri: str, failed: type[EdgeadError]):
        self._connection, self._uri, self._failed = connection, uri, failed
        self._acknowledged: deque[int] = deque(maxlen=1000)  # numbers come again after 65,535
        connection.client.on_publish = self._hear

    def wait_until_there(self) -> None:
        """Wait for the broker for as long as it takes; raises `failed` where the connection is closed before."""
        connection = self._connection
        with connection.changed:
            connection.changed.wait_for(lambda: connection.connected or connection.closed)
            if connection.closed:
                raise self._failed(f"{self._uri}: closed before the broker was there")

    def publish(self, topic: str, payload: bytes | str, qos: int, *, retain: bool = False) -> None:
        """Publish, and wait until the broker has acknowledged it; see `send` and `wait`."""
        self.wait(self.send(topic, payload, qos, retain=retain), qos)

    def send(self, topic: str, payload: bytes | str, qos: int, *, retain: bool = False) -> int:
        """Hand a message to the connection, which the broker keeps for later subscribers where asked; gives its number.

        Raises
        ------
        EdgeadError
            `failed`: the topic cannot be used or, with QoS 0, there is no connection.
        """
        try:
            sent = self._connection.client.publish(topic, payload, qos, retain)
        except ValueError as error:
            raise self._failed(f"{self._uri}: topic {topic!r} cannot be used: {error}") from None
        # No connection is no failure above QoS 0: paho keeps the message and sends it when it has connected again.
        problem = self._connection.refused(sent.rc)
        if qos == 0 and problem:
            raise self._failed(f"{self._uri}: {problem}")
        return sent.mid

    def wait(self, number: int, qos: int) -> None:
        """Wait until the broker has acknowledged a message or, with QoS 0, until it was sent.

        Raises
        ------
        EdgeadError
            `failed`: the connection ended.
        """
        connection = self._connection
        with connection.changed:
            connection.changed.wait_for(
                # Without acknowledgements what was under way when the connection ended is gone.
                lambda: number in self._acknowledged or connection.closed or not (qos or connection.connected)
            )
            if number not in self._acknowledged:
                raise self._failed(f"{self._uri}: the connection ended before the verdict was acknowledged")

    def _hear(self, _client: Any, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        with self._connection.changed:
            self._acknowledged.append(mid)
            self._connection.changed.notify_all()
