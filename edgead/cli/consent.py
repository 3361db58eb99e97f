"""Consent to a step, by a person at a terminal or by an option."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from edgead.cli.console import stderr
from edgead.errors import SettingsError


def confirm(question: str, *, yes: bool) -> None:
    """Ask a question, and end the command on a no; without a terminal --yes is needed.

    Raises SettingsError: there is no terminal, and no --yes.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise SettingsError(f"nobody can be asked here: {question} If so, say --yes")
    typer.confirm(question, abort=True, err=True)


def reason_for(doubts: Sequence[str], *, yes: bool, reason: str) -> str:
    """Ask for the reason to write doubtful thresholds, and return it for the record.

    Raises BlindLimitError: there is no terminal, and --yes or --reason is missing.
    """
    from edgead.calibration.blind import BlindLimitError

    if not doubts:
        return reason
    refused = BlindLimitError(doubts)
    if sys.stdin.isatty() and not yes:
        stderr.print(str(refused), style="yellow", soft_wrap=True)
        typer.confirm("Take the new limit all the same?", abort=True, err=True)
        return reason or str(typer.prompt("Why", err=True))
    if not reason.strip():
        raise refused
    confirm("May the new limit take the old one's place?", yes=yes)
    return reason
