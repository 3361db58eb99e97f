"""Simulated devices: the follower and the reporter of the daemon, before a detector that only reads its files."""

from __future__ import annotations

import heapq
import itertools
import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Condition
from types import SimpleNamespace
from typing import Any

from edgead.artifact.folder import Artifact
from edgead.line.daemon.fleet.follower import Follower
from edgead.line.daemon.fleet.followers import RegistryTag
from edgead.line.daemon.fleet.report import make_report
from edgead.line.daemon.fleet.reporter import Reporter
from edgead.line.daemon.self_test import SelfTestError
from edgead.line.site.model_following import FleetSection, FollowSection

BAD = b"bad"
_REQUESTS_AT_A_TIME = 16


class StubLine:
    """A pipeline whose self-test hashes the files of a model; one whose network begins with `BAD` fails it.

    As in the daemon the model in service judges until the other one has passed: `without_s` is the longest time in
    which none could have.
    """

    def __init__(self, name: str, own: Path):
        self.name, self.model_path = name, own
        self.failed_model: Path | None = None
        self.test_s: list[float] = []
        self.without_s = 0.0
        self._sha256 = Artifact.load(own).manifest.manifest_sha256

    def swap(self, model: Path, *, by: str) -> None:
        begin_s = time.perf_counter()
        artifact = Artifact.load(model)
        if artifact.model_path.read_bytes().startswith(BAD):
            raise SelfTestError(f"self-test of {model.name[:12]} failed")
        self.test_s.append(time.perf_counter() - begin_s)
        begin_s = time.perf_counter()
        self.model_path, self._sha256 = model, artifact.manifest.manifest_sha256
        self.without_s = max(self.without_s, time.perf_counter() - begin_s)

    def status(self) -> SimpleNamespace:
        return SimpleNamespace(
            state="running", reason=None, model_sha256=self._sha256, decisions={"ok": 99, "reject": 1}
        )


class SimulatedDevice:
    """One device: its line, its follower, its connection to the broker."""

    def __init__(self, name: str, folder: Path, own: Path, follow: dict[str, Any], fleet: dict[str, Any]):
        section = FollowSection.model_validate(follow)
        self.line = StubLine("line", own)
        self.follower = Follower(section, folder / name, RegistryTag(section), time.monotonic)
        reports = FleetSection.model_validate({**fleet, "device": name})
        pipelines, followers = {"line": self.line}, {"line": self.follower}
        self.reporter = Reporter(reports, lambda: make_report(name, reports.every_s, pipelines, followers))  # type: ignore[arg-type]

    def step(self) -> float:
        return self.follower.step(self.line)


def serve(devices: list[SimulatedDevice], stop: Condition) -> None:
    """Let all devices step when they want to, in some threads; as many requests are under way at most."""
    order = itertools.count()
    due = [(time.monotonic(), next(order), device) for device in devices]
    heapq.heapify(due)

    def step(device: SimulatedDevice) -> None:
        wait_s = device.step()
        with stop:
            heapq.heappush(due, (time.monotonic() + wait_s, next(order), device))
            stop.notify()

    with ThreadPoolExecutor(_REQUESTS_AT_A_TIME) as pool:
        while True:
            with stop:
                while not due or due[0][0] > time.monotonic():
                    stop.wait(due[0][0] - time.monotonic() if due else None)
                device = heapq.heappop(due)[2]
            pool.submit(step, device)


def main(arguments: list[str]) -> None:
    """Simulate the devices of one process, until SIGTERM; then print what their lines went through."""
    given = json.loads(arguments[0])
    devices = [
        SimulatedDevice(
            name, Path(given["folder"]), Path(given["own"]), {**given["follow"], "from": source}, given["fleet"]
        )
        for name, source in given["devices"].items()
    ]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    for device in devices:
        device.reporter.start()
    try:
        serve(devices, Condition())
    finally:
        tests = [test_s for device in devices for test_s in device.line.test_s]
        without = max(device.line.without_s for device in devices)
        print(json.dumps({"test_s": tests, "without_s": without}), flush=True)
        os._exit(0)  # not waiting for its threads
