"""Minutes from own images to the first verdict, as a newcomer: by `edgead` alone on a terminal.

    python -m benchmarks first_verdict GOOD OTHERS -o WORK

GOOD is a folder of good images, OTHERS one of images to judge. Everything is answered that is asked, with Enter where
Enter will do. WORK/terminal.txt is what the terminal shows, with the seconds since the start.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

_ASKS = re.compile(rb"\]: ?$")
# What moves the cursor or colours, and bars of progress.
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
_BAR = re.compile(r"^[^┏┡]*━")
_COLUMNS = 100


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks first_verdict", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("good", type=Path)
    parser.add_argument("others", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="an empty folder to work in")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    # The images; the model's folder; others to judge; the camera of the line.
    answers = [str(options.good.absolute()), "", str(options.others.absolute()), ""]
    said = lines_of(by_terminal(options.output, answers))
    (options.output / "terminal.txt").write_text("".join(f"[{at_s:4.0f} s] {line}\n" for at_s, line in said))
    judged_s = next(at_s for at_s, line in said if re.search("│ (ok|review|reject) ", line))
    print(f"by the terminal: first verdict after {judged_s / 60:.1f} min, {said[-1][0] / 60:.1f} min in all")


def lines_of(said: list[tuple[float, bytes]]) -> list[tuple[float, str]]:
    """The lines that stay on the screen, each with the time when it began."""
    lines, begun = [], ""
    for at_s, piece in said:
        *whole, begun = (begun + piece.decode(errors="replace")).split("\n")
        lines += [(at_s, _CONTROLS.sub("", line)) for line in whole]
    return [(at_s, line.rstrip()) for at_s, line in lines if line.strip() and not _BAR.match(line)]


def by_terminal(folder: Path, answers: list[str]) -> list[tuple[float, bytes]]:
    """Run `edgead` with a person before it who answers what it asks: its words, each with its time in seconds."""
    here, there = pty.openpty()
    environment = os.environ | {"COLUMNS": str(_COLUMNS), "TERM": "xterm-256color"}
    command = [str(Path(sys.executable).with_name("edgead"))]
    begun_s, said, waiting = time.perf_counter(), [], list(answers)
    with subprocess.Popen(command, stdin=there, stdout=there, stderr=there, cwd=folder, env=environment) as process:
        os.close(there)
        line = b""
        while True:
            try:
                piece = os.read(here, 65536)
            except OSError:  # the other end is closed: it has ended
                break
            said.append((time.perf_counter() - begun_s, piece))
            line = (line + piece).rpartition(b"\n")[2]
            if _ASKS.search(line) and waiting:
                os.write(here, waiting.pop(0).encode() + b"\n")
                line = b""
        if process.wait():
            raise SystemExit(f"`edgead` ended with {process.returncode}: see the end of {folder}/terminal.txt")
    os.close(here)
    return said
