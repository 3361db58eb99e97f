"""Questions to an OpenAI-compatible server: one request, one answer, within a time and a size."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from edgead.errors import EdgeadError
from edgead.report.describe.address import KEY_VARIABLE, Address, is_loopback
from edgead.report.describe.answers import Answer, UnusableAnswer, cleaned, model_names, read_answer

MAX_BYTES = 1 << 20
_MAX_SHOWN = 200
_MAX_NAMES = 10
# A server that has no list of models: it has one, or chooses.
_NO_LIST = (404, 405, 501)

Message = dict[str, Any]
"""`role` and `content`, as the chat API has them."""


class ChatError(EdgeadError):
    """The language model gave no answer that can be used; the message says why and what to do.

    `status` is that of the HTTP answer, where it was the reason.
    """

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Chat:
    """Asks a server. Each question has a connection of its own; nothing is asked twice.

    Neither redirects nor a proxy of the environment are followed: what is sent reaches the address, or nobody.

    Parameters
    ----------
    address : Address
    model : str or None
        Name of the language model; None leaves it to the server.
    timeout_s : float
        For a whole answer, however it comes.
    """

    address: Address
    model: str | None = None
    timeout_s: float = 60.0

    def ask(self, messages: Sequence[Message], *, most_tokens: int) -> Answer:
        """Ask once.

        Raises
        ------
        ChatError
        """
        body: dict[str, Any] = {
            "messages": list(messages),
            "max_tokens": most_tokens,
            "temperature": 0,
            "seed": 8,
            "stream": False,
        }
        if self.model:
            body["model"] = self.model
        content, kind = self._request("POST", "/chat/completions", json.dumps(body).encode())
        try:
            return read_answer(content, kind)
        except UnusableAnswer as error:
            raise ChatError(f"{self.address.shown} {error}") from None

    def with_model(self) -> Chat:
        """Name the model of a server that offers one alone; one that lists none chooses for itself.

        Raises
        ------
        ChatError
            It offers several, or does not answer.
        """
        try:
            content, _ = self._request("GET", "/models", None)
            names = model_names(content)
        except ChatError as error:
            if error.status in _NO_LIST:
                return self
            raise
        except UnusableAnswer as error:
            raise ChatError(f"{self.address.shown} {error}; name the model with --model") from None
        if len(names) > 1:
            listed = ", ".join(names[:_MAX_NAMES])
            raise ChatError(f"{self.address.shown} offers several models: name one with --model: {listed}")
        return replace(self, model=names[0]) if names else self

    def _request(self, method: str, path: str, body: bytes | None) -> tuple[bytes, str]:
        """Give the content of an answer and its type."""
        overdue = threading.Event()
        deadline = time.monotonic() + self.timeout_s
        connection = self._connection()
        try:
            connection.connect()
            self._check_peer(connection.sock)
            with _ended_at(deadline, connection.sock, overdue):
                connection.request(method, self.address.path + path, body, self._headers())
                answer = connection.getresponse()
                content = answer.read(MAX_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise ChatError(self._problem(error, late=overdue.is_set())) from None
        finally:
            connection.close()
        if overdue.is_set():
            raise ChatError(self._late())
        if len(content) > MAX_BYTES:
            raise ChatError(f"{self.address.shown} answered with more than {MAX_BYTES >> 10} KiB: is it a chat server?")
        if self.address.key:  # what a server says of a wrong key may quote it
            content = content.replace(self.address.key.encode(), b"***")
        self._check_status(answer.status, content)
        return content, answer.headers.get_content_type()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self.address.host, self.address.port
        if self.address.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self.timeout_s)
        return http.client.HTTPSConnection(host, port, timeout=self.timeout_s, context=ssl.create_default_context())

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Connection": "close"}
        if self.address.key:
            headers["Authorization"] = f"Bearer {self.address.key}"
        return headers

    def _check_peer(self, connected: socket.socket) -> None:
        """Hold what the address says: `localhost` is a name, and a name may lead anywhere."""
        peer = connected.getpeername()[0]
        if self.address.is_here and not is_loopback(peer):
            raise ChatError(f"{self.address.host} leads to {peer}, which is not this machine: nothing was sent")

    def _check_status(self, status: int, content: bytes) -> None:
        if 200 <= status < 300:
            return
        shown = self.address.shown
        if 300 <= status < 400:
            raise ChatError(
                f"{shown} answered {status}, a redirect, which is not followed: give the address that it leads to",
                status,
            )
        said = cleaned(content[: 16 * _MAX_SHOWN].decode(errors="replace"))
        hints = {401: f"; is {KEY_VARIABLE} right?", 403: f"; is {KEY_VARIABLE} right?", 404: "; does it end in /v1?"}
        found = f"{shown} answered {status}{hints.get(status, '')}"
        raise ChatError(f"{found}: {said[:_MAX_SHOWN]}" if said else found, status)

    def _problem(self, error: Exception, *, late: bool) -> str:
        if late or isinstance(error, TimeoutError):
            return self._late()
        shown = self.address.shown
        if isinstance(error, ConnectionRefusedError):
            return f"{shown} refuses the connection: is the server running?"
        if isinstance(error, (http.client.HTTPException, ConnectionError)):
            return f"{shown} broke off its answer, or speaks no HTTP ({type(error).__name__})"
        return f"no connection to {shown}: {error.strerror or error}"  # type: ignore[attr-defined]

    def _late(self) -> str:
        return f"no answer of {self.address.shown} within {self.timeout_s:g} s: give it more with --timeout-s"


@contextmanager
def _ended_at(deadline: float, connected: socket.socket, overdue: threading.Event) -> Iterator[None]:
    """Let what the block waits for fail at a time: a socket's own limit is for each read, however little comes."""

    def end() -> None:
        overdue.set()
        with suppress(OSError):  # it has ended by itself
            # Not SSLSocket's own, which takes TLS away under the thread that reads.
            socket.socket.shutdown(connected, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
