"""Files of a store that were damaged or that another daemon holds."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from daemons import START, make_site, started, write_site
from test_drift import calibration, verdict
from verdicts import Line

from edgead.files.folder_lock import FolderLock, HeldFolderError
from edgead.line.daemon.drift import ModelDrift
from edgead.line.drift import DriftSection, DriftWatch
from edgead.line.evidence import EvidenceError, EvidenceStore
from edgead.line.evidence.settings import StoreSection


def test_a_folder_is_held_by_one_and_the_other_is_refused_by_name(tmp_path):
    first = FolderLock(tmp_path / "evidence", "stop that one")
    with pytest.raises(HeldFolderError, match=rf"evidence: is held by process {os.getpid()} \(.*: stop that one"):
        FolderLock(tmp_path / "evidence", "stop that one")
    first.close()
    first.close()
    FolderLock(tmp_path / "evidence", "").close()
    assert list((tmp_path / "evidence").iterdir()) == []


def test_a_file_system_without_locks_is_no_reason_to_stop(tmp_path, monkeypatch, caplog):
    def refuse(descriptor, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    FolderLock(tmp_path, "").close()
    assert "cannot be locked against a second daemon" in caplog.text


@pytest.mark.slow
def test_a_second_daemon_on_a_store_is_refused_and_the_first_goes_on(trained_model, tmp_path):
    site = make_site(trained_model)
    with started(tmp_path, site) as daemon:
        daemon.wait_state("running")
        (tmp_path / "second").mkdir()
        file = write_site(tmp_path / "second", site | {"store": {"folder": str(tmp_path / "evidence")}})
        command = [sys.executable, "-c", START, "daemon", "-c", str(file)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=90)
        assert second.returncode == 2 and f"is held by process {daemon.process.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        daemon.wait_judged(2)
        daemon.process.kill()
        daemon.process.wait()
    with started(tmp_path, site) as daemon:  # a lock does not outlive its process
        daemon.wait_state("running")


@pytest.mark.parametrize("version", ["'two'", "-3", "1.5", "x'00ff'", "''"])
def test_a_damaged_version_of_the_tables_sets_them_aside(tmp_path, version):
    section = StoreSection(folder=tmp_path)
    EvidenceStore(section).close()
    with closing(sqlite3.connect(tmp_path / "verdicts.sqlite")) as connection:
        connection.execute("DROP TABLE schema_version")
        connection.execute("CREATE TABLE schema_version (version)")
        connection.execute(f"INSERT INTO schema_version VALUES ({version})")
        connection.commit()
    with closing(EvidenceStore(section)) as store:
        assert store.add(*Line().part())
        assert "was damaged (" in store.problems()[0] and "damaged-1" in store.problems()[0]
    assert (tmp_path / "verdicts.sqlite.damaged-1").exists()


def test_a_damaged_version_in_a_file_that_someone_named_is_refused(tmp_path):
    section = StoreSection(folder=tmp_path, url=f"sqlite:///{tmp_path}/own.sqlite")
    EvidenceStore(section).close()
    with closing(sqlite3.connect(tmp_path / "own.sqlite")) as connection:
        connection.execute("DROP TABLE schema_version")
        connection.execute("CREATE TABLE schema_version (version)")
        connection.execute("INSERT INTO schema_version VALUES ('two')")
        connection.commit()
    with pytest.raises(EvidenceError, match="schema_version is malformed"):
        EvidenceStore(section)


STATES = {
    "empty": b"",
    "no JSON": b"{",
    "deep": b"[" * 100_000,
    "deep maps": b'{"a":' * 100_000,
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "no UTF-8": b"\xff\xfe",
    "NUL": b"\0" * 1000,
    "long number": b"1" * 10_000,
    "without its parts": b"{}",
}
CHANGES = {
    "limit": [None, "x", float("nan"), float("inf"), [], 10**400],
    "parts": [None, "x", -1, float("nan"), [], 10**400],
    "random": [None, {}, [], {"bit_generator": "MT19937"}, 7],
    "channels": [None, {}, [], 7],
    "changed": [None, 7, [1, 2]],
    "alarm_part": ["x", [], float("nan")],
}


class Slot:
    """A model slot whose model has a calibration, and no golden images."""

    def drift_watch(self, section):
        return DriftWatch(calibration(), section=section)


def judge(drift, count=3):
    limits = calibration()
    for _ in range(count):
        drift.add(Line().capture(), replace(verdict(limits.review * 0.5, limits), model="5e" * 32))


def kept_state(file):
    drift = ModelDrift("a", Slot(), DriftSection(), file)
    judge(drift)
    drift.save()
    return json.loads(file.read_text())


def attempts():
    yield from STATES.items()
    for name, values in CHANGES.items():
        for number, value in enumerate(values):
            yield f"{name} {number}", {name: value}


@pytest.mark.parametrize("damage", [damage for _, damage in attempts()], ids=[name for name, _ in attempts()])
def test_a_damaged_state_of_the_drift_watch_is_no_fault(damage, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    file = tmp_path / "a.json"
    if isinstance(damage, bytes):
        file.write_bytes(damage)
    else:
        file.write_text(json.dumps(kept_state(file) | damage))
    drift = ModelDrift("a", Slot(), DriftSection(), file)
    judge(drift)
    drift.save()
    watched = drift.state is not None and drift.state.state == "ok"
    assert watched or "the drift watch failed and is off" in caplog.text
    if isinstance(damage, bytes):
        assert "a.json is dropped" in caplog.text and drift.state.parts == 3
        assert json.loads(file.read_text())["parts"] == 3
