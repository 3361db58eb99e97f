"""Interface of a connection to a PLC, whatever it is reached by."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Plc(Protocol):
    """A connection to a PLC, for one thread; all that is asked of it raises the error that it was made with.

    Attributes
    ----------
    uri : str
        Of the PLC.
    connections : int
        How often it was connected to: a PLC may have started again in between.
    """

    uri: str
    connections: int

    @property
    def is_connected(self) -> bool: ...

    def connected(self) -> AbstractContextManager[None]:
        """Connect where there is no connection; what fails within this ends it."""
        ...

    def close(self) -> None: ...
