"""S7 connection to a Siemens PLC, opened when needed and reopened after a failure."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from pydantic import Field

from edgead.components.options import Host, Port, Seconds, Section
from edgead.errors import EdgeadError, SettingsError
from edgead.process.installation import plugin_command

# snap7 logs each failed attempt; the caller here reports a failure once.
logging.getLogger("snap7").setLevel(logging.CRITICAL)


class S7PlcOptions(Section):
    """A Siemens PLC and one of its data blocks."""

    host: Annotated[Host, Field(description="Name or address of the PLC.")]
    port: Annotated[Port, Field(description="Port of the PLC.")] = 102
    rack: Annotated[int, Field(ge=0, le=7, description="Rack of the CPU.")] = 0
    slot: Annotated[int, Field(ge=0, le=31, description="Slot of the CPU: 1 for S7-1200 and 1500, 2 for S7-300.")] = 1
    db: Annotated[int, Field(ge=1, le=65_535, description="Number of the data block, not optimised.")]
    timeout_s: Annotated[Seconds, Field(description="Limit of one request, and of connecting.")] = 1.0


class S7Plc:
    """One connection to a PLC, for one thread.

    `failed`: exception raised when the PLC is unreachable, refuses, or gives an unexpected answer.
    `connections`: number of connections made so far: the PLC may have restarted between two of them.
    Raises SettingsError: the package `python-snap7` is missing.
    """

    def __init__(self, options: S7PlcOptions, failed: type[EdgeadError]):
        try:
            from snap7.error import S7Error

            from edgead_plant.s7_client import LimitedClient
        except ModuleNotFoundError:
            raise SettingsError(f"S7 needs `{plugin_command('edgead-plant[s7]')}`") from None
        self.uri = f"s7://{options.host}:{options.port}/db{options.db}"
        self.connections = 0
        self._options = options
        self._failed, self._failure = failed, S7Error
        self._client = LimitedClient(options.timeout_s)

    @property
    def is_connected(self) -> bool:
        return bool(self._client.connected)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connect if not yet connected; close the connection after a failure, as half an answer may be left in it."""
        options, client = self._options, self._client
        try:
            if not client.get_connected():
                client.disconnect()  # `connect` alone would leave the rest of the previous connection open
                client.connect(options.host, options.rack, options.slot, options.port)
                self.connections += 1
            yield
        except self._failed:
            client.disconnect()
            raise
        except (self._failure, OSError) as error:
            client.disconnect()
            raise self._failed(f"{self.uri}: cannot be written or read: {error}") from None
        except BaseException:
            client.disconnect()
            raise

    def read(self, start: int, size: int) -> bytes:
        """Read `size` bytes of the data block from byte `start` on; call within `connected`."""
        with self._client.limited():
            return bytes(self._client.db_read(self._options.db, start, size))

    def write(self, start: int, data: bytes) -> None:
        """Write bytes to the data block from byte `start` on, in one request; call within `connected`."""
        with self._client.limited():
            self._client.db_write(self._options.db, start, bytearray(data))

    def close(self) -> None:
        self._client.disconnect()
