"""The command `edgead`, run in this process: a new one spends seconds on imports before it does anything."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest import mock

from edgead.cli import console, main


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run_here(*arguments: object, columns: int = 300) -> Ended:
    """Run `edgead ARGUMENTS` on a terminal of so many columns; tables do not break names.

    What needs a process of its own (signals, memory, what is imported, the exit code itself) does not belong here.
    """
    if arguments[:1] == ("train",) and not {"--precision", "--help"} & set(map(str, arguments)):
        arguments = (*arguments, "--precision", "fp32")  # int8 has tests of its own, and takes half a minute
    # A console keeps the COLUMNS that it was made with.
    console.stdout.width = console.stderr.width = columns
    out, err = io.StringIO(), io.StringIO()
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        mock.patch.dict(os.environ, COLUMNS=str(columns), TERM="unknown"),
        mock.patch.object(sys, "argv", ["edgead", *map(str, arguments)]),
    ):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = 0 if end.code is None else int(end.code)
        finally:
            signal.signal(signal.SIGTERM, on_sigterm)
    return Ended(code, out.getvalue(), err.getvalue())
