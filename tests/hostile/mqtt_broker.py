"""A broker that speaks MQTT 3.1.1 as far as edgead needs it, or sends packets of a chosen hostile kind."""

from __future__ import annotations

import itertools
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, PINGREQ = 1, 3, 8, 10, 12
CONNACK_OK = b"\x20\x02\x00\x00"
TOPIC = b"line7/trigger"
_LONGEST_S = 8.0

Packets = Iterable[bytes]


def packet(head: int, body: bytes) -> bytes:
    length, size = b"", len(body)
    while True:
        size, low = divmod(size, 128)
        length += bytes([low | (0x80 if size else 0)])
        if not size:
            return bytes([head]) + length + body


def message(payload: bytes, *, qos: int = 0, mid: int = 1, retain: bool = False, topic: bytes = TOPIC) -> bytes:
    number = struct.pack(">H", mid) if qos else b""
    return packet(0x30 | qos << 1 | retain, struct.pack(">H", len(topic)) + topic + number + payload)


def _after_connack(*packets: bytes) -> Callable[[], Packets]:
    return lambda: (CONNACK_OK, *packets)


def _flood(part: Callable[[int], bytes]) -> Iterator[bytes]:
    yield CONNACK_OK
    end = time.monotonic() + _LONGEST_S
    for number in itertools.count(1):
        if time.monotonic() > end:
            return
        yield part(number % 65535 + 1)


def _drip() -> Iterator[bytes]:
    for byte in CONNACK_OK + message(b"x" * 50):
        yield bytes([byte])
        time.sleep(0.05)


def _huge() -> Iterator[bytes]:
    """200 MB are announced, and sent as long as somebody takes them."""
    yield CONNACK_OK + b"\x30\x80\x84\xaf\x5f" + struct.pack(">H", len(TOPIC)) + TOPIC
    for _ in range(200):
        yield bytes(10**6)


def _noise() -> bytes:
    return random.Random(7).randbytes(2000)


# What is sent after a client's CONNECT; then the connection is held for a while.
KINDS: dict[str, Callable[[], Packets]] = {
    "noise": lambda: (_noise(),),
    "noise_after_connack": lambda: (CONNACK_OK, _noise()),
    "http": lambda: (b"HTTP/1.1 400 Bad Request\r\n\r\n",),
    "silence": lambda: (),
    "silence_after_connack": _after_connack(),
    "half_a_connack": lambda: (CONNACK_OK[:3],),
    "connack_without_body": lambda: (b"\x20\x00",),
    "connack_of_100_bytes": lambda: (packet(0x20, bytes(100)),),
    "not_authorized": lambda: (b"\x20\x02\x00\x05",),
    "refused_for_99": lambda: (b"\x20\x02\x00\x63",),
    "connack_twice": _after_connack(CONNACK_OK),
    "length_without_end": _after_connack(b"\x30\xff\xff\xff\xff\xff"),
    "200_megabytes": _huge,
    "qos_3": _after_connack(packet(0x36, b"\x00\x01x\x00\x01y")),
    "publish_without_topic": _after_connack(b"\x30\x00"),
    "topic_longer_than_packet": _after_connack(packet(0x30, b"\xff\xffx")),
    "topic_without_utf_8": _after_connack(message(b"x", topic=b"\xff\xfe\x00")),
    "topic_empty": _after_connack(message(b"x", topic=b"")),
    "retained": _after_connack(message(b"x", retain=True)),
    "puback_of_nothing": _after_connack(b"\x40\x02\x30\x39"),
    "puback_without_body": _after_connack(b"\x40\x00"),
    "pubrec_of_nothing": _after_connack(b"\x50\x02\x30\x39"),
    "pubrel_of_nothing": _after_connack(b"\x62\x02\x30\x39"),
    "pubcomp_without_body": _after_connack(b"\x70\x00"),
    "suback_without_body": _after_connack(b"\x90\x00"),
    "suback_of_nothing": _after_connack(b"\x90\x03\x30\x39\x80"),
    "unsuback_of_nothing": _after_connack(b"\xb0\x02\x30\x39"),
    "a_connect_back": _after_connack(packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x0f\x00\x00")),
    "disconnect": _after_connack(b"\xe0\x00"),
    "reserved_0": _after_connack(b"\x00\x00"),
    "reserved_15": _after_connack(b"\xf0\x00"),
    "drip": _drip,
    "ping_flood": lambda: _flood(lambda _: b"\xc0\x00" * 500),
    "qos_1_flood": lambda: _flood(lambda mid: message(b"x" * 50, qos=1, mid=mid) * 100),
    "qos_2_flood": lambda: _flood(lambda mid: message(bytes(100_000), qos=2, mid=mid)),
}
# The connection is closed at once after what is sent.
BREAKS = {
    "accepts_and_breaks": _after_connack(),
    "breaks": lambda: (),
    "breaks_in_connack": lambda: (CONNACK_OK[:3],),
    "breaks_in_a_message": _after_connack(message(b"x" * 50)[:-9]),
}


class HostileBroker:
    """Sends `attack`'s packets to each client; without one it is a decent broker, which publishes `go` when asked."""

    def __init__(self, attack: Callable[[], Packets] | None, *, holds: bool = True):
        self.attack, self._holds = attack, holds
        self.connects: list[float] = []
        self.sent_bytes = 0
        self.published: list[bytes] = []
        self._subscribers: list[socket.socket] = []
        self._clients: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def become_decent(self) -> None:
        self.attack = None
        self._end_clients()

    def say(self, payload: bytes) -> None:
        for client in self._subscribers:
            with suppress(OSError):
                client.sendall(message(payload))

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._end_clients()

    def _end_clients(self) -> None:
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._clients.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, IndexError), client, client.makefile("rb") as stream:
            while True:
                head, body = _read(stream)
                kind = head >> 4
                if kind == CONNECT:
                    self.connects.append(time.monotonic())
                if kind == CONNECT and self.attack is not None:
                    for part in self.attack():
                        client.sendall(part)
                        self.sent_bytes += len(part)
                    if not self._holds:
                        return
                elif self.attack is None:
                    self._answer(client, head, body)

    def _answer(self, client: socket.socket, head: int, body: bytes) -> None:
        kind, qos = head >> 4, head >> 1 & 3
        if kind == CONNECT:
            client.sendall(CONNACK_OK)
        elif kind == SUBSCRIBE:
            client.sendall(packet(0x90, body[:2] + b"\x01"))
            self._subscribers.append(client)
        elif kind == PINGREQ:
            client.sendall(b"\xd0\x00")
        elif kind == PUBLISH:
            end = 2 + struct.unpack(">H", body[:2])[0]
            self.published.append(body[end + 2 * bool(qos) :])
            if qos:
                client.sendall(packet(0x40, body[end : end + 2]))
        elif kind == UNSUBSCRIBE:
            client.sendall(packet(0xB0, body[:2]))


def _read(stream) -> tuple[int, bytes]:
    head, size, shift = stream.read(1)[0], 0, 0
    while True:
        byte = stream.read(1)[0]
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return head, stream.read(size)
