"""Starts, for every line that it reads, a process that writes verdicts with images until it is killed.

Each writer prints its number, and each id once its row is committed. `python evidence_writer.py FOLDER`
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from verdicts import Line

from edgead.line.evidence import EvidenceStore
from edgead.line.evidence.settings import StoreSection


def say(line: str) -> None:
    """One write of the system's: a kill comes before it or after it."""
    os.write(1, f"{line}\n".encode())


def write_until_killed(folder: Path) -> NoReturn:
    line = Line()
    section = StoreSection(folder=folder, free_mib=0, before=1, after=1, commit_within_ms=10_000)
    store = EvidenceStore(section)
    before = line.capture()
    while True:
        frame, verdict = line.part(0.9)
        say(f"{frame.id} {store.add(frame, verdict):d}")
        store.follow(frame)
        store.keep(frame, verdict, (before,))
        before = frame


# Forked, for the start of an interpreter takes longer than a writer lives.
for _ in sys.stdin:
    pid = os.fork()
    if pid == 0:
        say(str(os.getpid()))
        write_until_killed(Path(sys.argv[1]))
    os.waitpid(pid, 0)
    say("killed")
