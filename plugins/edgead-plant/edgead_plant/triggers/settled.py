"""A command that is whole, from a PLC that gives out its memory in pieces."""

from __future__ import annotations

from collections.abc import Callable

from edgead.line.triggers.handshake import Command
from edgead.line.triggers.plc import PlcError

_MAX_LOOKS = 4


def settled(look: Callable[[], Command], before: Command | None, uri: str) -> Command:
    """Read a command; one with another number than before is read until two in a row are the same.

    Where a PLC gives out its memory in pieces, a command may be half of one part and half of the next.

    Raises
    ------
    PlcError
        It changes with each look.
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
