"""Verdicts to an MQTT broker, and messages from it (paho-mqtt)."""

from __future__ import annotations

import secrets
import socket
import zlib
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import unquote

from pydantic import Field

from edgead.plant.mqtt.options import BrokerOptions
from edgead.serialization import record_json
from edgead.sinks.contract import BaseSink, SinkError
from edgead.sinks.options import QueueSection, SinkOptions, read_host
from edgead.sinks.registry import register
from edgead.types import Frame, Verdict


class MqttOptions(SinkOptions, BrokerOptions):
    """Verdicts as JSON to an MQTT broker; what it cannot take waits, in order, until it is back."""

    kind: Literal["mqtt"] = "mqtt"
    topic: Annotated[str, Field(description="{pipeline} stands for the pipeline's name.")] = "edgead/{pipeline}/verdict"
    qos: Annotated[int, Field(ge=0, le=2, description="0 at most once, 1 at least once, 2 exactly once.")] = 1
    client_id: Annotated[
        str | None, Field(description="By default a new one; with QoS 2 of computer, sink and topic.")
    ] = None
    queue: Annotated[QueueSection, Field(description="How many verdicts may wait.")] = QueueSection()
    queued: ClassVar[bool] = True

    @property
    def most_waiting(self) -> int:
        return self.queue.messages


class MqttSink(BaseSink):
    """Publishes each verdict as JSON, and waits until the broker has acknowledged it.

    One message is under way at a time. So they arrive in order, and when a broker comes back one message at most is
    sent again: with QoS 2 it arrives once, with QoS 1 it may arrive twice, as its `id` shows. Before this stands an
    `edgead.sinks.queued.QueuedSink`, where verdicts wait while the broker is away.

    Parameters
    ----------
    name : str
        Of the sink; with QoS 2 part of the client's id, by which a broker knows who comes back.
    section : MqttOptions
    """

    needs_image = False

    def __init__(self, name: str, section: MqttOptions):
        from edgead.plant.mqtt.connection import Connection  # only those who have a broker need its package

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
        # No connection is no failure above QoS 0: paho keeps the message and sends it when it has connected again.
        problem = connection.refused(sent.rc)
        if self._qos == 0 and problem:
            raise SinkError(f"{self.uri}: {problem}")
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


def _read_uri(uri: str) -> dict[str, Any]:
    parts, values = read_host(uri, ("qos", "ca_file", "client_id"))
    topic = unquote(parts.path.lstrip("/"))
    if not topic:
        raise SinkError(f"the topic is missing, such as mqtt://{parts.hostname}/edgead")
    tls = parts.scheme == "mqtts"
    if parts.username:
        values |= {"user": unquote(parts.username), "password": unquote(parts.password or "")}
    return values | {"topic": topic, "tls": tls, "port": parts.port or (8883 if tls else 1883)}


register(
    "mqtt",
    MqttOptions,
    MqttSink,
    schemes={scheme: f"{scheme}://USER:PASSWORD@HOST:PORT/TOPIC?qos=1" for scheme in ("mqtt", "mqtts")},
    read_uri=_read_uri,
)
