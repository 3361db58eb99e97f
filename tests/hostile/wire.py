"""A cable to a real server that spoils what the server answers, in a chosen way and from a chosen moment on."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from cable import Cable

_LONGEST_S = 3.0  # for kinds without an end

Spoil = Callable[[bytes], Iterator["bytes | None"]]


def _drip(answer: bytes) -> Iterator[bytes]:
    for byte in answer:
        yield bytes([byte])
        time.sleep(0.1)


def _endless(_answer: bytes) -> Iterator[bytes]:
    end = time.monotonic() + _LONGEST_S
    while time.monotonic() < end:
        yield bytes(4096)


def _flipped(answer: bytes) -> Iterator[bytes]:
    chance = random.Random(answer)
    yield bytes(byte ^ (chance.randrange(256) if chance.random() < 0.15 else 0) for byte in answer)


# What comes of an answer; None ends the connection.
KINDS: dict[str, Spoil] = {
    "silence": lambda answer: iter(()),
    "hangs_up": lambda answer: iter((None,)),
    "half_and_hangs_up": lambda answer: iter((answer[: len(answer) // 2], None)),
    "header_and_hangs_up": lambda answer: iter((answer[:4], None)),
    "half_and_silence": lambda answer: iter((answer[: len(answer) // 2],)),
    "drip": _drip,
    "noise": lambda answer: iter((random.Random(answer).randbytes(200),)),
    "http": lambda answer: iter((b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", None)),
    "endless_zeros": _endless,
    "one_more_byte_each": lambda answer: iter((answer + b"\0",)),
    "flipped": _flipped,
    "twice": lambda answer: iter((answer, answer)),
}
# What may be taken: no harm comes of what follows a whole answer, and some bytes of an answer mean nothing.
MAY_BE_TAKEN = {"flipped", "twice", "one_more_byte_each"}


class Wire(Cable):
    """Passes on what a client sends, and what the server answers by `spoil`; None passes it on as it is."""

    def __init__(self, port: int):
        self.spoil: Spoil | None = None
        self.accepted = 0
        super().__init__(port)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._server.accept()[0]
                self.accepted += 1
                server = socket.create_connection(("127.0.0.1", self._port))
                self._ends += (client, server)
                for pass_on, one, other in ((self._pass_on, client, server), (self._answer, server, client)):
                    thread = threading.Thread(target=pass_on, args=(one, other), daemon=True)
                    thread.start()
                    self._threads.append(thread)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                for part in [data] if self.spoil is None else self.spoil(data):
                    if part is None:
                        server.shutdown(socket.SHUT_RDWR)
                        break
                    client.sendall(part)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
