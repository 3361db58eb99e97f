"""Reading of complete commands from a PLC that does not transfer its memory in one piece."""

from __future__ import annotations

from collections.abc import Callable

from edgead.line.triggers.handshake import Command
from edgead.line.triggers.plc import PlcError

_MAX_LOOKS = 4


def settled(look: Callable[[], Command], before: Command | None, uri: str) -> Command:
    """Read a command; if its number is new, read it again until two readings in a row are equal.

    A PLC that transfers its memory in pieces may give half of one part's command and half of the next part's.

    Raises PlcError: the command changed with each reading.
    """
    command = look()
    if before is not None and command.sequence == before.sequence:
        return command
    for _ in range(_MAX_LOOKS):
        again = look()
        if _asks(again) == _asks(command):
            return again
        command = again
    raise PlcError(f"{uri}: the PLC changes what it asks for faster than it can be read")


def _asks(command: Command) -> tuple[int | str, ...]:
    return command.sequence, command.recipe, command.serial, command.batch
