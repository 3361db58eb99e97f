"""Clients of the OPC UA server that mean harm: verdicts are served all the while, and who is decent reads them."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from contextlib import closing, suppress

import pytest
from patience import wait_until
from test_sinks_opcua import connected, options
from verdicts import Line

from edgead.sinks import open_queued

pytestmark = pytest.mark.slow


def hello(url=b"opc.tcp://127.0.0.1", size=None):
    body = struct.pack("<5I", 0, 65536, 65536, 0, 0) + struct.pack("<i", len(url)) + url
    return b"HELF" + struct.pack("<I", 8 + len(body) if size is None else size) + body


def open_channel(body=b"\0" * 60):
    return b"OPNF" + struct.pack("<I", 8 + len(body)) + body


def drip(data):
    for byte in data:
        yield bytes([byte])
        time.sleep(0.05)


# What a client sends; then it is silent, and holds the connection.
KINDS = {
    "silence": lambda: (),
    "noise": lambda: (random.Random(7).randbytes(5000),),
    "http": lambda: (b"GET / HTTP/1.1\r\n\r\n",),
    "half_a_hello": lambda: (hello()[:20],),
    "drip": lambda: drip(hello()),
    "hello_of_4_gigabytes": lambda: (hello(size=2**32 - 1), *[bytes(10**6)] * 100),
    "hello_of_0_bytes": lambda: (hello(size=0),),
    "url_of_2_gigabytes": lambda: (b"HELF" + struct.pack("<I", 32) + struct.pack("<5Ii", 0, 1, 1, 0, 0, 2**31 - 1),),
    "hello_again_and_again": lambda: (hello(),) * 500,
    "channel_without_hello": lambda: (open_channel(),),
    "channel_of_noise": lambda: (hello(), open_channel(random.Random(3).randbytes(3000))),
    "chunks_without_end": lambda: (hello(), *[b"MSGC" + struct.pack("<I", 60_000) + bytes(59_992)] * 2000),
}


def send(client, kind):
    with suppress(OSError):  # it may end the connection
        for part in KINDS[kind]():
            client.sendall(part)


@pytest.mark.parametrize("holds", [True, False], ids=["holds", "hangs_up"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_means_harm(kind, holds, caplog):
    line = Line("caps")
    with closing(open_queued("plant", options())) as queued:
        address = ("127.0.0.1", queued._sink.port)
        before = resident_bytes()
        clients = [socket.create_connection(address, 5) for _ in range(10)]
        try:
            for client in clients[:3]:
                send(client, kind)
            if not holds:
                for client in clients:
                    client.close()
            for count in range(1, 4):
                queued.write(*line.part(0.9))
                wait_until(lambda count=count: queued.status().written == count)
            assert queued.status().problem is None and queued.status().failed == 0

            async def read():
                async with connected(queued) as decent:
                    return await decent.read("caps/Counters/Judged")

            assert asyncio.run(read()) == 3
            assert resident_bytes() - before < 60e6
        finally:
            for client in clients:
                client.close()
    # asyncio says that what it still had to send to who hung up did not go.
    assert not [one for one in caplog.records if one.name != "asyncio"]


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize("most, answered", [(8 * 2**20, True), (-1, False)])
def test_a_client_with_more_answers_waiting_than_are_kept_is_hung_up(most, answered, monkeypatch):
    monkeypatch.setattr("edgead_plant.opcua_guard._MAX_WAITING_BYTES", most)
    with closing(open_queued("plant", options())) as queued:
        with socket.create_connection(("127.0.0.1", queued._sink.port), 5) as client, suppress(ConnectionResetError):
            client.sendall(hello())
            assert client.recv(100)[:4] == (b"ACKF" if answered else b"")
