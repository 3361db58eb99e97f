"""Connections that bring no request in time, too many of them, and what strangers may write into the log."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
import time

import cv2
import httpx
import numpy as np
import pytest
import uvicorn
from fake_daemon import TOKEN, FakeDaemon
from patience import MAX_S, wait_until
from pydantic import SecretStr

from edgead.line.site.schema import HttpSection
from edgead.line.web import connections, load_limits
from edgead.line.web.app import build_app
from edgead.line.web.load_limits import ConcurrencyLimit
from edgead.line.web.server import serve

LOGIN = b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
STRANGER = b"POST /api/status HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{"


@pytest.fixture
def port(tmp_path, monkeypatch):
    for name in ("HEADER_S", "BODY_S", "LINGER_S"):
        monkeypatch.setattr(connections, name, 0.4)
    daemon = FakeDaemon(tmp_path, http=HttpSection(port=0, token=SecretStr(TOKEN)))
    server = serve(build_app(daemon), daemon.site.http)
    yield server.port
    server.close()


def connect(port, source="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", port), MAX_S, (source, 0))


def is_ended(client, drip=b""):
    """Whether the server ends it."""
    begin = time.monotonic()
    client.settimeout(0.05)
    while time.monotonic() - begin < MAX_S:
        try:
            client.sendall(drip)
            if client.recv(4096) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.mark.parametrize(
    ("first", "drip"),
    [
        (b"", b""),
        (b"GET /healthz HTTP/1.1\r\n", b""),
        (b"GET /healthz HTTP/1.1\r\n", b"X: y\r\n"),
        (LOGIN, b" "),
        (STRANGER, b" "),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"X"),
    ],
    ids=["idle", "half", "dripping header", "dripping body", "body of a stranger", "dripping second request"],
)
def test_what_brings_no_request_in_time_is_ended(port, first, drip):
    begin = time.monotonic()
    with connect(port) as client:
        client.sendall(first)
        assert is_ended(client, drip) and time.monotonic() - begin > 0.2


def test_a_slow_but_honest_client_is_served(port, monkeypatch):
    monkeypatch.setattr(connections, "HEADER_S", 2.0)
    with connect(port) as client:
        for part in (b"GET /healthz HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n") * 2:
            time.sleep(0.35)
            client.sendall(part)
        received = b""
        while received.count(b'{"alive":true}') < 2:
            received += client.recv(4096)


def test_beyond_the_limit_one_of_the_greedy_goes_and_nobody_else(port, monkeypatch):
    monkeypatch.setattr(connections, "HEADER_S", 60.0)  # to connect so often may take longer than a header may
    with connect(port) as honest:
        greedy = [connect(port, "127.0.0.9") for _ in range(connections.MAX_CONNECTIONS + 20)]
        try:
            honest.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert honest.recv(4096).startswith(b"HTTP/1.1 200")
            for client in greedy[:21]:
                assert client.recv(1) == b""
            greedy[21].settimeout(0.05)
            with pytest.raises(TimeoutError):
                greedy[21].recv(1)
        finally:
            for client in greedy:
                client.close()


def test_garbage_without_end_fills_no_log(port, caplog):
    for _ in range(40):
        with connect(port) as client:
            client.sendall(b"\x16\x03\x01 what is this\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 400")
    records = [record for record in caplog.records if record.name == "uvicorn.error" and record.levelno > logging.INFO]
    assert 1 <= len(records) <= 10


def test_more_requests_than_are_worked_on_are_refused_but_open_ones_are_answered():
    entered, statuses, gate = [], [], asyncio.Event()

    async def app(scope, receive, send):
        entered.append(scope["path"])
        await gate.wait()

    async def send(message):
        statuses.append(message.get("status"))

    async def whole():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def ask():
        limit = ConcurrencyLimit(app)
        paths = ["/api/status"] * 70 + ["/api/login"] * 10 + ["/healthz", "/readyz", "/", "/page/style.css"] * 50
        tasks = [asyncio.create_task(limit({"type": "http", "path": path}, whole, send)) for path in paths]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks)
        await limit({"type": "http", "path": "/api/status"}, whole, send)

    asyncio.run(ask())
    assert statuses.count(503) == 6 + 2
    assert entered.count("/api/status") == 65 and entered.count("/healthz") == 50


def test_strangers_who_dawdle_take_no_place_from_who_signs_in(port, monkeypatch):
    monkeypatch.setattr(connections, "BODY_S", 2 * MAX_S)
    clients = [connect(port) for _ in range(20)]
    try:
        for client in clients:
            client.sendall(LOGIN)
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200)
        answer = httpx.post(f"http://127.0.0.1:{port}/api/login", json={"token": TOKEN}, timeout=MAX_S)
        assert answer.status_code == 200, answer.text
        more = iter([b"x" * 40_000, b"x" * 40_000])
        assert httpx.post(f"http://127.0.0.1:{port}/api/login", content=more, timeout=MAX_S).status_code == 413
    finally:
        for client in clients:
            client.close()


def test_who_dawdles_with_an_image_takes_no_place_from_who_sends_one(port, monkeypatch):
    monkeypatch.setattr(connections, "BODY_S", 2 * MAX_S)
    head = f"POST /api/pipelines/front/judge HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Content-Type: image/png\r\nContent-Length: 999999\r\n\r\n\x89"
    clients = [connect(port) for _ in range(70)]  # more than requests may be under way
    try:
        for client in clients:
            client.sendall(head.encode("latin-1"))
        url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {TOKEN}"}
        wait_until(lambda: httpx.get(f"{url}/healthz").status_code == 200)
        image, kind = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes(), {"Content-Type": "image/png"}
        answer = httpx.post(f"{url}/api/pipelines/front/judge", content=image, headers=headers | kind, timeout=MAX_S)
        assert answer.status_code == 200, answer.text
        assert httpx.get(f"{url}/api/status", headers=headers, timeout=MAX_S).status_code == 200
    finally:
        for client in clients:
            client.close()


def test_of_bodies_that_take_too_much_memory_the_one_that_began_first_is_given_up(monkeypatch):
    """Not one that a client sends at once while others dawdle."""
    monkeypatch.setattr(load_limits, "_MAX_ARRIVING", 1000)
    answers: dict[str, int] = {}
    lengths: dict[str, int] = {}

    async def app(scope, receive, send):
        message: dict = {"more_body": True}
        while message["more_body"]:
            message = await receive()
            name = scope["path"]
            lengths[name] = lengths.get(name, 0) + len(message["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def requests():
        limit = ConcurrencyLimit(app)
        go_on, tasks = asyncio.Event(), []

        def ask(name, pieces, dawdles):
            async def receive():
                if len(pieces) == 1 and dawdles:
                    await go_on.wait()
                return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

            async def send(message):
                answers.setdefault(name, message.get("status", 0))

            scope = {"type": "http", "path": name, "method": "POST", "headers": []}
            tasks.append(asyncio.ensure_future(limit(scope, receive, send)))

        for name in ("/first", "/second"):
            ask(name, [b"x" * 400, b"y"], True)
        await asyncio.sleep(0)
        ask("/honest", [b"x" * 300, b"x" * 300], False)
        await asyncio.sleep(0.01)
        assert answers == {"/honest": 200} and lengths == {"/honest": 600}
        assert sum(one.size for one in limit._arriving) == 400
        go_on.set()
        await asyncio.gather(*tasks)

    asyncio.run(requests())
    assert answers == {"/honest": 200, "/first": 503, "/second": 200} and lengths["/second"] == 401


@pytest.mark.parametrize("path", ["/api/pipelines/front/judge", "/api/commission/conveyor/images", "/api/login"])
def test_a_client_that_leaves_within_its_body_is_no_error(port, caplog, path):
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Content-Type: image/png\r\nContent-Length: 9999\r\n\r\nx"
    for _ in range(3):
        with connect(port) as client:
            client.sendall(head.encode())
            wait_until(lambda: httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200)
    with connect(port) as client:
        client.sendall(b"GET /api/status HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 401")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_body_of_two_lengths_is_refused_and_nothing_after_it_is_read(port):
    both = b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with connect(port) as client:
        client.sendall(both + b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        answers = b""
        while more := client.recv(65536):
            answers += more
    assert answers.startswith(b"HTTP/1.1 400") and answers.count(b"HTTP/1.1") == 1, answers


def test_a_probe_is_answered_while_all_threads_wait(tmp_path):
    released = threading.Event()
    daemon = FakeDaemon(tmp_path, http=HttpSection(port=0))
    daemon.pipelines["front"].fire = lambda: released.wait(2 * MAX_S)
    server = serve(build_app(daemon), daemon.site.http)
    url = f"http://127.0.0.1:{server.port}"
    fire = {"args": (f"{url}/api/pipelines/front/trigger",), "kwargs": {"timeout": 2 * MAX_S}}
    threads = [threading.Thread(target=httpx.post, **fire) for _ in range(45)]
    try:
        for thread in threads:
            thread.start()
        wait_until(lambda: httpx.get(f"{url}/healthz", timeout=MAX_S).status_code == 200)
        time.sleep(0.5)
        for path in ("/healthz", "/readyz"):
            assert httpx.get(url + path, timeout=MAX_S).status_code == 200
    finally:
        released.set()
        for thread in threads:
            thread.join()
        server.close()


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_server_that_fails_leaves_no_connection_open(tmp_path, monkeypatch, steps):
    failing, late = threading.Event(), []

    async def tick(listener, counter):
        if failing.is_set():
            late.append(connect(server.port))
            for _ in range(steps):  # until it is accepted
                await asyncio.sleep(0)
            raise RuntimeError("nobody foresaw it")
        return await on_tick(listener, counter)

    on_tick = uvicorn.Server.on_tick
    monkeypatch.setattr(uvicorn.Server, "on_tick", tick)
    monkeypatch.setattr(threading, "excepthook", lambda dead: None)  # pytest's own takes it for a failure of the test
    daemon = FakeDaemon(tmp_path)
    server = serve(build_app(daemon), daemon.site.http)
    with connect(server.port) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 ")
        failing.set()
        wait_until(lambda: not server.alive)
        server.close()
        assert is_ended(client) and is_ended(late[0])
    late[0].close()
    gc.collect()  # a socket that nobody has closed is an error now
