"""The command at a terminal, where it asks."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Sequence

COMMAND = [sys.executable, "-c", "from edgead.cli import main; main()"]


def at_a_terminal(command: Sequence[str], *answers: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a person before it who has typed these answers."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
        return subprocess.run(command, stdin=theirs, capture_output=True, text=True, timeout=300)
    finally:
        os.close(ours)
        os.close(theirs)
