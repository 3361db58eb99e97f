"""The command `edgead`: its verbs for a workstation, for a device and for the device's daemon."""

from __future__ import annotations

import io
import signal
import sys
from types import FrameType
from typing import NoReturn

from edgead.cli.app import app
from edgead.errors import EdgeadError


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # unwinds, so that drafts are removed and cameras closed


def _described(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    from edgead.files.disk import FULL

    what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{what}; free some space or choose another disk" if error.errno in FULL else what


def _refuse(message: str) -> NoReturn:
    from edgead.cli.console import stderr

    stderr.print(f"error: {message}", style="red", soft_wrap=True)
    sys.exit(2)


def main() -> None:
    """Run the command `edgead`: print an error as one line, and end with an exit code."""
    signal.signal(signal.SIGTERM, _stop)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name can be what no encoding has
    try:
        app()
    except EdgeadError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(_described(error))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edgead"):
            raise
        from edgead.process.installation import install_command

        _refuse(f"{error.name} is missing; the workstation's packages: {install_command('train')}")
