"""Start-up of the command: CPU seconds until help, or a refusal, is there; in turns with another installation.

    python -m benchmarks startup
    python -m benchmarks startup --beside OTHER/.venv/bin/edgead

Wall time on an idle machine is about the same; CPU time is what other work does not change much. Python keeps what it
has compiled, as on any machine that does not forbid it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

COMMANDS = {
    "--version": ["--version"],
    "--help": ["--help"],
    "a misspelt verb": ["trian"],
    "train --help": ["train", "--help"],
    "train, no such folder": ["train", "nowhere", "-o", "model"],
    "train, no such detector": ["train", ".", "-o", "model", "--detector", "nothing"],
    "train, no such preset": ["train", ".", "-o", "model", "--preset", "nothing"],
    "train, no such setting": ["train", ".", "-o", "model", "--set", "nothing=1"],
    "predict, no such model": ["predict", "nowhere", "part.png"],
    "presets": ["presets"],
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks startup", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--beside", type=Path, metavar="EDGEAD", help="the command of another installation")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    here = Path(sys.executable).with_name("edgead")
    programs = [here, *([options.beside.absolute()] if options.beside else [])]
    print("| command | CPU, s |" + (" beside, s | ratio |" if options.beside else ""))
    print("|---|---|" + ("---|---|" if options.beside else ""))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.png").touch()
        for name, words in COMMANDS.items():
            taken: list[list[float]] = [[] for _ in programs]
            for program in programs:  # compiles
                cpu_s([str(program), *words], folder)
            for _ in range(options.rounds):
                for program, of_program in zip(programs, taken, strict=True):
                    of_program.append(cpu_s([str(program), *words], folder))
            medians = [statistics.median(of_program) for of_program in taken]
            ratio = f" {medians[1] / medians[0]:.1f} |" if options.beside else ""
            print(f"| {name} |{''.join(f' {median:.2f} |' for median in medians)}{ratio}", flush=True)


def cpu_s(command: list[str], folder: str) -> float:
    """User and system seconds of a command, whatever it exits with."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = os.times()
    subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
