"""Verdicts to an MQTT broker, and messages from it (paho-mqtt)."""

from __future__ import annotations

import secrets
import socket
import time
import zlib
from collections.abc import Callable
from typing import Any

from edgead.serialization import record_json
from edgead.sinks.contract import SinkError
from edgead.sinks.mqtt_connection import Connection, MQTTErrorCode, error_string
from edgead.site.schema import MqttSink as MqttSection
from edgead.types import Frame, Verdict


class MqttSink:
    """Publishes each verdict as JSON, and waits until the broker has acknowledged it.

    One message is under way at a time. So they arrive in order, and when a broker comes back one message at most is
    sent again: with QoS 2 it arrives once, with QoS 1 it may arrive twice, which its `id` tells. Before this stands an
    `edgead.sinks.outlet.Outlet`, where verdicts wait while the broker is away.

    Parameters
    ----------
    name : str
        Of the sink; with QoS 2 part of the client's id, by which a broker knows who comes back.
    section : edgead.site.schema.MqttSink
    """

    needs_image = False

    def __init__(self, name: str, section: MqttSection):
        # With QoS 2 the broker must remember what it has had of this client. Otherwise nobody asks who comes back, and
        # two clients with one id would throw each other out.
        lasting = section.qos == 2
        own = f"{name}-{zlib.crc32(section.topic.encode()):08x}" if lasting else secrets.token_hex(4)
        client_id = section.client_id or f"edgead-{socket.gethostname()}-{own}"
        self._connection = Connection(section, client_id, clean=not lasting)
        self.uri = f"{self._connection.uri}/{section.topic}"
        self._topic = section.topic
        self._qos = section.qos
        self._acknowledged: int | None = None
        self._connection.client.on_publish = self._on_publish
        self._connection.start()

    @property
    def problem(self) -> str | None:
        return self._connection.problem

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Publish, and wait for the broker for as long as it takes, or until the sink is closed."""
        connection = self._connection
        topic = self._topic.replace("{pipeline}", verdict.pipeline or "stream")
        with connection.changed:
            connection.changed.wait_for(lambda: connection.connected or connection.closed)
            if connection.closed:
                raise SinkError(f"{self.uri}: closed before the broker was there")
        try:
            sent = connection.client.publish(topic, record_json(frame, verdict), self._qos)
        except ValueError as error:
            raise SinkError(f"{self.uri}: topic {topic!r} cannot be used: {error}") from None
        # NO_CONN is no failure above QoS 0: paho keeps the message and sends it when it has connected again.
        if self._qos == 0 and sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise SinkError(f"{self.uri}: {error_string(sent.rc)}")
        with connection.changed:
            connection.changed.wait_for(
                # Without acknowledgements what was under way when the connection ended is gone.
                lambda: self._acknowledged == sent.mid or connection.closed or not (self._qos or connection.connected)
            )
            if self._acknowledged != sent.mid:
                raise SinkError(f"{self.uri}: the connection ended before the verdict was acknowledged")

    def close(self) -> None:
        self._connection.close()

    def _on_publish(self, _client: Any, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        with self._connection.changed:
            self._acknowledged = mid
            self._connection.changed.notify_all()


class Subscription:
    """Calls a function with every message of a topic, from the broker of a sink.

    What came while the connection was away does not count, nor do retained messages: they are of the past, and
    a trigger is for now.

    Parameters
    ----------
    section : edgead.site.schema.MqttSink
        Whose broker, user and certificates are used.
    topic : str
    on_message : callable
        Called with the payload, in a thread of the connection; must not block.
    """

    def __init__(self, section: MqttSection, topic: str, on_message: Callable[[bytes], object]):
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
