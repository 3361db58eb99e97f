"""Options that all sinks have, and conversion of sinks' URIs into options."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, ClassVar, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import Field

from edgead.components.options import Section, read_query
from edgead.sinks.contract import SinkError

Only = Literal["all", "review", "reject"]


class QueueSection(Section):
    """Queue for a slow or dead receiver; when it is full, the oldest verdicts are dropped and counted."""

    messages: Annotated[int, Field(ge=1, le=10**6)] = 10_000


class SinkOptions(Section):
    """Options of a sink; the options of each kind have a field `kind: Literal[NAME]`."""

    kind: str
    required: Annotated[
        bool, Field(description="Whether the device is ready only while this sink works, such as a PLC that ejects.")
    ] = False
    tolerated_s: Annotated[
        float, Field(ge=0, le=86_400, description="Time that a required sink may fail before that.")
    ] = 10.0
    queued: ClassVar[bool] = False
    """Its receiver may be slow: `edgead stream` puts a queue before it too, as the daemon does before every sink."""

    @property
    def takes_notices(self) -> bool:
        """Whether the sink's `notify` does anything."""
        return False

    @property
    def most_waiting(self) -> int:
        """Number of verdicts that may wait for the sink at most."""
        return 1000


class QueuedSinkOptions(SinkOptions):
    """Options of a sink whose receiver may be away."""

    queue: Annotated[QueueSection, Field(description="Number of verdicts that may wait.")] = QueueSection()
    queued: ClassVar[bool] = True

    @property
    def most_waiting(self) -> int:
        return self.queue.messages


def read_path(uri: str, known: Collection[str], name: str = "path") -> dict[str, str]:
    """Split `SCHEME:PATH?option=value` into values of options; the path gets the given name.

    Raises SinkError, SettingsError: the path is missing, or an option is unknown.
    """
    scheme, _, rest = uri.partition(":")
    path, _, query = rest.partition("?")
    values = read_query(query, known)
    if not path:
        raise SinkError(f"the {name} is missing, such as {scheme}:out/{scheme}")
    return {name: path, **values}


def read_host(uri: str, known: Collection[str]) -> tuple[SplitResult, dict[str, object]]:
    """Split `SCHEME://HOST:PORT?option=value` into its parts, and into values of options, the host among them.

    Raises SinkError, SettingsError: the host is missing or malformed, or an option is unknown; nothing of the URI is
        quoted.
    """
    try:
        parts = urlsplit(uri)
        named = parts.hostname and parts.port != 0
    except ValueError:
        # urllib quotes what it cannot read, which may be a password with a raw / in it.
        raise SinkError("cannot be read as HOST:PORT") from None
    values = read_query(parts.query, known)
    if not named:
        raise SinkError(f"host or port are missing, such as {parts.scheme}://192.168.0.5:1883")
    return parts, {"host": parts.hostname, **values}
