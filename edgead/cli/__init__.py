"""The command `edgead`: the verbs of the workstation, of a device and of its daemon, and the way in."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from edgead.cli import (  # noqa: F401  for their verbs
    audit,
    calibrate,
    commission,
    daemon,
    defects,
    describe,
    device,
    evidence,
    fleet,
    presets,
    profile,
    push_pull,
    screen,
    sign,
    sort,
    teach,
    train,
    user,
    workstation,
)
from edgead.cli.app import app
from edgead.cli.console import stderr
from edgead.errors import EdgeadError
from edgead.files.disk import FULL
from edgead.process.installation import install_command


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # unwinds, so that drafts are removed and cameras closed


def _described(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{what}; free some space or choose another disk" if error.errno in FULL else what


def main(command: Callable[[], Any] = app) -> None:
    """Run the command `edgead`, or another package's of the same kind: errors become one line and an exit code."""
    signal.signal(signal.SIGTERM, _stop)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name can be what no encoding has
    try:
        command()
    except EdgeadError as error:
        stderr.print(f"error: {error}", style="red", soft_wrap=True)
        sys.exit(2)
    except OSError as error:
        stderr.print(f"error: {_described(error)}", style="red", soft_wrap=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edgead"):
            raise
        message = f"error: {error.name} is missing; the workstation's packages: {install_command('train')}"
        stderr.print(message, style="red", soft_wrap=True)
        sys.exit(2)
