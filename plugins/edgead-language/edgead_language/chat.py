"""Client of an OpenAI-compatible server: one request, one answer, with bounded time and size.

A key is sent to other machines only over HTTPS. Answers are untrusted, as they come from another program and a language
model.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from edgead.components.uri import checked_host, origin
from edgead.errors import EdgeadError, SettingsError

KEY_VARIABLE = "EDGEAD_CHAT_KEY"
_EXAMPLE = "write it as http://127.0.0.1:8080/v1"
_PORTS = {"http": 80, "https": 443}
MAX_CHARACTERS = 2_000
_MAX_NAME = 100
_EVENTS = "text/event-stream"
MAX_BYTES = 1 << 20
_MAX_SHOWN = 200
_MAX_NAMES = 10
# Statuses of a server without a list of models: it has one model, or chooses one.
_NO_LIST = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class Address:
    """Address of an OpenAI-compatible server; its `key` is never shown."""

    scheme: str
    host: str
    port: int
    path: str
    key: str | None

    @property
    def shown(self) -> str:
        """Scheme, host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_here(self) -> bool:
        """Whether the address is this machine, so that no data leaves it."""
        return self.host == "localhost" or is_loopback(self.host)

    def __repr__(self) -> str:
        return f"Address({self.shown}{', with a key' if self.key else ''})"


def read_address(url: str) -> Address:
    """Read an address, and the key from the environment variable EDGEAD_CHAT_KEY.

    Raises SettingsError: the URL is not http or https, holds a password or options, or a key would be sent in clear
        text to another machine. Only the host is quoted, as the rest may hold a secret.
    """
    shown = origin(url)
    parts = urlsplit(url) if shown else None
    if parts is None or parts.scheme not in _PORTS or not parts.hostname:
        raise SettingsError(f"--endpoint: no http or https address of a server: {_EXAMPLE}")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise SettingsError(f"--endpoint: {shown} with a password or options: {_EXAMPLE}, a key in {KEY_VARIABLE}")
    try:
        host = checked_host(parts.hostname)
    except ValueError as error:
        raise SettingsError(f"--endpoint: the host {error}") from None
    address = Address(parts.scheme, host, parts.port or _PORTS[parts.scheme], parts.path.rstrip("/"), _key())
    if not address.path.isascii() or not address.path.isprintable() or " " in address.path:
        raise SettingsError(f"--endpoint: {shown}: its path holds what no address may: {_EXAMPLE}")
    if address.key and address.scheme == "http" and not address.is_here:
        raise SettingsError(
            f"{KEY_VARIABLE} would go to {shown} in clear text: use https, or unset it where the server wants no key"
        )
    return address


def is_loopback(host: str) -> bool:
    """Whether a host is a loopback address, in either version of IP.

    >>> is_loopback("127.0.0.2"), is_loopback("::ffff:127.0.0.1"), is_loopback("192.168.0.4"), is_loopback("here")
    (True, True, False, False)
    """
    try:
        number = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(number, "ipv4_mapped", None)
    return (mapped or number).is_loopback


def _key() -> str | None:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingsError(f"{KEY_VARIABLE}: a key has no spaces and no letters beyond ASCII")
    return key or None


class UnusableAnswer(ValueError):
    """Answer that cannot be used; the message continues a sentence that begins with the server's address."""


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """Answer of a language model: one line, at most `MAX_CHARACTERS`, and the name that the server gives the model."""

    text: str
    model: str


def read_answer(content: bytes, kind: str) -> ChatAnswer:
    """Parse the response to a chat request, complete or as a stream of events.

    Raises UnusableAnswer: the response has another format, or is empty.
    """
    if kind == _EVENTS or content.startswith(b"data:"):
        pieces = list(_events(content))
        text = "".join(_text_of(piece, "delta") for piece in pieces)
        named = next((piece for piece in pieces if piece.get("model")), {})
    else:
        named = _json(content)
        text = _text_of(named, "message")
    said = cleaned(text)
    if not said:
        raise UnusableAnswer("gave an empty answer: does its model see images, and may it use more tokens?")
    if len(said) > MAX_CHARACTERS:
        said = said[: MAX_CHARACTERS - 1] + "…"
    return ChatAnswer(said, cleaned(str(named.get("model") or ""))[:_MAX_NAME])


def model_names(content: bytes) -> list[str]:
    """Parse the response to GET /models.

    Raises UnusableAnswer: the response has another format.
    """
    listed = _json(content).get("data")
    if not isinstance(listed, list) or not all(
        isinstance(one, dict) and isinstance(one.get("id"), str) for one in listed
    ):
        raise UnusableAnswer("lists no models")
    return [cleaned(one["id"])[:_MAX_NAME] for one in listed]


def cleaned(text: str) -> str:
    """Join a text to one line, without characters that move a terminal's cursor or change the writing direction."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _events(content: bytes) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream (HTML standard, 9.2.6), as chat servers use them: one line of data each."""
    for line in content.splitlines():
        data = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data != b"[DONE]":
            yield _json(data)


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnusableAnswer("answered with something that is no JSON object: is it a chat server?")
    if "choices" not in found and "error" in found:
        raise UnusableAnswer(f"reports an error: {cleaned(str(found['error']))[:200]}")
    return found


def _text_of(found: dict[str, Any], part: str) -> str:
    """Return the text of the first choice, which is a string, or a list of elements, some with text."""
    choices = found.get("choices")
    if part == "delta" and choices == []:  # the last event counts tokens and has no choice
        return ""
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get(part) if isinstance(first, dict) else None
    if not isinstance(message, dict):
        raise UnusableAnswer("answered with JSON that holds no answer of a chat: is it a chat server?")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(one.get("text", "")) for one in content if isinstance(one, dict))
    return content if isinstance(content, str) else ""


Message = dict[str, Any]
"""Message of the chat API: its `role` and `content`."""


class ChatError(EdgeadError):
    """Missing or unusable answer of a language model; the message says why and what to do.

    `status` is the status of the HTTP response, if that was the reason.
    """

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Chat:
    """Client of a language model's server. Each question uses a new connection and is asked only once.

    Redirects and proxies of the environment are not used, so that data reaches only the given address.

    `model`: name of the language model; None for the server's choice.
    `timeout_s`: time limit of a whole answer, also of a stream.
    """

    address: Address
    model: str | None = None
    timeout_s: float = 60.0

    def ask(self, messages: Sequence[Message], *, most_tokens: int) -> ChatAnswer:
        """Ask once.

        Raises ChatError: there is no usable answer.
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
        """Return a client with the only model of the server; a server without a list chooses itself.

        Raises ChatError: the server offers several models, or does not answer.
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
        """Send a request; return content and type of the response."""
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
        if self.address.key:  # a server's message on a wrong key may quote it
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
        """Check that a connection to `localhost` is local, as a name may resolve to any address."""
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
    """Shut the connection down at a deadline, as a socket's own limit applies only to each single read."""

    def end() -> None:
        overdue.set()
        with suppress(OSError):  # already closed by the other side
            # Not SSLSocket's own `shutdown`, which removes TLS while another thread reads.
            socket.socket.shutdown(connected, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
