"""A real daemon in a process of its own, for tests: its site, its log, its API and its records."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from patience import PROGRAM_S, wait_for

START = "from edgead.cli import main; main()"
# After the draining of a site that was given time for it, the rest may take its time too.
PATIENT = "from edgead.line.daemon import run\nrun._GRACE_S = 30.0\n"


def conveyor(rate: float = 20, *, seed: int = 1, count: int = 6, more: str = "&repeat=1") -> dict[str, Any]:
    """A camera above a conveyor of the built-in line that goes round."""
    return {"uri": f"synthetic:?rate={rate:g}&seed={seed}&count={count}{more}"}


def make_site(model: Path, **changed: Any) -> dict[str, Any]:
    """A site with one conveyor and one pipeline `a`, and with time for what is under way when it ends."""
    site: dict[str, Any] = {
        "cameras": {"conveyor": conveyor()},
        "pipelines": {"a": {"camera": "conveyor", "model": str(model)}},
        "store": {"folder": "evidence", "free_mib": 0},
        "http": {"port": 0},
    }
    return site | changed | {"limits": {"drain_s": 30} | changed.get("limits", {})}


def write_site(folder: Path, site: dict[str, Any]) -> Path:
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(site))
    return path


class RunningDaemon:
    """A started daemon; `log` and `records` can still be read after its end."""

    def __init__(self, folder: Path, process: subprocess.Popen, log: Path, database: Path):
        self.folder, self.process = folder, process
        self._log, self._database = log, database
        self._client: httpx.Client | None = None
        self._begun_s, self._starting_s = time.monotonic(), 0.0

    @property
    def log(self) -> list[dict[str, Any]]:
        text = self._log.read_text()
        whole = text[: text.rfind("\n") + 1]
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def api(self) -> httpx.Client:
        if self._client is None:
            port = wait_for(lambda: [line["port"] for line in self.log if "port" in line], "the page")[-1]
            self._starting_s = time.monotonic() - self._begun_s
            self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PROGRAM_S)
        return self._client

    def pipeline(self, name: str = "a") -> dict[str, Any]:
        return self.api.get(f"/api/pipelines/{name}").raise_for_status().json()

    def wait_state(self, state: str, name: str = "a", *, reason: str = "") -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            found = self.pipeline(name)
            return found if found["state"] == state and reason in (found["reason"] or "") else None

        return wait_for(reached, f"{name} is {state}: {reason}")

    def wait_judged(self, more: int, name: str = "a") -> dict[str, Any]:
        begin = self.pipeline(name)["judged"]
        return wait_for(
            lambda: (found := self.pipeline(name))["judged"] >= begin + more and found, f"{more} verdicts of {name}"
        )

    def said(self, text: str) -> list[dict[str, Any]]:
        return [line for line in self.log if text in line["message"]]

    def stop(self, *, within_s: float = 2.0) -> None:
        """SIGTERM; it ends well and in time: where others use the machine too, within three starts."""
        begin_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PROGRAM_S)
        took_s = time.monotonic() - begin_s
        assert code == 0 and took_s < max(within_s, 3 * self._starting_s), (took_s, self._log.read_text())

    def records(self) -> list[dict[str, Any]]:
        connection = sqlite3.connect(self._database)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute("SELECT * FROM verdicts ORDER BY seq")]
        finally:
            connection.close()

    def counts(self) -> dict[str, dict[str, int]]:
        """What each pipeline had counted at the end."""
        return next(line["counts"] for line in reversed(self.log) if "counts" in line)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self.process.kill()
        self.process.wait()


@contextmanager
def started(
    folder: Path, site: dict[str, Any], *, code: str = START, environment: dict[str, str] | None = None
) -> Iterator[RunningDaemon]:
    """Run `edgead daemon` on a site until the block ends; `code` may inject a fault before it starts."""
    path = write_site(folder, site)
    log = folder / "daemon.log"
    database = folder / site["store"]["folder"] / "verdicts.sqlite"
    with log.open("wb") as stream:
        command = [sys.executable, "-c", PATIENT + code, "daemon", "-c", str(path)]
        process = subprocess.Popen(command, stderr=stream, env=environment)
    daemon = RunningDaemon(folder, process, log, database)
    try:
        yield daemon
    finally:
        daemon.close()


def check_records(daemon: RunningDaemon) -> None:
    """After a regular end: every verdict is on record once, none is missing, and each pipeline's are in order."""
    records, counts = daemon.records(), daemon.counts()
    assert len({record["id"] for record in records}) == len(records)
    for name, counted in counts.items():
        numbers = [record["number"] for record in records if record["pipeline"] == name]
        assert len(numbers) == counted["judged"] == counted["taken"] - counted["skipped"]
        assert numbers == sorted(numbers)
