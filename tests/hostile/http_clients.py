"""Clients that a server on a factory's network may meet: broken ones, and those who would take it away from others."""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import httpx
from fake_daemon import TOKEN
from hostile.served import ServerProcess, Target

BEARER = {"Authorization": f"Bearer {TOKEN}"}
API = "/api/pipelines/front"


@dataclass
class Attack:
    """Runs clients until `stop` is set."""

    server: Target
    stop: threading.Event
    seed: int = 0

    def over_and_over(self, act: Callable[[random.Random], object]) -> None:
        dice = random.Random(self.seed)
        while not self.stop.is_set():
            with suppress(OSError, httpx.HTTPError):
                act(dice)

    def hold(self, count: int, first: bytes, then: bytes = b"", *, receive_bytes: int = 0) -> None:
        """Keep so many connections, each with the first bytes sent, and drip the others into all of them."""
        held: list[socket.socket] = []
        while not self.stop.is_set():
            while len(held) < count and not self.stop.is_set():
                with suppress(OSError):
                    held.append(self.server.connect(receive_bytes=receive_bytes))
                    held[-1].sendall(first)
                # Not as fast as it can: what fills the kernel's own queue is no matter of this program.
                time.sleep(0.001)
            for client in list(held):
                if not then:
                    break
                try:
                    client.sendall(then)
                except OSError:
                    held.remove(client)
                    client.close()
            time.sleep(0.2)
        for client in held:
            client.close()


def _request(method: str, path: str, **more: object) -> Callable[[Attack], None]:
    def attack(this: Attack) -> None:
        widths = itertools.count(64)
        with httpx.Client(base_url=f"http://127.0.0.1:{this.server.port}", headers=BEARER, timeout=5) as client:
            this.over_and_over(lambda dice: client.request(method, path.format(next(widths)), **more))  # type: ignore

    return attack


def garbage(this: Attack) -> None:
    def send(dice: random.Random) -> None:
        with this.server.connect() as client:
            client.sendall(dice.choice((dice.randbytes(200), b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01")))
            client.recv(200)

    this.over_and_over(send)


def endless_chunks(this: Attack) -> None:
    def send(_dice: random.Random) -> None:
        with this.server.connect() as client:
            client.sendall(b"POST /api/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            while not this.stop.is_set():
                client.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")

    this.over_and_over(send)


def wrong_tokens(this: Attack) -> None:
    def send(dice: random.Random) -> None:
        source = (f"127.{dice.randrange(256)}.{dice.randrange(256)}.{1 + dice.randrange(254)}", 0)
        with socket.create_connection(("127.0.0.1", this.server.port), 3, source) as client:
            token = b"%x" % dice.getrandbits(128)
            client.sendall(b"GET /api/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + b"\r\n\r\n")
            client.recv(500)

    this.over_and_over(send)


def pipelined(this: Attack) -> None:
    def send(_dice: random.Random) -> None:
        with this.server.connect() as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
            client.recv(200)

    this.over_and_over(send)


def _held(count: int, first: bytes, then: bytes = b"", **more: int) -> Callable[[Attack], None]:
    return lambda this: this.hold(count, first, then, **more)


_EVENTS = f"GET /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
_LOGIN = b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{"
_STRANGER = b"POST /api/status HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{"
_HALF = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
_UNREAD = b"GET /page/system.js HTTP/1.1\r\nHost: x\r\n\r\n" * 40
_MODEL = {"json": {"model": "first", "by": "Eve"}}

# Name: who attacks, in how many threads. Those of `KNOWN` have the token.
WINDOWS: dict[str, tuple[Callable[[Attack], None], int]] = {
    "nobody": (lambda this: this.stop.wait() and None, 1),
    "garbage_8": (garbage, 8),
    "endless_bodies_8": (endless_chunks, 8),
    "half_requests_60": (_held(60, _HALF), 1),
    "half_requests_64": (_held(64, _HALF), 1),
    "half_requests_80": (_held(80, _HALF), 1),
    "half_requests_that_drip_300": (_held(300, _HALF, b"X-A: b\r\n"), 1),
    "idle_3000": (_held(3000, b""), 1),
    "idle_that_return": (_held(300, b"", b"\r"), 4),
    "sign_in_that_drips_200": (_held(200, _LOGIN, b" "), 1),
    "bodies_of_strangers_that_drip_200": (_held(200, _STRANGER, b" "), 1),
    "answers_unread_100": (_held(100, _UNREAD, receive_bytes=1024), 1),
    "pipelined_4": (pipelined, 4),
    "wrong_tokens_8": (wrong_tokens, 8),
    "events_unread_500": (_held(500, _EVENTS), 1),
    "live_images_in_new_widths_6": (_request("GET", API + "/image?overlay=true&width={}"), 6),
    "exchanges_4": (_request("POST", API + "/model", **_MODEL), 4),
    "exchanges_45": (_request("POST", API + "/model", **_MODEL), 45),
    "thresholds_8": (_request("PUT", API + "/thresholds", json={"review": 0.1, "reject": 0.2, "by": "Eve"}), 8),
    "self_tests_4": (_request("POST", API + "/self-test"), 4),
    "self_tests_45": (_request("POST", API + "/self-test"), 45),
    "status_8": (_request("GET", "/api/status"), 8),
    "metrics_and_verdicts_8": (_request("GET", "/metrics"), 8),
}
KNOWN = frozenset(name for name in WINDOWS if name.startswith(("exchanges", "self_tests", "events", "live_images")))


@dataclass
class Found:
    """What probes saw during a window."""

    probes: dict[str, list[tuple[int, float]]]
    page: list[int]
    most_files: int
    log_lines: int


def window(server: ServerProcess, name: str, for_s: float) -> Found:
    """Attack for a while, and ask meanwhile what a service manager and an operator ask."""
    client, threads = WINDOWS[name]
    stop = threading.Event()
    attackers = [threading.Thread(target=client, args=(Attack(server, stop, seed),)) for seed in range(threads)]
    before = server.log_lines
    found = Found({"/healthz": [], "/readyz": []}, [], 0, 0)
    for attacker in attackers:
        attacker.start()
    try:
        end = time.monotonic() + for_s
        while time.monotonic() < end or len(found.page) < 3:
            for path, seen in found.probes.items():
                seen.append(server.probe(path))
            found.page.append(server.probe("/")[0])
            found.most_files = max(found.most_files, server.files)
            time.sleep(0.1)
    finally:
        stop.set()
        for attacker in attackers:
            attacker.join()
    found.log_lines = server.log_lines - before
    return found
