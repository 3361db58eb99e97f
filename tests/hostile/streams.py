"""A camera on HTTP that sends numbered frames as it should, or a stream of a chosen hostile kind."""

from __future__ import annotations

import itertools
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import cv2
import numpy as np
from fakes import numbered

_LONGEST_S = 30.0
OK = b"HTTP/1.1 200 OK\r\n"
MULTIPART = OK + b"Content-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"

Stream = Iterable[bytes] | None


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image)[1].tobytes()


def part(data: bytes, *, length: int | None = None, kind: str = "image/jpeg", boundary: str = "frame") -> bytes:
    length = len(data) if length is None else length
    return f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n".encode() + data + b"\r\n"


def resized(data: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header says another size."""
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + struct.pack(">HH", height, width) + data[start + 4 :]


def _paced(parts: Iterable[bytes], pause_s: float = 0.05) -> Iterator[bytes]:
    end = time.monotonic() + _LONGEST_S
    for one in parts:
        if time.monotonic() > end:
            return
        yield one
        time.sleep(pause_s)


def _multipart(parts: Iterable[bytes], pause_s: float = 0.05) -> Iterator[bytes]:
    yield MULTIPART
    yield from _paced(parts, pause_s)


def _numbered() -> Iterator[bytes]:
    return (part(jpeg(numbered(number))) for number in itertools.count())


def _again(data: bytes) -> Iterator[bytes]:
    return itertools.repeat(data)


def right() -> Stream:
    return _multipart(_numbered())


def _silence() -> Stream:
    return _paced(_again(b""), 0.2)


def _then(count: int, rest: Iterable[bytes]) -> Stream:
    return _multipart(itertools.chain(itertools.islice(_numbered(), count), rest))


def _sizes() -> Iterator[bytes]:
    dice = random.Random(3)
    while True:
        yield part(jpeg(numbered(1, size=(dice.randrange(120, 400), dice.randrange(160, 600)))))


def _noise(count: int) -> bytes:
    return random.Random(5).randbytes(count)


_FRAME = jpeg(numbered(5))
_REDIRECT = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n"
_HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/secret.ts\n#EXTINF:1,\nfile:///etc/passwd\n"
_SDP = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 1 RTP/AVP 96\r\n"

# What is sent after a request; None resets the connection.
KINDS: dict[str, Callable[[], Stream]] = {
    "hangs": _silence,
    "hangs_up": lambda: (),
    "resets": lambda: None,
    "noise": lambda: (_noise(65536),),
    "not_found": lambda: (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",),
    "fails": lambda: (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",),
    "redirects_to_itself": lambda: (_REDIRECT % b"/line",),
    "redirects_to_a_file": lambda: (_REDIRECT % b"file:///etc/passwd",),
    "a_playlist": lambda: (OK + b"Content-Type: application/vnd.apple.mpegurl\r\n\r\n" + _HLS,),
    "a_session_description": lambda: (OK + b"Content-Type: application/sdp\r\n\r\n" + _SDP,),
    "a_page": lambda: (OK + b"Content-Type: text/html\r\n\r\n<html>sign in</html>",),
    "headers_without_end": lambda: _paced(itertools.chain([OK], _again(b"X: y\r\n" * 100)), 0.01),
    "drips": lambda: _multipart((bytes([byte]) for byte in part(_FRAME) * 9), 0.1),
    "half_images": lambda: _multipart(_again(part(_FRAME[: len(_FRAME) // 2]))),
    "noise_in_images": lambda: _multipart(_again(part(_FRAME[:300] + _noise(2000) + _FRAME[-300:]))),
    "length_too_small": lambda: _multipart(_again(part(_FRAME, length=100))),
    "length_too_large": lambda: _multipart(_again(part(_FRAME, length=10**9))),
    "length_huge": lambda: _multipart(_again(part(_FRAME, length=2**63))),
    "length_negative": lambda: _multipart(_again(part(_FRAME, length=-1))),
    "size_0": lambda: _multipart(_again(part(resized(_FRAME, 0, 0)))),
    "size_65535": lambda: _multipart(_again(part(resized(_FRAME, 65535, 65535)))),
    "sizes_that_change": lambda: _multipart(_sizes()),
    "one_pixel": lambda: _multipart(_again(part(jpeg(np.zeros((1, 1, 3), np.uint8))))),
    "grey": lambda: _multipart(_again(part(jpeg(numbered(3)[..., 0])))),
    "a_part_without_end": lambda: _multipart(itertools.chain([part(_FRAME)[:60]], _again(_noise(4096)))),
    "empty_parts": lambda: _multipart(_again(part(b""))),
    "text_parts": lambda: _multipart(_again(part(b"no signal", kind="text/plain"))),
    "another_boundary": lambda: _multipart(_again(part(_FRAME, boundary="other"))),
    "frames_then_silence": lambda: _then(10, _again(b"")),
    "frames_then_noise": lambda: _then(10, _again(_noise(4096))),
}
# These may be seen as frames, and none of them needs to be refused.
SEEN = frozenset(
    {"sizes_that_change", "one_pixel", "grey", "another_boundary"}
    | {f"length_{kind}" for kind in ("too_small", "too_large", "huge", "negative")}
)


class HostileCamera:
    """Sends `stream()` to each client, until another is set."""

    def __init__(self, stream: Callable[[], Stream]):
        self.stream = stream
        self.requests = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/line"
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def become(self, stream: Callable[[], Stream]) -> None:
        self.stream = stream
        self._end_clients()

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
        with suppress(OSError), client:
            if not client.recv(65536):
                return
            self.requests += 1
            stream = self.stream()
            if stream is None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            for data in stream:
                client.sendall(data)
