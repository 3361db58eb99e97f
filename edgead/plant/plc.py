"""Interface of a connection to a PLC, independent of the protocol."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Plc(Protocol):
    """Connection to a PLC, for one thread; its methods raise the class of errors that it was made with.

    `uri`: address of the PLC.
    `connections`: number of connections made so far; between two, the PLC may have restarted.
    """

    uri: str
    connections: int

    @property
    def is_connected(self) -> bool: ...

    def connected(self) -> AbstractContextManager[None]:
        """Connect if needed; a failure inside the block closes the connection."""
        ...

    def close(self) -> None: ...
