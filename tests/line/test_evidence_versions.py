"""Databases that an earlier edgead made still open, with all that they hold, whatever ends the change under way.

`fixtures/evidence_4.sql` is a database of version 4, as the last edgead of that version wrote it.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from patience import wait_until
from sqlalchemy import create_engine, event
from test_evidence import open_store
from verdicts import Line

from edgead.line.evidence import EvidenceError
from edgead.line.evidence.database import open_engine
from edgead.line.evidence.kept_frames import kept_rejects
from edgead.line.evidence.settings import StoreSection
from edgead.line.evidence.versions import prepare_tables
from edgead.types import Part

FIXTURES = Path(__file__).parents[1] / "fixtures"
# One, three, one and one of the steps, two that write the version: all in one transaction.
STATEMENTS = 8


@pytest.fixture
def earlier(tmp_path):
    """The folder of a store of version 4."""
    with closing(sqlite3.connect(tmp_path / "verdicts.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript((FIXTURES / "evidence_4.sql").read_text())
    return tmp_path


def schema_of(folder):
    """Tables with their columns, and indexes with theirs, in whatever order they were made."""
    with closing(sqlite3.connect(folder / "verdicts.sqlite")) as connection:
        names = "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
        found = {}
        for kind, name in connection.execute(names):
            columns = connection.execute(f"PRAGMA {kind}_{'xinfo' if kind == 'index' else 'info'}({name})").fetchall()
            found[name] = sorted(row[1:4] if kind == "table" else (row[0], row[2]) for row in columns)
        return found


def rows_of(folder):
    with closing(sqlite3.connect(folder / "verdicts.sqlite")) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("verdicts", "marks", "audit")
        }


def check_that_all_is_kept(store):
    records = store.verdicts()
    assert [(record["number"], record["decision"], record["shown_kind"]) for record in records] == [
        (0, "reject", "scuff"),
        (4, "reject", "crack"),
        (3, "ok", None),
        (2, "reject", "scuff"),
        (1, "review", "scuff"),
        (0, "ok", None),
    ]
    assert (records[0]["serial"], records[0]["batch"], records[0]["recipe"]) == ("A-17", "b 7", "left")
    assert records[3]["false_reject"]["note"] == "dust" and records[1]["boxes"][0]["peak"] == 0.8
    assert [change["action"] for change in store.audit()] == [
        *("thresholds", "mark_false_reject", "correct_kind", "rename_kind", "mark_false_reject"),
    ]
    assert {(record["typical_score"], record["score"]) for record in records} == {(None, None)}
    assert all(record["measured"] == {} for record in records)


def test_a_database_of_version_4_opens_with_all_it_holds(earlier):
    with closing(open_store(earlier, keep_days=36_500)) as store:
        check_that_all_is_kept(store)
        found = store.audit_chain.check()
        assert (found.rows, found.problem) == (5, None)
        frame, verdict = Line().part(0.9, "scratch")
        assert store.add(replace(frame, part=Part("A-18")), replace(verdict, typical_score=0.1))
        assert store.verdict(frame.id)["kind"] == "scratch"
    with closing(open_store(earlier, keep_days=36_500)) as store:
        assert store.verdicts(part=Part("A-18"))[0]["typical_score"] == 0.1


def test_who_only_reads_says_what_brings_version_4_to_todays(earlier):
    before = schema_of(earlier)
    with pytest.raises(EvidenceError, match="tables are of version 4, this edgead reads version 9: start this edgead"):
        kept_rejects(earlier, None, timedelta(days=1))
    assert schema_of(earlier) == before
    (earlier / "verdicts.sqlite").write_bytes(b"")
    with pytest.raises(EvidenceError, match="verdicts.sqlite: holds no tables of an evidence store, this edgead reads"):
        kept_rejects(earlier, None, timedelta(days=1))


def test_what_becomes_of_an_earlier_one_is_what_a_new_database_is(earlier):
    open_store(earlier, keep_days=36_500).close()
    open_store(earlier / "new").close()
    made, new = schema_of(earlier), schema_of(earlier / "new")
    types = {"DOUBLE PRECISION": "DOUBLE", "DOUBLE_PRECISION": "DOUBLE"}
    for found in (made, new):
        for name, columns in found.items():
            found[name] = [tuple(types.get(part, part) for part in column) for column in columns]
    assert made == new


@pytest.mark.parametrize("version", [1, 3])
def test_one_before_those_that_can_be_changed_is_refused_and_left(earlier, version):
    with closing(sqlite3.connect(earlier / "verdicts.sqlite")) as connection:
        connection.execute("UPDATE schema_version SET version = ?", (version,))
        connection.commit()
    before = schema_of(earlier)
    message = f"of version {version}, and this edgead changes those from version 4 on: name another folder"
    with pytest.raises(EvidenceError, match=message):
        open_store(earlier)
    assert schema_of(earlier) == before


def killer_after(count):
    """What kills this process, as the system does it, after so many statements that change a database."""
    done = 0

    def kill(connection, cursor, statement, *rest):
        nonlocal done
        done += statement.lstrip().startswith(("ALTER", "CREATE", "DELETE", "INSERT"))
        if done == count:
            os.kill(os.getpid(), signal.SIGKILL)

    return kill


@pytest.mark.parametrize("after", range(1, STATEMENTS + 1))
def test_a_change_that_is_killed_leaves_a_database_that_opens(earlier, after):
    before = rows_of(earlier)
    pid = os.fork()
    if pid == 0:
        engine = open_engine(StoreSection(folder=earlier))
        event.listen(engine, "after_cursor_execute", killer_after(after))
        try:
            prepare_tables(engine)
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert rows_of(earlier) == before
    with closing(open_store(earlier, keep_days=36_500)) as store:
        check_that_all_is_kept(store)


def test_tables_without_their_version_are_damage(earlier):
    with closing(sqlite3.connect(earlier / "verdicts.sqlite")) as connection:
        connection.execute("DROP TABLE schema_version")
        connection.commit()
    with closing(open_store(earlier)) as store:
        assert store.verdicts() == []
    assert list(earlier.glob("verdicts.sqlite.*"))


def test_one_that_cannot_be_changed_is_named_with_what_to_do(earlier):
    before = (earlier / "verdicts.sqlite").read_bytes()
    engine = create_engine(f"sqlite:///file:{earlier}/verdicts.sqlite?mode=ro&uri=true")
    with pytest.raises(EvidenceError, match="of version 4 and cannot be brought to version 9: attempt to write a read"):
        prepare_tables(engine)
    engine.dispose()
    assert (earlier / "verdicts.sqlite").read_bytes() == before


def test_one_that_somebody_has_locked_is_changed_later(earlier, monkeypatch):
    monkeypatch.setattr("edgead.line.evidence.database._WAIT_S", 0)
    part = Line().part(0.9, "scratch")
    with closing(sqlite3.connect(earlier / "verdicts.sqlite")) as other:
        other.execute("BEGIN IMMEDIATE")
        with closing(open_store(earlier, keep_days=36_500, commit_within_ms=50)) as store:
            assert not store.add(*part)
            other.rollback()
            wait_until(lambda: store.status()["rows_waiting"] == 0)
            assert store.verdict(part[0].id)["kind"] == "scratch" and len(store.verdicts()) == 7
