"""Publisher that learns whether a broker has what nobody acknowledges; imported only where paho-mqtt is there."""

from __future__ import annotations

from edgead.errors import EdgeadError
from edgead.plant.mqtt.client import Connection, Publisher

_NOTHING = "edgead/nothing"


class SparkplugPublisher(Publisher):
    """Publishes with QoS 0, and asks the broker another thing, whose answer shows that it has the messages before."""

    def __init__(self, connection: Connection, uri: str, failed: type[EdgeadError]):
        super().__init__(connection, uri, failed)
        connection.client.on_unsubscribe = self._hear

    def wait_until_received(self) -> None:
        """Wait until the broker has received what was sent with QoS 0.

        A broker answers in the order of what it gets, and what it is asked here changes nothing: to end a subscription
        that there is not.

        Raises
        ------
        EdgeadError
            `failed`: the connection ended.
        """
        code, number = self._connection.client.unsubscribe(_NOTHING)
        if number is None:
            raise self._failed(f"{self._uri}: {self._connection.refused(code)}")
        self.wait(number, 0)
