"""What priority and cores are worth: verdict latency of the daemon beside a program that takes one core whole.

`python -m benchmarks realtime MODEL --minutes 5 --rounds 3 --json realtime.json`. Rounds with and without the settings
take turns, each with a daemon of its own, and with a loop that has the priority and nothing of edgead, beside the same
load; the last rounds have no load beside them. Latencies are those of the records, from the capture to the verdict, of
every frame but the first. Run it on a machine that has nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.bare_loop import bare_latency
from benchmarks.soak import soak
from benchmarks.stalls import Stalls, watched_stalls
from edgead.profiling.latency import machine_facts

LIMIT = 1.5
"""What p99.9 over p50 is to stay within, with the settings and beside the load."""
_BUSY = "while True: pass"


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table, and exit with 1 where a round with the settings exceeds the limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks realtime", description=__doc__)
    parser.add_argument("model", type=Path, help="an artifact, such as out/demo/model")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=10.0, help="parts a second")
    parser.add_argument("--priority", type=int, default=50)
    parser.add_argument("--json", type=Path, help="where all rounds go")
    options = parser.parse_args(arguments)
    rounds = []
    for number in range(options.rounds + 1):
        loaded = number < options.rounds
        for one in _turns(options, loaded):
            rounds.append(one)
            print(_row(one), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine_facts(), "rounds": rounds}, indent=1) + "\n")
    if any(_ratio(one) > LIMIT for one in rounds if one["realtime"] and one["loaded"]):
        sys.exit(f"p99.9 is more than {LIMIT} times p50")


def _turns(options: argparse.Namespace, loaded: bool) -> Iterator[dict[str, Any]]:
    for realtime in ({"priority": options.priority}, {}):
        yield _round(options.model, options.minutes, options.rate, realtime, loaded)
    with _load(loaded), watched_stalls() as stalls:
        latency_ms = bare_latency(options.minutes, options.rate, options.priority)
    yield {"realtime": {}, "bare": True, "loaded": loaded, "latency_ms": latency_ms, "stalls": asdict(stalls)}


def _round(model: Path, minutes: float, rate: float, realtime: dict[str, Any], loaded: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="edgead-realtime-") as folder, _load(loaded):
        found = soak(model, Path(folder), minutes=minutes, rate=rate, realtime=realtime).require_whole()
    return {
        "realtime": realtime,
        "loaded": loaded,
        "records": found.records,
        "latency_ms": found.latency_ms,
        "stalls": asdict(found.stalls),
    }


@contextmanager
def _load(wanted: bool) -> Iterator[None]:
    """A process that computes all the time, as another program of the same computer would."""
    if not wanted:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", _BUSY]) as busy:
        try:
            yield
        finally:
            busy.kill()


def _ratio(one: dict[str, Any]) -> float:
    return one["latency_ms"]["p99.9"] / one["latency_ms"]["p50"]


def _row(one: dict[str, Any]) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in one["realtime"].items()) or "usual"
    settings = "a loop without edgead" if one.get("bare") else settings
    load = "one core busy" if one["loaded"] else "idle"
    times = ", ".join(f"{name} {ms:.1f}" for name, ms in one["latency_ms"].items())
    return f"| {settings} | {load} | {times} | {_ratio(one):.2f} | {Stalls(**one['stalls'])} |"
