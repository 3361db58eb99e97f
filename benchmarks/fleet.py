"""A fleet on one computer: how soon a tag reaches all, where a bad model stops, and what registry and broker need.

`python -m benchmarks fleet --devices 500 --json fleet.json`. Registry (docker-registry) and broker (mosquitto) are
real, and so is all that a device does with them: the follower and the reporter of the daemon. Its detector is a
stub, whose self-test hashes the model's files. Devices are watched by what the broker knows of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.fleet_devices import BAD
from benchmarks.fleet_servers import Server, make_broker, make_registry, requests_and_bytes
from edgead.artifact.folder import new_artifact, write_manifest
from edgead.artifact.manifest import Manifest, Preprocessing
from edgead.artifact.oci.push import move_tag, push
from edgead.artifact.oci.reference import Reference
from edgead.heads.nearest import NearestHead
from edgead.line.daemon.fleet.devices import Devices, FleetDevice
from edgead.line.daemon.fleet.gate import CanaryGate
from edgead.plant.mqtt.options import BrokerOptions
from edgead.profiling.latency import machine_facts

_PROCESSES = 4
_GIVE_UP_S = 900.0
_AWAY_S = 20.0
_QUIET_S = 60.0
_NETWORK_BYTES = 1 << 20


@dataclass
class Fleet:
    """The servers, and who watches."""

    registry: Server
    broker: Server
    devices: Devices
    folder: Path
    canaries: int
    processes: list[psutil.Popen] = field(default_factory=list)

    def reference(self, tag: str) -> Reference:
        return Reference.read(f"oci://127.0.0.1:{self.registry.port}/line/caps:{tag}")

    def judging(self, digest: str) -> int:
        return sum(_of(device).get("digest") == digest for device in self.devices.all())

    def until(self, true: Callable[[], bool]) -> float:
        """Wait until something is so; gives the seconds."""
        begin_s = time.monotonic()
        while not true():
            if time.monotonic() - begin_s > _GIVE_UP_S:
                raise SystemExit(f"it did not come about within {_GIVE_UP_S:g} s")
            time.sleep(0.1)
        return time.monotonic() - begin_s

    @contextmanager
    def measured(self, result: dict[str, Any]) -> Iterator[None]:
        """Add what the servers did meanwhile."""
        begin_s, before = time.monotonic(), self._used()
        yield
        took_s = time.monotonic() - begin_s
        requests, sent, registry_s, broker_s, devices_s = (
            now - then for now, then in zip(self._used(), before, strict=True)
        )
        result |= {"took_s": round(took_s, 1), "requests": requests, "registry_sent_bytes": sent}
        result |= {"registry_cpu_s": round(registry_s, 2), "broker_cpu_s": round(broker_s, 2)}
        result["devices_cpu_s"] = round(devices_s, 1)
        result["registry_ms_per_request"] = round(1000 * registry_s / max(1, requests), 3)

    def _used(self) -> tuple[float, ...]:
        devices = sum(sum(process.cpu_times()[:2]) for process in self.processes)
        return (*requests_and_bytes(self.registry.log), self.registry.cpu_s, self.broker.cpu_s, devices)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks fleet", description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--canaries", type=int, default=5)
    parser.add_argument("--every-s", type=float, default=20.0, help="how often a device looks at its tag")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = simulate(Path(folder), given.devices, given.canaries, given.every_s)
    found = {"machine": machine_facts(), **found}
    text = json.dumps(found, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


def simulate(folder: Path, count: int, canaries: int, every_s: float) -> dict[str, Any]:
    """Start everything, let a fleet live through what may come, and give the figures."""
    registry, broker = make_registry(folder / "registry"), make_broker(folder / "broker")
    registry.start()
    broker.start()
    try:
        with Devices(BrokerOptions(host="127.0.0.1", port=broker.port), "edgead/fleet") as devices:
            fleet = Fleet(registry, broker, devices, folder, canaries)
            return {"devices": count, "canaries": canaries, "every_s": every_s, **_live(fleet, count, every_s)}
    finally:
        registry.stop()
        broker.stop()


def _live(fleet: Fleet, count: int, every_s: float) -> dict[str, Any]:
    first = push(_model(fleet.folder / "models" / "1", 1), fleet.reference("stable"))
    move_tag(fleet.reference("stable").at(first.digest), fleet.reference("canary"))
    found: dict[str, Any] = {"package_bytes": first.bytes, "first": {}, "quiet": {}, "new": {}, "bad": {}, "away": {}}
    with fleet.measured(found["first"]):
        fleet.processes = _start(fleet, count, every_s)
        fleet.until(lambda: fleet.judging(first.digest) == count)
    with fleet.measured(found["quiet"]):
        time.sleep(_QUIET_S)
    found["quiet"]["messages_per_s"] = round(count / every_s, 1)
    with fleet.measured(found["new"]):
        found["new"] |= _roll_out(fleet, 2, count)
    with fleet.measured(found["bad"]):
        found["bad"] |= _stop_a_bad_one(fleet, every_s)
    with fleet.measured(found["away"]):
        found["away"] |= _roll_out(fleet, 4, count, away=True)
    found["registry_mib"], found["broker_mib"] = round(fleet.registry.memory_mib), round(fleet.broker.memory_mib, 1)
    return found | {"service": _end(fleet.processes)}


def _roll_out(fleet: Fleet, number: int, count: int, *, away: bool = False) -> dict[str, Any]:
    """Push to the canaries, wait until they are well, promote; `away` kills the registry when half have it."""
    pushed = push(_model(fleet.folder / "models" / str(number), number), fleet.reference("canary"))
    canaries_s = fleet.until(lambda: fleet.judging(pushed.digest) == fleet.canaries)
    gate = CanaryGate(str(fleet.reference("canary")), pushed.digest, healthy=fleet.canaries, for_s=5.0)
    fleet.until(lambda: gate.ask(fleet.devices.all(), time.monotonic()).answer == "go")
    move_tag(fleet.reference("canary").at(pushed.digest), fleet.reference("stable"))
    begin_s, result = time.monotonic(), {"sent_bytes": pushed.sent_bytes, "canaries_s": round(canaries_s, 1)}
    if away:
        fleet.until(lambda: fleet.judging(pushed.digest) >= count // 2)
        fleet.registry.stop()
        time.sleep(_AWAY_S)
        there = [device for device in fleet.devices.all() if device.there(time.monotonic())]
        result |= {"had_it": fleet.judging(pushed.digest), "in_service_meanwhile": sum(map(_serves, there))}
        fleet.registry.start()
    fleet.until(lambda: fleet.judging(pushed.digest) == count)
    return result | {"all_s": round(time.monotonic() - begin_s, 1)}


def _stop_a_bad_one(fleet: Fleet, every_s: float) -> dict[str, Any]:
    """Push a model that fails its self-test; gives how many tried it, and what the gate said."""
    bad = push(_model(fleet.folder / "models" / "3", 3, BAD), fleet.reference("canary"))

    def refusing() -> list[FleetDevice]:
        return [one for one in fleet.devices.all() if _of(one)["following"] == "refused" and _saw(one, bad.digest)]

    refused_s = fleet.until(lambda: len(refusing()) == fleet.canaries)
    gate = CanaryGate(str(fleet.reference("canary")), bad.digest, healthy=fleet.canaries, for_s=5.0)
    answer = gate.ask(fleet.devices.all(), time.monotonic()).answer
    time.sleep(2 * every_s)
    saw_it = sum(_of(one)["tag_digest"] == bad.digest for one in fleet.devices.all())
    return {
        "refused_s": round(refused_s, 1),
        "gate": answer,
        "saw_it": saw_it,
        "judge_by_it": fleet.judging(bad.digest),
    }


def _start(fleet: Fleet, count: int, every_s: float) -> list[psutil.Popen]:
    own = _model(fleet.folder / "models" / "own", 0)
    names = {
        f"d{number:04}": str(fleet.reference("canary" if number < fleet.canaries else "stable"))
        for number in range(count)
    }
    to = {"host": "127.0.0.1", "port": fleet.broker.port, "every_s": every_s}
    given = {"folder": str(fleet.folder / "devices"), "own": str(own), "fleet": to}
    given["follow"] = {"every_s": every_s, "jitter": 0.2}
    code = "import sys; from benchmarks.fleet_devices import main; main(sys.argv[1:])"
    processes = []
    for share in range(_PROCESSES):
        devices = dict(list(names.items())[share::_PROCESSES])
        command = [sys.executable, "-c", code, json.dumps({**given, "devices": devices})]
        processes.append(psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
    return processes


def _end(processes: list[psutil.Popen]) -> dict[str, Any]:
    tests: list[float] = []
    without = 0.0
    for process in processes:
        process.terminate()
        said = json.loads(process.communicate()[0])
        tests += said["test_s"]
        without = max(without, said["without_s"])
    return {
        "self_tests": len(tests),
        "self_test_median_ms": round(1000 * statistics.median(tests), 1),
        "self_test_longest_ms": round(1000 * max(tests), 1),
        "longest_without_a_model_ms": round(1000 * without, 3),
    }


def _model(path: Path, number: int, beginning: bytes = b"") -> Path:
    """A model whose network is always the same, but for how it begins, and whose memory bank differs."""
    network = np.random.default_rng(0).bytes(_NETWORK_BYTES)
    with new_artifact(path) as draft:
        (draft / "model.onnx").write_bytes(beginning + network[len(beginning) :])
        np.save(draft / "memory_bank.npy", np.full((64, 64), number, np.float32))
        write_manifest(draft, Manifest.draft("patchcore", Preprocessing(image_size=(32, 32)), NearestHead()))
    return path


def _of(device: FleetDevice) -> dict[str, Any]:
    """What a device has last said of its line."""
    known = device.report.pipelines.get("line") if device.report else None
    return known.model_dump() if known else {"digest": None, "following": None, "tag_digest": None, "model": ""}


def _saw(device: FleetDevice, digest: str) -> bool:
    return _of(device)["tag_digest"] == digest


def _serves(device: FleetDevice) -> bool:
    return bool(_of(device)["model"])
