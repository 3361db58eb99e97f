"""EtherNet/IP connection to a Rockwell or compatible PLC, opened when needed and reopened after a failure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import Field

from edgead.components.options import Host, Port, Seconds, Section
from edgead.errors import EdgeadError, SettingsError
from edgead.process.installation import plugin_command

# Exceptions that pylogix raises for an answer that it cannot parse.
_GARBLED = (struct.error, LookupError, ValueError, TypeError)

Tag = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_:.]{0,79}$")]


class LogixPlcOptions(Section):
    """A Rockwell or compatible PLC."""

    host: Annotated[Host, Field(description="Name or address of the PLC.")]
    port: Annotated[Port, Field(description="Port of the PLC.")] = 44818
    slot: Annotated[int, Field(ge=0, le=31, description="Slot of the CPU in its rack.")] = 0
    timeout_s: Annotated[Seconds, Field(description="Limit of one request, and of connecting.")] = 1.0


class LogixPlc:
    """One connection to a PLC, for one thread.

    `tag`: name of the tag, shown in `uri`.
    `failed`: exception raised when the PLC is unreachable, refuses, or gives an unexpected answer.
    `connections`: number of connections made so far: the PLC may have restarted between two of them.
    Raises SettingsError: the package `pylogix` is missing.
    """

    def __init__(self, options: LogixPlcOptions, tag: str, failed: type[EdgeadError], *, micro800: bool = False):
        try:
            from edgead_plant.ethernet_ip_client import open_client
        except ModuleNotFoundError:
            raise SettingsError(f"EtherNet/IP needs `{plugin_command('edgead-plant[ethernet-ip]')}`") from None
        self.uri = f"ethernet-ip://{options.host}:{options.port}/{tag}"
        self.connections = 0
        self._options, self._micro800, self._failed = options, micro800, failed
        self._open = open_client
        self._client: Any = None

    @property
    def is_connected(self) -> bool:
        return self._client is not None

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connect if not yet connected; close the connection after a failure, as half an answer may be left in it."""
        try:
            if self._client is None:
                self._connect()
            yield
        except BaseException:
            self._leave(0.0)
            raise

    def read(self, tag: str, count: int = 1) -> list[Any]:
        """Read `count` elements of a tag, starting at the element that `tag` names; call within `connected`."""
        values = self._ask(tag, "Read", count)
        values = values if isinstance(values, list) else [values]
        if len(values) != count:
            raise self._failed(f"{self.uri}: {tag}: {count} elements were asked for, {len(values)} came")
        return values

    def write(self, tag: str, value: Any) -> None:
        """Write a tag, or its elements starting at the element that `tag` names, in one request, within `connected`."""
        self._ask(tag, "Write", value)

    def close(self) -> None:
        self._leave(self._options.timeout_s)

    def _leave(self, within_s: float) -> None:
        """Close the connection, waiting at most `within_s` seconds for the PLC's answer."""
        client, self._client = self._client, None
        if client is not None:
            client.conn.limit(within_s)
            client.Close()

    def _connect(self) -> None:
        options = self._options
        # A new client each time: the old one caches tag types, which may be wrong for the PLC's program of now.
        self._client = self._open(options.host, options.port, options.slot, options.timeout_s, self._micro800)
        self._client.conn.limit(options.timeout_s)
        try:
            is_there, why = self._client.conn.connect()
        except _GARBLED as error:
            raise self._failed(f"{self.uri}: no connection: {_unreadable(error)}") from None
        except OSError as error:
            raise self._failed(f"{self.uri}: no connection: {error}") from None
        if not is_there:
            raise self._failed(f"{self.uri}: no connection: {why}")
        self.connections += 1

    def _ask(self, tag: str, request: str, argument: Any) -> Any:
        client = self._client
        client.conn.limit(self._options.timeout_s)
        try:
            answer = getattr(client, request)(tag, argument)
        except _GARBLED as error:
            raise self._failed(f"{self.uri}: {tag}: {_unreadable(error)}") from None
        except OSError as error:
            raise self._failed(f"{self.uri}: {tag} cannot be written or read: {error}") from None
        if answer.Status != "Success":
            raise self._failed(f"{self.uri}: {tag} cannot be written or read: {answer.Status}")
        return answer.Value


def _unreadable(error: Exception) -> str:
    return f"the answer cannot be read ({type(error).__name__}: {error})"
