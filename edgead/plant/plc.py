"""Interface of a connection to a PLC, over any protocol."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Plc(Protocol):
    """Connection to a PLC, for one thread; its methods raise the error class that it was made with.

    Attributes
    ----------
    uri : str
        Address of the PLC.
    connections : int
        Connections made so far: the PLC may have restarted in between.
    """

    uri: str
    connections: int

    @property
    def is_connected(self) -> bool: ...

    def connected(self) -> AbstractContextManager[None]:
        """Connect if needed; a failure inside the block closes the connection."""
        ...

    def close(self) -> None: ...
