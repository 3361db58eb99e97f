"""Sink that publishes verdicts by Sparkplug B: this computer is an edge node, and each pipeline a device of it."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from edgead.plant.mqtt.options import BrokerOptions
from edgead.process.log_rate import limited_log
from edgead.sinks import BaseSink, SinkError, register
from edgead.sinks.options import QueuedSinkOptions
from edgead.types import DECISIONS, FAULT, Frame, Verdict
from edgead.version import __version__
from edgead_plant.sparkplug import BIRTH_DEATH, REBIRTH, Metric, asks_for_rebirth, encode, topic

_LEAVE_S = 1.0
_Id = Annotated[str, Field(pattern=r"^[^/+#\x00-\x1f]{1,64}$")]


class SparkplugOptions(QueuedSinkOptions, BrokerOptions):
    """Verdicts by Sparkplug B to an MQTT broker; they wait if it is away (`pip install 'edgead-plant[sparkplug]'`)."""

    kind: Literal["sparkplug"]
    group: Annotated[_Id, Field(description="Sparkplug's group.")] = "edgead"
    node: Annotated[
        _Id | None, Field(description="Sparkplug's edge node, unique in its group; by default the computer's name.")
    ] = None
    client_id: Annotated[str | None, Field(description="By default made of group and node.")] = None


class NotSent(SinkError):
    """Loss of a message: the connection ended before the broker had received it."""


class SparkplugSink(BaseSink):
    """Sink that publishes a DDATA message for each verdict, after the birth messages of the node and its devices.

    Verdicts wait while the broker is away, and are sent later marked as historical. Sparkplug requires QoS 0, which no
    broker acknowledges: after each verdict the broker gets another request, whose answer proves that it has received
    the verdict. So no verdict is lost; after a broken connection a verdict may come twice, with the same id.
    """

    needs_image = False

    def __init__(self, section: SparkplugOptions):
        from edgead.plant.mqtt.client import MqttConnection  # here, as only users of a broker need its package
        from edgead_plant.sparkplug_publisher import SparkplugPublisher

        self._group, self._node = section.group, section.node or socket.gethostname()
        # The same id after a restart: the broker ends this node's old session, and sends its death before the birth.
        client_id = section.client_id or f"edgead-{self._group}-{self._node}"
        encode((), 0)  # raises if protobuf is not installed
        self._connection = MqttConnection(section, client_id, clean=True)
        self.uri = f"{self._connection.uri}/spBv1.0/{self._group}/{self._node}"
        self._publisher = SparkplugPublisher(self._connection, self.uri, NotSent)
        self._lock = threading.RLock()  # held so that messages are sent in the order of their sequence numbers
        self._seq = 0
        self._log = limited_log(__name__, 20, 60.0)
        # A random start: a death message of the previous process is hardly taken for this one's.
        self._birth_death = secrets.randbelow(256)
        self._born_ms: int | None = None
        self._counts: dict[str, Counter[str]] = {}
        self._last: dict[str, list[Metric]] = {}
        client = self._connection.client
        client.on_pre_connect = self._before_connect
        client.on_message = self._command
        self._connection.on_ready = self._connected
        self._connection.start()

    @property
    def problem(self) -> str | None:
        return self._connection.problem

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Publish a verdict, and wait until the broker has received it or the sink is closed.

        If the connection breaks before that, the verdict is published again after the next birth messages.
        """
        device = verdict.pipeline or "stream"
        counts = self._counts.setdefault(device, Counter())
        counts[verdict.decision] += 1
        connection = self._connection
        while True:
            with connection.changed:
                connection.changed.wait_for(lambda: self._is_born or connection.closed)
                if connection.closed:
                    raise SinkError(f"{self.uri}: closed before the broker was there")
            try:
                self._publish(device, _metrics(frame, verdict, counts, self._born_ms or 0))
                return
            except NotSent as error:
                self._log.info("%s", error)

    @property
    def _is_born(self) -> bool:
        return self._connection.connected and self._born_ms is not None

    def _publish(self, device: str, metrics: list[Metric]) -> None:
        with self._lock:
            if device not in self._last:
                unknown = [Metric(metric.name, metric.kind, None) for metric in metrics]
                self._publisher.send(*self._message("DBIRTH", unknown, device), 0)
            self._last[device] = metrics
            self._publisher.send(*self._message("DDATA", metrics, device), 0)
        self._publisher.wait_until_received()

    def close(self) -> None:
        """Publish the node's death message: the broker does so by itself only when the connection breaks."""
        connection = self._connection
        with self._lock:
            if self._is_born and not connection.closed:
                left = connection.client.publish(*self._death(), qos=1)
                deadline_s = time.monotonic() + _LEAVE_S
                while not left.is_published() and connection.connected and time.monotonic() < deadline_s:
                    time.sleep(0.01)
        connection.close()

    # Called in paho's thread

    def _before_connect(self, _client: Any, _data: Any) -> None:
        with self._connection.changed:
            self._born_ms = None
        self._birth_death = (self._birth_death + 1) % 256
        self._connection.client.will_set(*self._death(), qos=1)

    def _connected(self) -> None:
        self._connection.client.subscribe(topic(self._group, "NCMD", self._node), qos=1)
        self._bear()

    def _command(self, _client: Any, _data: Any, message: Any) -> None:
        if asks_for_rebirth(message.payload):
            self._bear()

    def _bear(self) -> None:
        """Publish the birth messages of the node and all its devices, and restart the sequence numbers."""
        client = self._connection.client
        metrics = [
            Metric(BIRTH_DEATH, "UInt64", self._birth_death),
            Metric(REBIRTH, "Boolean", False),
            Metric("Properties/Software", "String", f"edgead {__version__}"),
        ]
        with self._lock:
            self._seq = 0
            client.publish(*self._message("NBIRTH", metrics), qos=0)
            for device, last in self._last.items():
                now = [replace(metric, historical=False) for metric in last]
                client.publish(*self._message("DBIRTH", now, device), qos=0)
            with self._connection.changed:
                self._born_ms = self._born_ms or _now_ms()
                self._connection.changed.notify_all()

    def _message(self, message: str, metrics: list[Metric], device: str | None = None) -> tuple[str, bytes]:
        payload = encode(metrics, _now_ms(), self._seq)
        self._seq = (self._seq + 1) % 256
        return topic(self._group, message, self._node, device), payload

    def _death(self) -> tuple[str, bytes]:
        metrics = [Metric(BIRTH_DEATH, "UInt64", self._birth_death)]
        return topic(self._group, "NDEATH", self._node), encode(metrics, _now_ms())


def _metrics(frame: Frame, verdict: Verdict, counts: Counter[str], born_ms: int) -> list[Metric]:
    at_ms = round(frame.captured_at.timestamp() * 1e3)
    values: list[tuple[str, Any, Any]] = [
        ("Verdict/Id", "String", frame.id),
        ("Verdict/Decision", "String", verdict.decision),
        ("Verdict/Score", "Double", float(verdict.image_score)),
        ("Verdict/Threshold", "Double", float(verdict.threshold)),
        ("Verdict/Kind", "String", verdict.kind or ""),
        ("Part/Serial", "String", frame.part.serial),
        ("Part/Batch", "String", frame.part.batch),
        ("Part/Recipe", "String", frame.part.recipe),
        ("Properties/Model", "String", verdict.model),
        ("Counters/Judged", "UInt64", counts.total()),
        *((f"Counters/{decision.capitalize()}", "UInt64", counts[decision]) for decision in (*DECISIONS, FAULT)),
    ]
    return [Metric(*value, timestamp_ms=at_ms, historical=at_ms < born_ms) for value in values]


def _now_ms() -> int:
    return time.time_ns() // 10**6


register("sparkplug", SparkplugOptions, lambda name, options: SparkplugSink(options))
