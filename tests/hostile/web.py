"""A raw HTTP endpoint that takes a POST and answers with whatever bytes it is given."""

from __future__ import annotations

import gzip
import itertools
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_LONGEST_S = 9.0  # for kinds without an end

_HEAD = b"HTTP/1.1 200 OK\r\n"
_BOMB = gzip.compress(bytes(10**7))

Answer = Iterable[bytes] | None


def _slowly(parts: Iterable[bytes], pause_s: float = 0.1) -> Iterator[bytes]:
    end = time.monotonic() + _LONGEST_S
    for part in parts:
        if time.monotonic() > end:
            return
        yield part
        time.sleep(pause_s)


def _fast(part: bytes) -> Iterator[bytes]:
    return _slowly(itertools.repeat(part), 0)


def _silence() -> Iterator[bytes]:
    return _slowly(itertools.repeat(b""))


def _headed(head: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


# Each attempt's answer; None resets the connection.
KINDS: dict[str, Callable[[], Answer]] = {
    "drips_its_headers": lambda: _slowly(bytes([byte]) for byte in OK[:-2] + b"X: y\r\n" * 99),
    "drips_one_header": lambda: _headed(b"HTTP/1.1 200 OK\r\nX: ", _slowly(itertools.repeat(b"y"))),
    "continue_without_end": lambda: _fast(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "drips_continue": lambda: _slowly(itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "early_hints_without_end": lambda: _fast(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "silence": _silence,
    "hangs_up": lambda: (),
    "resets": lambda: None,
    "noise": lambda: (random.Random(1).randbytes(4096),),
    "not_http": lambda: (b"220 mail.example ESMTP ready\r\n",),
    "status_9999": lambda: (b"HTTP/1.1 9999 Over\r\n\r\n",),
    "status_0": lambda: (b"HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n",),
    "switches_protocols": lambda: (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",),
    "a_header_of_a_mebibyte": lambda: (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2**20 + b"\r\n\r\n",),
    "a_million_headers": lambda: _headed(b"HTTP/1.1 200 OK\r\n", _fast(b"X: y\r\n" * 1000)),
    "nul_in_a_header": lambda: (b"HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 0\r\n\r\n",),
    "negative_length": lambda: (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",),
    "two_lengths": lambda: (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 9\r\n\r\n",),
    "redirect_to_a_file": lambda: (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",),
    "redirect_to_itself": lambda: (b"HTTP/1.1 307 Again\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n",),
    "tls_alert": lambda: (b"\x15\x03\x01\x00\x02\x02\x28",),
    # Taken: the status says so, and nothing after it is read.
    "a_body_without_end": lambda: _headed(b"HTTP/1.1 200 OK\r\n\r\n", _fast(bytes(65536))),
    "drips_its_body": lambda: _headed(
        b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", _slowly(itertools.repeat(b"x"))
    ),
    "a_bad_chunk": lambda: (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",),
    "a_bomb_of_gzip": lambda: (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + _BOMB,),
    "no_reason": lambda: (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",),
}
TAKEN = frozenset({"a_body_without_end", "drips_its_body", "a_bad_chunk", "a_bomb_of_gzip", "no_reason"})


class Endpoint:
    """Answers each request by `answer`; `hits` are the first lines of the requests.

    One that `speaks_first` answers the connection, as if it were the rest of something.
    """

    def __init__(self, answer: Callable[[], Answer], *, speaks_first: bool = False):
        self.answer = answer
        self.hits: list[bytes] = []
        self._speaks_first = speaks_first
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/hook"
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._listening, *self._clients):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._clients.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, client.makefile("rb") as stream:
            if self._speaks_first:
                for part in self.answer() or ():
                    client.sendall(part)
                return
            while first := stream.readline():
                length = 0
                while (line := stream.readline()).strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                stream.read(length)
                self.hits.append(first)
                answer = self.answer()
                if answer is None:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                for part in answer:
                    client.sendall(part)
                if self.answer is not right:
                    return


def right() -> Answer:
    return (OK,)


def drips_its_handshake() -> Answer:
    """The head of a TLS record of 16 KiB, and then a byte now and then."""
    return _headed(b"\x16\x03\x03\x40\x00", _slowly(itertools.repeat(b"\x02")))
