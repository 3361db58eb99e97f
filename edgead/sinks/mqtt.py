"""Verdicts to an MQTT broker, and messages from it (paho-mqtt)."""

from __future__ import annotations

import logging
import secrets
import socket
import ssl
import sys
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

from edgead.config import MqttSink as MqttSection
from edgead.errors import SettingsError
from edgead.record import record_json
from edgead.sinks.contract import SinkError
from edgead.types import Frame, Verdict

try:
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
except ModuleNotFoundError:
    raise SettingsError("MQTT needs `pip install 'edgead[daemon]'`") from None

_CONNECT_S = 5.0
_LEAVE_S = 1.0
_log = logging.getLogger(__name__)


class _Connection:
    """A client whose thread connects, and connects again, until it is closed; `problem` says why it is not there."""

    def __init__(self, section: MqttSection, client_id: str, *, clean: bool):
        self.uri = f"mqtt{'s' if section.tls else ''}://{section.host}:{section.port}"
        self.problem: str | None = f"{self.uri}: not connected yet"
        self.changed = threading.Condition()
        self.connected = self.closed = False
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id, clean_session=clean)
        self.client.connect_timeout = _CONNECT_S
        if section.user is not None:
            secret = section.password.get_secret_value() if section.password else None
            self.client.username_pw_set(section.user, secret)
        if section.tls:
            self._use_tls(section)
        self.client.reconnect_delay_set(1, max(1, section.retry_most_s))
        self.client.on_connect = self._on_connect
        self.client.on_connect_fail = self._on_connect_fail
        self.client.on_disconnect = self._on_disconnect
        self.on_ready: Callable[[], None] = lambda: None
        self._address = (section.host, section.port, section.keepalive_s)

    def start(self) -> None:
        self.client.connect_async(*self._address)
        self.client.loop_start()

    def close(self) -> None:
        with self.changed:
            if self.closed:
                return
            self.closed = True
            self.changed.notify_all()
        self.client.disconnect()
        # A broker that accepts no connection can hold paho's thread for some seconds: it is not waited for.
        leaving = threading.Thread(target=self.client.loop_stop, name="mqtt close", daemon=True)
        leaving.start()
        leaving.join(_LEAVE_S)

    def _use_tls(self, section: MqttSection) -> None:
        try:
            self.client.tls_set(ca_certs=str(section.ca_file) if section.ca_file else None)
        except (OSError, ssl.SSLError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(f"{self.uri}: ca_file {section.ca_file} cannot be used: {reason}") from None

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        refused = reason.is_failure
        self._tell(
            not refused, f"the broker refuses: {reason}; check user, password and client_id" if refused else None
        )
        if not refused:
            self.on_ready()

    def _on_connect_fail(self, _client: Any, _data: Any) -> None:
        # paho calls this where it handles the exception, and does not hand it over.
        self._tell(False, str(sys.exc_info()[1] or "no connection"))

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        # What the broker said when it refused tells more than that the connection has then ended.
        if self.problem is None and not self.closed:
            self._tell(False, f"the connection has ended: {reason}")

    def _tell(self, connected: bool, problem: str | None) -> None:
        told = None if problem is None else f"{self.uri}: {problem}"
        with self.changed:
            if told != self.problem:
                _log.log(logging.WARNING if told else logging.INFO, "%s", told or f"{self.uri}: connected")
            self.connected, self.problem = connected, told
            self.changed.notify_all()


class MqttSink:
    """Publishes each verdict as JSON, and waits until the broker has acknowledged it.

    One message is under way at a time. So they arrive in order, and when a broker comes back one message at most is
    sent again: with QoS 2 it arrives once, with QoS 1 it may arrive twice, which its `id` tells. Before this stands an
    `edgead.sinks.outlet.Outlet`, where verdicts wait while the broker is away.

    Parameters
    ----------
    name : str
        Of the sink; with QoS 2 part of the client's id, by which a broker knows who comes back.
    section : edgead.config.MqttSink
    """

    needs_image = False

    def __init__(self, name: str, section: MqttSection):
        # With QoS 2 the broker must remember what it has had of this client. Otherwise nobody asks who comes back, and
        # two clients with one id would throw each other out.
        lasting = section.qos == 2
        own = f"{name}-{zlib.crc32(section.topic.encode()):08x}" if lasting else secrets.token_hex(4)
        client_id = section.client_id or f"edgead-{socket.gethostname()}-{own}"
        self._connection = _Connection(section, client_id, clean=not lasting)
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
            raise SinkError(f"{self.uri}: {paho.error_string(sent.rc)}")
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
    section : edgead.config.MqttSink
        Whose broker, user and certificates are used.
    topic : str
    on_message : callable
        Called with the payload, in a thread of the connection; must not block.
    """

    def __init__(self, section: MqttSection, topic: str, on_message: Callable[[bytes], object]):
        self._topic = topic
        self._on_message = on_message
        # An id of its own: two clients with the same one throw each other out.
        self._connection = _Connection(section, "", clean=True)
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
