"""Client of an MQTT broker (paho-mqtt): a connection that reconnects by itself, a publisher, a subscription.

It survives any data from the broker, and keeps each message until the broker has acknowledged it.
"""

from __future__ import annotations

import errno
import logging
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from edgead.errors import EdgeadError, SettingsError
from edgead.plant.mqtt.options import BrokerOptions
from edgead.process.installation import install_command
from edgead.process.log_rate import limited_log

logger = logging.getLogger(__name__)

try:
    from paho.mqtt import client as paho
    from paho.mqtt.client import error_string
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
except ModuleNotFoundError:
    raise SettingsError(f"MQTT needs `{install_command('daemon')}`") from None


_CONNECT_S = 5.0
_LEAVE_S = 1.0
# After a connection that lasted at least this long, the next one is tried soon.
_STEADY_S = 10.0
# Longest message taken from a broker: a trigger's payload is not even read.
_MAX_BYTES = 2**20
# Most answers that wait for a broker which sends on without taking them.
_MAX_ANSWERS = 1000
_MAX_RECORDS, _WITHIN_S = 20, 60.0
_AGAIN_S = 1.0
_PUBLISH, _QOS_2 = 0x30, 0x04


class _TlsSocket(ssl.SSLSocket):
    """TLS socket that closes itself if the handshake fails; paho would leave it open until garbage collection."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


class _Client(paho.Client):
    """Paho client that ends a connection whose data would fill the memory or end paho's thread; `excess` says why."""

    excess: str | None = None
    leaving = False

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:
        # An exception would end paho's thread, and with it all sending and receiving.
        while True:
            try:
                return super().loop_forever(timeout, retry_first_connection)
            except Exception:  # noqa: BLE001  the edge of a thread
                logger.exception("the connection to an MQTT broker failed unforeseen, and is made again")
            time.sleep(_AGAIN_S)
            if self.leaving:
                return MQTTErrorCode.MQTT_ERR_NO_CONN
            with suppress(OSError):  # what cannot be reached yet the loop tries again
                self.reconnect()

    def _sock_recv(self, bufsize: int) -> bytes:
        # paho asks for the rest of a message at once, however long its header says that it is.
        if bufsize > _MAX_BYTES:
            self.excess = f"the broker sends {bufsize} bytes in one message, taken are {_MAX_BYTES}"
            raise OSError(errno.EMSGSIZE, self.excess)
        return super()._sock_recv(bufsize)

    def _packet_handle(self) -> MQTTErrorCode:
        command = self._in_packet["command"]
        if command & 0xF0 == _PUBLISH and command & _QOS_2:
            # Nothing was subscribed to with it, and paho keeps each message until the broker releases it.
            self.excess = "the broker sends messages with a QoS that was not asked for"
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        if len(self._out_packet) > _MAX_ANSWERS:
            self.excess = "the broker sends without end, and takes no answer"
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        try:
            return super()._packet_handle()
        except Exception as error:  # noqa: BLE001  it would end paho's thread, and with it all that comes later
            self.excess = f"the broker sends what cannot be read ({type(error).__name__})"
            return MQTTErrorCode.MQTT_ERR_PROTOCOL


class MqttConnection:
    """Connection to an MQTT broker; until `close`, a thread makes it again after every failure.

    `uri`: address of the broker, without credentials.
    `problem`: reason why there is no connection.
    `changed`: notified when `connected`, `closed` or `problem` changes; hold it to read them together.
    `client`: client; users of this class set its callbacks for messages, publications and subscriptions. `on_ready` is
        called after each connection.
    """

    def __init__(self, section: BrokerOptions, client_id: str, *, clean: bool):
        self.uri = f"mqtt{'s' if section.tls else ''}://{section.host}:{section.port}"
        self.problem: str | None = f"{self.uri}: not connected yet"
        self.changed = threading.Condition()
        self.connected = self.closed = False
        self.client = _Client(CallbackAPIVersion.VERSION2, client_id, clean_session=clean)
        self.client.connect_timeout = _CONNECT_S
        if section.user is not None:
            secret = section.password.get_secret_value() if section.password else None
            self.client.username_pw_set(section.user, secret)
        if section.tls:
            self._use_tls(section)
        self._retry_most_s = max(1, section.retry_most_s)
        self._pause_s = 0
        self._connected_s: float | None = None
        self.client.reconnect_delay_set(1, self._retry_most_s)
        self.client.on_connect = self._on_connect
        self.client.on_connect_fail = self._on_connect_fail
        self.client.on_disconnect = self._on_disconnect
        self.on_ready: Callable[[], None] = lambda: None
        self._log = limited_log(__name__, _MAX_RECORDS, _WITHIN_S)
        self._address = (section.host, section.port, section.keepalive_s)

    def start(self) -> None:
        self.client.connect_async(*self._address)
        self.client.loop_start()

    @staticmethod
    def refused(code: MQTTErrorCode) -> str | None:
        """Return the reason why the client refused a message; None if it accepted it."""
        return None if code == MQTTErrorCode.MQTT_ERR_SUCCESS else error_string(code)

    def close(self) -> None:
        with self.changed:
            if self.closed:
                return
            self.closed = True
            self.changed.notify_all()
        self.client.leaving = True
        self.client.disconnect()
        # A broker that accepts no connection can hold paho's thread for some seconds: it is not waited for.
        leaving = threading.Thread(target=self.client.loop_stop, name="mqtt close", daemon=True)
        leaving.start()
        leaving.join(_LEAVE_S)

    def _use_tls(self, section: BrokerOptions) -> None:
        try:
            context = ssl.create_default_context(cafile=section.ca_file)
            context.sslsocket_class = _TlsSocket
            self.client.tls_set_context(context)
        except (OSError, ssl.SSLError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(f"{self.uri}: ca_file {section.ca_file} cannot be used: {reason}") from None

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        refused = reason.is_failure
        self._tell(
            not refused, f"the broker refuses: {reason}; check user, password and client_id" if refused else None
        )
        if not refused:
            self._connected_s = time.monotonic()
            self.on_ready()

    def _on_connect_fail(self, _client: Any, _data: Any) -> None:
        # paho calls this where it handles the exception, and does not hand it over.
        self._tell(False, str(sys.exc_info()[1] or "no connection"))

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        # The broker's refusal says more than the end of the connection that follows it.
        if self.problem is None and not self.closed:
            self._tell(False, self.client.excess or f"the connection has ended: {reason}")
        self.client.excess = None
        self._lengthen_pause()

    def _lengthen_pause(self) -> None:
        """Double the pause after each connection that did not last; paho alone would reset it at every connection."""
        lasted = self._connected_s is not None and time.monotonic() - self._connected_s >= _STEADY_S
        self._connected_s = None
        self._pause_s = 1 if lasted else min(max(1, 2 * self._pause_s), self._retry_most_s)
        self.client.reconnect_delay_set(self._pause_s, self._retry_most_s)

    def _tell(self, connected: bool, problem: str | None) -> None:
        text = None if problem is None else f"{self.uri}: {problem}"
        with self.changed:
            if text != self.problem:
                self._log.log(logging.WARNING if text else logging.INFO, "%s", text or f"{self.uri}: connected")
            self.connected, self.problem = connected, text
            self.changed.notify_all()


class Publisher:
    """Publisher of messages over a connection, which waits until the broker has acknowledged them.

    `uri`: name of the receiver in errors.
    `failed`: class of the errors raised if a message could not be delivered.
    """

    def __init__(self, connection: MqttConnection, uri: str, failed: type[EdgeadError]):
        self._connection, self._uri, self._failed = connection, uri, failed
        self._acknowledged: deque[int] = deque(maxlen=1000)  # numbers come again after 65,535
        connection.client.on_publish = self._hear

    def wait_until_there(self) -> None:
        """Wait until the broker is connected, however long; raise `failed` if the connection is closed first."""
        connection = self._connection
        with connection.changed:
            connection.changed.wait_for(lambda: connection.connected or connection.closed)
            if connection.closed:
                raise self._failed(f"{self._uri}: closed before the broker was there")

    def publish(self, topic: str, payload: bytes | str, qos: int, *, retain: bool = False) -> None:
        """Publish, and wait until the broker has acknowledged it; see `send` and `wait`."""
        self.wait(self.send(topic, payload, qos, retain=retain), qos)

    def send(self, topic: str, payload: bytes | str, qos: int, *, retain: bool = False) -> int:
        """Queue a message, which the broker keeps for later subscribers if `retain`; return its number.

        Raises EdgeadError: `failed`: the topic cannot be used or, with QoS 0, there is no connection.
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

        Raises EdgeadError: `failed`: the connection ended.
        """
        connection = self._connection
        with connection.changed:
            connection.changed.wait_for(
                # Without acknowledgements, a message under way is lost when the connection ends.
                lambda: number in self._acknowledged or connection.closed or not (qos or connection.connected)
            )
            if number not in self._acknowledged:
                raise self._failed(f"{self._uri}: the connection ended before the verdict was acknowledged")

    def _hear(self, _client: Any, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        with self._connection.changed:
            self._acknowledged.append(mid)
            self._connection.changed.notify_all()


class MqttSubscription:
    """Subscription to a topic, which calls a function with every message.

    Messages sent while there was no connection, and retained messages, are ignored: they are old, and a trigger means
    the present.

    `section`: options with the broker, the user and the certificates.
    `on_message`: called with the payload, in a thread of the connection; must not block.
    """

    def __init__(self, section: BrokerOptions, topic: str, on_message: Callable[[bytes], object]):
        self._topic = topic
        self._on_message = on_message
        # An id of its own: two clients with the same one throw each other out.
        self._connection = MqttConnection(section, "", clean=True)
        self.uri = f"{self._connection.uri}/{topic}"
        self._connection.on_ready = self._subscribe
        self._connection.client.on_message = self._receive
        self._connection.client.on_subscribe = self._hear
        self._subscribed = False
        self._connection.start()

    @property
    def problem(self) -> str | None:
        return self._connection.problem

    def wait(self, timeout_s: float) -> bool:
        """Wait until the broker has accepted the subscription, so that no later message is missed; False if not."""
        with self._connection.changed:
            return self._connection.changed.wait_for(
                lambda: self._connection.connected and self._subscribed, max(0.0, timeout_s)
            )

    def close(self) -> None:
        self._connection.close()

    def _subscribe(self) -> None:
        self._subscribed = False
        self._connection.client.subscribe(self._topic, qos=1)

    def _hear(self, *_: Any) -> None:
        with self._connection.changed:
            self._subscribed = True
            self._connection.changed.notify_all()

    def _receive(self, _client: Any, _data: Any, message: Any) -> None:
        if not message.retain:
            self._on_message(message.payload)
