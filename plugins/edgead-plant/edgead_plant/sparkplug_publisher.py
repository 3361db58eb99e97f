"""MQTT publisher that proves the arrival of QoS 0 messages; imported only if paho-mqtt is installed."""

from __future__ import annotations

from edgead.errors import EdgeadError
from edgead.plant.mqtt.client import MqttConnection, Publisher

_NOTHING = "edgead/nothing"


class SparkplugPublisher(Publisher):
    """Publisher with QoS 0 that can send another request, whose answer proves that the broker has the messages."""

    def __init__(self, connection: MqttConnection, uri: str, failed: type[EdgeadError]):
        super().__init__(connection, uri, failed)
        connection.client.on_unsubscribe = self._hear

    def wait_until_received(self) -> None:
        """Wait until the broker has received all messages sent with QoS 0.

        A broker answers in the order of arrival, and the request made here changes nothing: it ends a subscription that
        does not exist.

        Raises EdgeadError: `failed`: the connection ended.
        """
        code, number = self._connection.client.unsubscribe(_NOTHING)
        if number is None:
            raise self._failed(f"{self._uri}: {self._connection.refused(code)}")
        self.wait(number, 0)
