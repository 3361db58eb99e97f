"""The daemon for minutes or hours: does its memory stay flat, is a record lost, and how late do verdicts come?

`python -m benchmarks soak MODEL --minutes 60 --json soak.json`. The daemon is a process of its own, its camera a
conveyor of the built-in line that moves at a fixed rate. Records are counted in the store's own database after the
end, and latencies are those that stand in the records: from the capture to the verdict, of every frame, none left out.
With `--people`, somebody teaches, calibrates, commissions, sets limits and changes the site all the time: see
`benchmarks.soak_people`.
"""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from benchmarks.soak_people import CAMERA, LINE, People, copy_for_people
from benchmarks.stalls import Stalls, watched_stalls
from edgead.profiling.latency import machine_facts

# What a process takes in while it warms up (caches, pools, first images) is no leak.
WARM_UP_SHARE = 0.25
# A daemon that runs for months starts once: the latencies of the frames that wait for its model are left out.
WARM_UP_FRAMES = 50
_STAGES = ("age_ms", "preprocess_ms", "infer_ms", "score_ms", "smooth_ms")


@dataclass(frozen=True, slots=True)
class Sample:
    """The daemon and all processes below it at one moment, seconds after the start."""

    at_s: float
    rss_mib: float
    descriptors: int
    threads: int
    processes: int


@dataclass(frozen=True, slots=True)
class Growth:
    """How a number went from the warmed-up daemon to the end: medians of the first and of the last third."""

    first: float
    last: float
    per_hour: float


@dataclass(frozen=True, slots=True)
class Soak:
    """What a soak gave; `lost` and `doubled` are records, `latency_ms` is from the capture to the verdict, without
    the first frames."""

    minutes: float
    rate: float
    exit_code: int
    stopped_within_s: float
    counts: dict[str, Any]
    records: int
    sink_records: int
    lost: int
    doubled: int
    latency_ms: dict[str, float]
    memory_mib: Growth
    descriptors: Growth
    threads: Growth
    stalls: Stalls
    samples: list[Sample]
    machine: dict[str, Any]
    people: dict[str, int] = field(default_factory=dict)
    answers: dict[int, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def require_whole(self) -> Soak:
        """Give itself; RuntimeError where a record is lost or doubled, or the daemon or people met a fault."""
        if self.lost or self.doubled or self.exit_code or self.problems:
            found = f"{self.lost} records lost, {self.doubled} doubled, exit code {self.exit_code}"
            raise RuntimeError("\n".join([found, *self.problems]))
        return self

    def table(self) -> str:
        """Lay the result out as Markdown."""
        p50 = self.latency_ms["p50"]
        rows = [
            ("minutes, parts/s", f"{self.minutes:g}, {self.rate:g}"),
            ("frames taken, verdicts", f"{self.counts['taken']}, {self.counts['judged']}"),
            ("frames dropped, skipped", f"{self.counts['dropped']}, {self.counts['skipped']}"),
            ("records in the store, in the sink", f"{self.records}, {self.sink_records}"),
            ("records lost, doubled", f"{self.lost}, {self.doubled}"),
            ("capture to verdict, ms", ", ".join(f"{name} {ms:.2f}" for name, ms in self.latency_ms.items())),
            ("p99.9 / p50", f"{self.latency_ms['p99.9'] / p50:.2f}"),
            ("memory, MiB", _growth_text(self.memory_mib)),
            ("descriptors", _growth_text(self.descriptors)),
            ("threads", _growth_text(self.threads)),
            ("machine", str(self.stalls)),
            ("SIGTERM to the end, s; exit code", f"{self.stopped_within_s:.2f}; {self.exit_code}"),
        ]
        if self.people:
            rows.append(("people", ", ".join(f"{what} {count}" for what, count in self.people.items())))
            rows.append(
                ("answers of the page", ", ".join(f"{count} x {status}" for status, count in self.answers.items()))
            )
            rows.append(("problems that they saw", str(len(self.problems))))
        return "\n".join(["| what | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def main(arguments: Sequence[str]) -> None:
    """Soak, print the table, and exit with 1 where a record is lost or doubled."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak", description=__doc__)
    parser.add_argument("model", type=Path, help="an artifact, such as out/demo/model")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=10.0, help="parts a second")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two looks at the process")
    parser.add_argument("--folder", type=Path, help="for the daemon's files; by default a temporary one")
    parser.add_argument("--people", action="store_true", help="who change models, limits and the site all the time")
    parser.add_argument("--json", type=Path, help="where all samples go")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="edgead-soak-") as temporary:
        folder = options.folder or Path(temporary)
        soaked = soak(
            options.model,
            folder,
            minutes=options.minutes,
            rate=options.rate,
            every_s=options.every,
            people=options.people,
        )
    print(soaked.table())
    if options.json:
        options.json.write_text(json.dumps(asdict(soaked), indent=1) + "\n")
    try:
        soaked.require_whole()
    except RuntimeError as error:
        sys.exit(str(error))


def soak(
    model: Path,
    folder: Path,
    *,
    minutes: float,
    rate: float,
    every_s: float = 5.0,
    realtime: Mapping[str, Any] | None = None,
    people: bool = False,
) -> Soak:
    """Run a daemon for some minutes and look at it.

    Parameters
    ----------
    model : Path
    folder : Path
        Gets the site file, the evidence and the daemon's log.
    rate : float
        Parts a second.
    every_s : float
        Between two samples of the process.
    realtime : mapping, optional
        The pipeline's `realtime:` in the site file.
    people : bool
        Whether somebody changes it all the time; the model is copied for them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if people:
        model = copy_for_people(model, folder / "models")
    site = write_site(folder, model, rate, realtime or {}, evidence="all" if people else "review")
    log = folder / "daemon.log"
    command = [sys.executable, "-c", "from edgead.cli import main; main()", "daemon", "-c", str(site)]
    with log.open("wb") as stream, subprocess.Popen(command, stderr=stream) as daemon:
        try:
            changing = People(site, daemon, log) if people else None
            if changing is not None:
                changing.start()
            with watched_stalls() as stalls:
                samples = _watch(daemon, minutes * 60, every_s)
            if changing is not None:
                changing.stop()
            begin_s = time.monotonic()
            daemon.send_signal(signal.SIGTERM)
            exit_code = daemon.wait(30)
        finally:
            daemon.kill()
    stopped_s = time.monotonic() - begin_s
    counts = _counts_at_the_end(log)[LINE]
    ids, latencies, of_line = _records(folder / "evidence" / "verdicts.sqlite")
    lines = map(json.loads, (folder / "verdicts.jsonl").read_text().splitlines())
    sink_ids = [_key(line["id"], line["pipeline"]) for line in lines]
    return Soak(
        minutes=minutes,
        rate=rate,
        exit_code=exit_code,
        stopped_within_s=stopped_s,
        counts=counts,
        records=len(ids),
        sink_records=len(sink_ids),
        lost=counts["taken"] - counts["skipped"] - of_line + len(set(ids) - set(sink_ids)),
        doubled=len(ids) - len(set(ids)) + len(sink_ids) - len(set(sink_ids)),
        latency_ms=percentiles(latencies[WARM_UP_FRAMES:]),
        memory_mib=_growth(samples, "rss_mib"),
        descriptors=_growth(samples, "descriptors"),
        threads=_growth(samples, "threads"),
        stalls=stalls,
        samples=samples,
        machine=machine_facts(),
        **(changing.found() if changing is not None else {}),
    )


def write_site(folder: Path, model: Path, rate: float, realtime: Mapping[str, Any], evidence: str = "review") -> Path:
    """Write the site file of a soak: one conveyor that goes round, rejects and reviews with images, one sink."""
    line = {"camera": CAMERA, "model": str(model.absolute()), "sinks": ["lines"], "realtime": dict(realtime)}
    site = {
        "cameras": {CAMERA: {"uri": f"synthetic:?seed=3&count=40&defect_rate=0.1&rate={rate:g}&repeat=1"}},
        "pipelines": {LINE: line},
        "sinks": {"lines": {"kind": "uri", "uri": f"jsonl:{folder.absolute() / 'verdicts.jsonl'}"}},
        "store": {"folder": "evidence", "evidence": evidence, "most_mib": 200, "free_mib": 0, "recent": {"frames": 40}},
        "http": {"port": 0},
    }
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(site, sort_keys=False))
    return path


def _watch(daemon: subprocess.Popen, for_s: float, every_s: float) -> list[Sample]:
    samples, begin_s = [], time.monotonic()
    while (at_s := time.monotonic() - begin_s) < for_s:
        if daemon.poll() is not None:
            raise RuntimeError(f"the daemon ended after {at_s:.0f} s with code {daemon.returncode}: see its log")
        samples.append(_sample(daemon.pid, at_s))
        time.sleep(min(every_s, max(0.0, begin_s + for_s - time.monotonic())))
    return samples


def _sample(pid: int, at_s: float) -> Sample:
    root = psutil.Process(pid)
    rss = descriptors = threads = processes = 0
    for process in (root, *root.children(recursive=True)):
        try:
            with process.oneshot():
                rss += process.memory_info().rss
                descriptors += process.num_fds()
                threads += process.num_threads()
                processes += 1
        except psutil.NoSuchProcess:
            continue  # a camera's reader that has just been exchanged
    return Sample(at_s, rss / 2**20, descriptors, threads, processes)


def _growth(samples: Sequence[Sample], name: str) -> Growth:
    warm = samples[int(len(samples) * WARM_UP_SHARE) :]
    third = max(1, len(warm) // 3)
    values, hours = [float(getattr(sample, name)) for sample in warm], [sample.at_s / 3600 for sample in warm]
    slope = float(np.polyfit(hours, values, 1)[0]) if len(warm) > 1 else 0.0
    return Growth(statistics.median(values[:third]), statistics.median(values[-third:]), slope)


def _growth_text(growth: Growth) -> str:
    return f"{growth.first:.1f} -> {growth.last:.1f} ({growth.per_hour:+.1f} an hour)"


def _counts_at_the_end(log: Path) -> dict[str, dict[str, Any]]:
    """What the daemon's last line says that each pipeline has counted."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return next(line["counts"] for line in reversed(lines) if "counts" in line)


def _records(database: Path) -> tuple[list[str], np.ndarray, int]:
    """Keys and milliseconds from the capture to the verdict, in the order of arrival; how many frames the line has."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute(f"SELECT id, pipeline, {' + '.join(_STAGES)} FROM verdicts ORDER BY seq").fetchall()
    connection.close()
    of_line = len({row[0] for row in rows if row[1] == LINE})
    return [_key(row[0], row[1]) for row in rows], np.array([row[2] for row in rows]), of_line


def _key(verdict: str, pipeline: str) -> str:
    """What a verdict is known by: two pipelines judge the same frame."""
    return f"{verdict} {pipeline}"


def percentiles(latencies: np.ndarray) -> dict[str, float]:
    """Milliseconds by name; each is one that was measured."""
    if latencies.size == 0:
        raise RuntimeError(f"there are no more than {WARM_UP_FRAMES} records: run it for longer")
    ranks = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}
    return {name: float(np.percentile(latencies, rank, method="higher")) for name, rank in ranks.items()}
