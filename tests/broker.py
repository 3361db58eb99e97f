"""A real mosquitto with passwords and, where asked for, TLS; and a client that receives like any other program."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from certificates import write_certificates
from patience import MAX_S
from system_packages import require

USER, PASSWORD = "line7", "hunter2-is-secret"


def wait_for_port(process: subprocess.Popen, port: int, log: Path) -> None:
    """Wait until a server answers; fails with its log where it has ended."""
    deadline = time.monotonic() + MAX_S
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=MAX_S).close()
            return
        except OSError:
            time.sleep(0.02)


class Broker:
    """Keeps its sessions in a folder over a restart, as a broker in production does."""

    def __init__(self, folder: Path, *, tls: bool = False):
        self._program = require("mosquitto")
        folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        passwords = folder / "passwords"
        subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, USER, PASSWORD], check=True, capture_output=True)
        self.ca_file = folder / "ca.pem" if tls else None
        self._config = folder / "mosquitto.conf"
        self._log = folder / "log"
        lines = [
            "user root",
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous false",
            f"password_file {passwords}",
            "persistence true",
            f"persistence_location {folder}/",
            "max_queued_messages 0",
        ]
        if tls:
            write_certificates(folder)
            lines += [f"certfile {folder}/server.pem", f"keyfile {folder}/server.key"]
        self._config.write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen([self._program, "-c", self._config], stdout=log, stderr=log)
        wait_for_port(self.process, self.port, self._log)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(MAX_S)
            self.process = None


class Receiver:
    """Receives into `records`, with a session that outlives the broker."""

    def __init__(self, broker: Broker, topic: str, qos: int, *, name: str = "receiver"):
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        self.records: list[dict] = []
        self.topics: list[str] = []
        self.retained: list[bool] = []
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, name, clean_session=False)
        self._client.username_pw_set(USER, PASSWORD)
        if broker.ca_file:
            self._client.tls_set(ca_certs=str(broker.ca_file))
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._receive
        self._client.connect("127.0.0.1", broker.port, 5)
        self._client.loop_start()
        assert self._subscribed.wait(MAX_S)

    def _receive(self, _client, _data, message) -> None:
        self.topics.append(message.topic)
        self.retained.append(message.retain)
        self.records.append(json.loads(message.payload))

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Sends it now or, where this client has not come back to the broker yet, once it has."""
        from paho.mqtt.enums import MQTTErrorCode

        message = self._client.publish(topic, payload, 1, retain)
        if message.rc != MQTTErrorCode.MQTT_ERR_NO_CONN:
            message.wait_for_publish(MAX_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
