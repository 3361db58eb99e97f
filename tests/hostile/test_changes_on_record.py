"""Changes while the audit cannot be written, or is damaged: none is in force that is not on record."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager

import pytest

pytest.importorskip("onnx", reason="CHANGES ON RECORD NOT TESTED: the small models need onnx")
from small_daemon import small_daemon, write_model

CONVEYOR = {"uri": "synthetic:?rate=40&count=6&repeat=1"}
GIVEN = {"review": 0.1, "reject": 0.2, "by": "Mallory"}


@contextmanager
def locked(folder):
    with closing(sqlite3.connect(folder / "evidence" / "verdicts.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


@pytest.fixture
def daemon(once, tmp_path, monkeypatch):
    monkeypatch.setattr("edgead.line.evidence.database._WAIT_S", 0.2)
    pipeline = {"camera": "c", "model": str(write_model(once, tmp_path / "one"))}
    write_model(once, tmp_path / "two")
    site = {"cameras": {"c": CONVEYOR}, "pipelines": {"a": pipeline}, "http": {"port": 0}}
    with small_daemon(tmp_path, site) as started:
        started.wait_state("running")
        yield started


def in_force(daemon):
    found = daemon.status()
    return found.model, found.thresholds, found.earlier_model


def test_what_cannot_be_put_on_record_is_refused_and_changes_nothing(daemon, tmp_path):
    changes = (
        ("PUT", "thresholds", GIVEN),
        ("POST", "model", {"model": "two", "by": "Mallory"}),
        ("POST", "roll-back", {"by": "Mallory"}),
        ("POST", "accept-drift", {"by": "Mallory"}),
    )
    with daemon.client as client:
        for model in ("two", "one"):  # so that there is one to go back to
            client.post("/api/pipelines/a/model", json={"model": model, "by": "Anna"}).raise_for_status()
        daemon.wait_judged()
        before, rows = in_force(daemon), daemon.daemon.store.audit()
        with locked(tmp_path):
            for method, action, given in changes:
                answer = client.request(method, f"/api/pipelines/a/{action}", json=given)
                assert answer.status_code == 503, answer.text
                assert answer.headers["content-type"] == "application/problem+json"
                assert "the audit cannot be written" in answer.json()["detail"]
                assert in_force(daemon) == before
        assert not (tmp_path / "evidence" / "thresholds.json").exists()
        assert daemon.daemon.store.audit() == rows
        for method, action, given in changes:
            client.request(method, f"/api/pipelines/a/{action}", json=given).raise_for_status()
        assert len(daemon.daemon.store.audit()) == len(rows) + len(changes)


def test_a_change_that_fails_after_its_row_is_taken_back_in_a_second_one(daemon, tmp_path):
    (tmp_path / "evidence" / "thresholds.json").mkdir()
    before = in_force(daemon)
    with daemon.client as client:
        answer = client.put("/api/pipelines/a/thresholds", json=GIVEN)
        assert answer.status_code == 409 and "thresholds.json cannot be" in answer.text
    assert in_force(daemon) == before
    undone, row = daemon.daemon.store.audit()
    assert (row["action"], undone["action"]) == ("thresholds", "thresholds, undone")
    assert (undone["before"], undone["after"]) == (row["after"], row["before"])


def test_a_model_that_is_refused_leaves_no_row(daemon, tmp_path):
    (tmp_path / "two" / "model.onnx").write_bytes(b"damaged")
    with daemon.client as client:
        answer = client.post("/api/pipelines/a/model", json={"model": "two", "by": "Anna"})
        assert answer.status_code == 409 and daemon.daemon.store.audit() == []
        answer = client.post("/api/pipelines/a/roll-back", json={"by": "Anna"})
        assert answer.status_code == 409 and daemon.daemon.store.audit() == []


def test_a_reload_keeps_the_model_in_service_where_its_change_cannot_be_put_on_record(daemon, tmp_path, caplog):
    daemon.site["pipelines"]["a"]["model"] = str(tmp_path / "two")
    with locked(tmp_path):
        daemon.reload()
        assert daemon.model() == "one"
    assert "a: keeps its model: not changed, as the audit cannot be written" in caplog.text
    daemon.reload()
    assert daemon.model() == "two"
    (row,) = daemon.daemon.store.audit()
    assert (row["by"], row["action"]) == ("site file", "swap model")
    shown = daemon.daemon.pipelines["a"].status().model_sha256[:16]
    assert row["after"] == f"{tmp_path / 'two'} ({shown})" and shown not in row["before"]


DAMAGE = {
    "invalid JSON": "UPDATE audit SET after = '{' WHERE seq = 2",
    "deep JSON": "UPDATE audit SET after = '" + "[" * 100_000 + "' WHERE seq = 2",
    "no date": "UPDATE audit SET at = 'yesterday' WHERE seq = 2",
    "bytes": "UPDATE audit SET by = x'ff00' WHERE seq = 2",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_row_is_reported_and_stops_no_change(daemon, tmp_path, damage):
    with daemon.client as client:
        for review in (0.11, 0.12):
            client.put("/api/pipelines/a/thresholds", json=GIVEN | {"review": review}).raise_for_status()
        with closing(sqlite3.connect(tmp_path / "evidence" / "verdicts.sqlite")) as other, other:
            other.execute(DAMAGE[damage])
        client.put("/api/pipelines/a/thresholds", json=GIVEN).raise_for_status()
        assert daemon.status().thresholds == {"review": 0.1, "reject": 0.2}
        newest, damaged, first = client.get("/api/audit").raise_for_status().json()
        assert (newest["seq"], damaged["seq"], first["seq"]) == (3, 2, 1)
        assert newest["after"] == {"review": 0.1, "reject": 0.2} and damaged["action"] == "unreadable"
        chain = client.get("/api/audit/chain").raise_for_status().json()
        assert not chain["whole"] and chain["problem"].startswith("row 2 cannot be read")
