"""Verdicts and notices to an MQTT broker (paho-mqtt)."""

from __future__ import annotations

import secrets
import socket
import zlib
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import Field

from edgead.plant.mqtt.options import BrokerOptions
from edgead.serialization import record_json
from edgead.serialization.notice import Notice, notice_json
from edgead.sinks.contract import BaseSink, SinkError
from edgead.sinks.options import QueuedSinkOptions, read_host
from edgead.sinks.registry import register
from edgead.types import Frame, Verdict


class MqttOptions(QueuedSinkOptions, BrokerOptions):
    """Verdicts as JSON to an MQTT broker; while it does not answer, they wait in order."""

    kind: Literal["mqtt"] = "mqtt"
    topic: Annotated[str, Field(description="{pipeline} stands for the pipeline's name.")] = "edgead/{pipeline}/verdict"
    notice_topic: Annotated[
        str,
        Field(description="Topic of notices, retained; {name} is the pipeline, camera or sink, {kind} the kind."),
    ] = "edgead/{name}/notice/{kind}"
    qos: Annotated[int, Field(ge=0, le=2, description="0 at most once, 1 at least once, 2 exactly once.")] = 1
    client_id: Annotated[
        str | None, Field(description="Client's id; by default new, with QoS 2 made of computer, sink and topic.")
    ] = None

    @property
    def takes_notices(self) -> bool:
        return True


class MqttSink(BaseSink):
    """Sink that publishes each verdict as JSON, and waits until the broker has acknowledged it.

    Only one message is sent at a time, so messages arrive in order, and a lost connection repeats at most one message.
    With QoS 2 it arrives once; with QoS 1 it may arrive twice, with the same `id`. Verdicts wait in an
    `edgead.sinks.queued.QueuedSink` before this sink while the broker does not answer.

    `name`: name of the sink; with QoS 2 part of the client's id, by which a broker recognises it.
    """

    needs_image = False
    retains_notices = True

    def __init__(self, name: str, section: MqttOptions):
        # Here, as only those who have a broker need its package.
        from edgead.plant.mqtt.client import MqttConnection, Publisher

        # With QoS 2 the broker must remember what it has had of this client. Otherwise nobody asks who comes back, and
        # two clients with one id would throw each other out.
        lasting = section.qos == 2
        own = f"{name}-{zlib.crc32(section.topic.encode()):08x}" if lasting else secrets.token_hex(4)
        client_id = section.client_id or f"edgead-{socket.gethostname()}-{own}"
        self._connection = MqttConnection(section, client_id, clean=not lasting)
        self.uri = f"{self._connection.uri}/{section.topic}"
        self._topic, self._notice_topic = section.topic, section.notice_topic
        self._qos = section.qos
        self._publisher = Publisher(self._connection, self.uri, SinkError)
        self._connection.start()

    @property
    def problem(self) -> str | None:
        return self._connection.problem

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Publish a verdict, and wait until the broker acknowledges it, or the sink is closed."""
        topic = self._topic.replace("{pipeline}", verdict.pipeline or "stream")
        self._publisher.wait_until_there()
        self._publisher.publish(topic, record_json(frame, verdict), self._qos)

    def notify(self, notice: Notice) -> None:
        """Publish a notice as `write` publishes a verdict; the broker keeps it for later subscribers."""
        topic = self._notice_topic.replace("{name}", notice.name).replace("{kind}", notice.kind)
        self._publisher.wait_until_there()
        self._publisher.publish(topic, notice_json(notice), self._qos, retain=True)

    def close(self) -> None:
        self._connection.close()


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
