"""The audit is a chain: whatever is done to its rows is found, at the first row that is not in order."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import re
import sqlite3
import threading
import time
from contextlib import closing
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from command_line import run_here
from patience import MAX_S, wait_for
from sqlalchemy import event
from test_evidence import open_store
from verdicts import Line

from edgead.line.evidence import EvidenceError, chain, upkeep
from edgead.line.evidence.audit import export_audit, read_exported
from edgead.line.evidence.records import opened_store

CHANGES = [
    {"by": "anna", "action": "thresholds", "before": {"reject": 1.0, "review": 0.5}, "after": {"reject": 3e-7}},
    {"by": "Jörg", "action": "swap model", "before": "/models/a", "after": "/models/b"},
    {"by": "anna", "action": "accept drift", "before": None, "after": None},
    {"by": "tom", "action": "rename_kind", "before": "scratch", "after": "Kratzer"},
    {"by": "tom", "action": "thresholds", "before": [1, 2.0, True], "after": {"b": {"z": 1, "a": None}}},
]


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """The folder of a store with five rows of its audit."""
    folder = tmp_path_factory.mktemp("audited")
    with closing(open_store(folder)) as store:
        for change in CHANGES:
            store.add_audit(pipeline="caps", **change)
    return folder


@pytest.fixture(scope="module")
def rows(audited):
    with opened_store(audited) as access, access.reading() as connection:
        return list(chain.rows_of(connection))


def edgead(*arguments, expect=0):
    ended = run_here(*arguments)
    assert ended.returncode == expect, ended
    return ended


def checked(folder, kept=None):
    with opened_store(folder) as access, access.reading() as connection:
        return chain.check(chain.rows_of(connection), kept)


def test_a_chain_that_nobody_touched_is_whole(rows):
    found = chain.check(rows)
    assert found == chain.ChainCheck(5, chain.ChainHead(5, rows[-1]["hash"]), None)
    assert [row["previous"] for row in rows] == ["0" * 64, *(row["hash"] for row in rows[:-1])]
    assert chain.check([]) == chain.ChainCheck(0, chain.ChainHead())


def test_the_hash_of_a_row_is_the_one_that_the_documentation_says(rows):
    row = rows[1]
    content = '["edgead audit 1","%s",2,"%s","J\\u00f6rg","swap model","caps","/models/a","/models/b"]'
    assert row["hash"] == hashlib.sha256((content % (row["previous"], row["at"])).encode()).hexdigest()
    # PostgreSQL gives the keys of an object in an order of its own.
    assert len({chain.hash_of({**row, "after": after}, "0") for after in ({"a": 1, "b": 2}, {"b": 2, "a": 1})}) == 1


@pytest.mark.parametrize("column", ["seq", "at", "by", "action", "pipeline", "before", "after", "previous", "hash"])
def test_a_change_of_any_column_of_any_row_is_found_at_that_row(rows, column):
    other = {"seq": 77, "at": "2026-01-01T00:00:00.000000+00:00", "previous": "0" * 63 + "1", "hash": "f" * 64}
    for place, row in enumerate(rows):
        found = chain.check([*rows[:place], {**row, column: other.get(column, "else")}, *rows[place + 1 :]])
        assert found.rows == place, row
        where = 77 if column == "seq" else row["seq"]
        assert found.problem.startswith(f"row {where} of ") and "was changed" in found.problem


@pytest.mark.parametrize("place", range(4))
def test_a_row_that_was_taken_out_is_missed_by_the_one_behind_it(rows, place):
    found = chain.check([*rows[:place], *rows[place + 1 :]])
    where = f"row {place}" if place else "the beginning"
    assert found.rows == place and f"row {place + 2} of " in found.problem
    assert f"was not written behind {where}: rows between them were taken out" in found.problem


@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 3), (3, 4)])
def test_rows_that_were_moved_are_found(rows, one, other):
    moved = list(rows)
    moved[one], moved[other] = rows[other], rows[one]
    found = chain.check(moved)
    assert found.rows == one and "was written behind one that comes later: rows were moved" in found.problem


def test_a_row_that_was_put_in_well_hashed_is_found_by_the_one_behind_it(rows):
    put = {**rows[2], "by": "mallory", "previous": rows[2]["hash"]}
    put["hash"] = chain.hash_of(put, put["previous"])
    found = chain.check([*rows[:3], put, *rows[3:]])
    assert found.rows == 4 and "row 4 of " in found.problem and "rows were put in between" in found.problem
    bare = {**put, "previous": "", "hash": ""}
    assert "has no hash: something else than edgead" in chain.check([*rows[:3], bare]).problem


def test_what_was_cut_off_is_seen_against_a_hash_that_was_kept(rows):
    head = rows[-1]["hash"]
    assert chain.check(rows[:3]).problem is None
    assert "rows were cut off at the end, or the whole chain was made again; it ends with row 3" in (
        chain.check(rows[:3], head).problem
    )
    assert "it is empty" in chain.check([], head).problem
    assert chain.check(rows, rows[2]["hash"]).problem is None  # rows came since
    again, previous = [], chain.FIRST
    for row in rows:  # by who may write the database
        forged = {**row, "by": "nobody", "previous": previous}
        previous = forged["hash"] = chain.hash_of(forged, previous)
        again.append(forged)
    assert chain.check(again).problem is None
    assert "the whole chain was made again" in chain.check(again, head).problem


def test_a_database_that_is_changed_by_hand_is_found(tmp_path, caplog):
    caplog.set_level(logging.INFO, "edgead.line.evidence.access")
    with closing(open_store(tmp_path)) as store:
        for change in CHANGES:
            store.add_audit(pipeline="caps", **change)
        head = store.audit_chain.head
        assert store.audit_chain.check().problem is None
    assert caplog.records[-1].getMessage() == f"audit row 5: {head.hash}" and caplog.records[-1].audit == head.hash
    with closing(sqlite3.connect(tmp_path / "verdicts.sqlite")) as connection:
        connection.execute("UPDATE audit SET \"by\" = 'ben' WHERE seq = 4")
        connection.commit()
    assert "row 4 of " in checked(tmp_path).problem
    with closing(open_store(tmp_path)) as store:
        assert store.audit_chain.head == head
        assert "was changed" in store.audit_chain.check().problem


def test_writers_in_several_threads_and_stores_keep_one_chain(tmp_path):
    line = Line()
    with closing(open_store(tmp_path)) as one, closing(open_store(tmp_path)) as other:
        bad = [line.part(0.9) for _ in range(8)]
        assert all(one.add(*part) for part in bad)

        def write(store, name):
            for frame, _ in bad:
                store.mark_false_reject(frame.id, by=name)
                store.add_audit(by=name, action="thresholds", pipeline="caps", before=None, after={"reject": 1.0})

        threads = [threading.Thread(target=write, args=(store, f"{k}")) for k, store in enumerate((one, other, one))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = checked(tmp_path)
    assert (found.rows, found.problem) == (48, None)


def test_the_head_does_not_go_back_where_the_first_to_write_is_the_last_to_say_so(tmp_path):
    written, may_return = threading.Event(), threading.Event()

    def hold_the_first(*_):
        if threading.current_thread() is first:
            written.set()
            may_return.wait(MAX_S)

    with closing(open_store(tmp_path)) as store:
        event.listen(store._engine, "checkin", hold_the_first)  # after the commit
        first = threading.Thread(target=lambda: store.add_audit(pipeline="caps", **CHANGES[0]))
        first.start()
        assert written.wait(MAX_S)
        store.add_audit(pipeline="caps", **CHANGES[1])
        may_return.set()
        first.join()
        assert store.audit_chain.head == store.audit_chain.check().head
        assert store.audit_chain.head.seq == 2


def test_a_change_that_was_not_written_leaves_the_head_where_it_was(tmp_path):
    with closing(open_store(tmp_path)) as store:
        store.add_audit(pipeline="caps", **CHANGES[0])
        head = store.audit_chain.head
        with pytest.raises(EvidenceError, match="not JSON serializable"):
            store.add_audit(by="anna", action="x", pipeline="caps", before={1, 2}, after=None)
        assert store.audit_chain.head == head
    assert checked(tmp_path).head == head


def test_retention_leaves_the_audit(tmp_path):
    future = datetime.now(timezone.utc) + timedelta(days=400)
    line = Line()
    with closing(open_store(tmp_path)) as store:
        frame, verdict = line.part(0.9)
        store.add(frame, verdict)
        store.mark_false_reject(frame.id, by="anna")
    with closing(open_store(tmp_path, now=lambda: future)) as store:
        assert store.remove_old() == 1
        assert store.audit_chain.check() == checked(tmp_path)
        assert store.audit_chain.check().rows == 1


def test_many_who_ask_are_given_one_check_a_minute(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("edgead.line.evidence.audit.time", SimpleNamespace(monotonic=lambda: clock.now))
    with closing(open_store(tmp_path)) as store:
        first = store.audit_chain.check()
        clock.now += 60
        assert store.audit_chain.check() is first
        clock.now += 1
        again = store.audit_chain.check()
        assert again == first and again is not first
        clock.now += 60
        assert store.audit_chain.check() is again


@pytest.mark.parametrize("more", [False, True], ids=["cut", "cut and written on"])
def test_what_is_cut_off_under_a_running_daemon_is_said_at_once_and_is_a_problem_of_the_store(
    tmp_path, monkeypatch, more
):
    monkeypatch.setattr(upkeep, "_DISK_EVERY_S", 0.05)
    monkeypatch.setattr(upkeep, "_RETENTION_EVERY_S", 0.05)
    with closing(open_store(tmp_path)) as store:
        for change in CHANGES:
            store.add_audit(pipeline="caps", **change)
        assert store.audit_chain.check().problem is None  # the answer that could be given for a minute
        time.sleep(0.3)
        assert store.problems() == ()
        with closing(sqlite3.connect(tmp_path / "verdicts.sqlite")) as connection, connection:
            connection.execute("DELETE FROM audit WHERE seq > 3")
        if more:
            store.add_audit(pipeline="caps", **CHANGES[0])
        # A look between the cut and the next row finds what it finds without one.
        problem = "no row has the hash|" + ("row 6 of .* comes behind row 3" if more else "row 5 is not there")
        problem += "|was not written behind row 3"
        assert re.search(problem, store.audit_chain.check().problem)
        (said,) = wait_for(store.problems, "the notice")
        assert re.search(f"the audit is not as it was written: .*({problem})", said)
        assert store.audit_chain.check() is store.audit_chain.check()  # for a minute: many may ask


def test_a_cut_that_nobody_asks_for_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(upkeep, "_DISK_EVERY_S", 0.05)
    monkeypatch.setattr(upkeep, "_RETENTION_EVERY_S", 0.05)
    with closing(open_store(tmp_path)) as store:
        for change in CHANGES:
            store.add_audit(pipeline="caps", **change)
        with closing(sqlite3.connect(tmp_path / "verdicts.sqlite")) as connection, connection:
            connection.execute("DELETE FROM audit WHERE seq > 3")
        (said,) = wait_for(store.problems, "the notice")
        assert "the audit is not as it was written" in said


def test_an_export_is_checked_as_the_store_is(rows, tmp_path):
    file = tmp_path / "audit.jsonl"
    assert export_audit(rows, file) == 5
    assert list(read_exported(file)) == rows
    assert export_audit(rows, tmp_path / "audit.csv") == 5
    first, second, *_ = (tmp_path / "audit.csv").read_text().splitlines()
    assert first == "seq,at,by,action,pipeline,before,after,previous,hash"
    assert second.endswith(f"{rows[0]['previous']},{rows[0]['hash']}")


def test_a_table_of_the_audit_holds_no_formulas(rows, tmp_path):
    claims = ["=HYPERLINK(1)", "+1", "-1", "@A1", "\t=1"]
    export_audit([{**rows[0], "by": claim, "after": -5} for claim in claims], tmp_path / "audit.csv")
    with (tmp_path / "audit.csv").open(newline="") as table:
        found = list(csv.DictReader(table))
    assert [row["by"] for row in found] == [f"'{claim}" for claim in claims]
    assert {row["after"] for row in found} == {"'-5"} and found[0]["seq"] == "1"


def test_the_command_verifies_and_exports(audited, rows, tmp_path):
    file, head = tmp_path / "audit.jsonl", rows[-1]["hash"]
    assert f"whole: 5 rows\nhead: {head}\n" in edgead("audit", "verify", audited).stdout
    assert json.loads(edgead("audit", "export", audited, "-o", file, "--json").stdout)["head"] == head
    report = json.loads(edgead("audit", "verify", file, "--head", head, "--json").stdout)
    assert report == {"whole": True, "rows": 5, "seq": 5, "head": head, "problem": None}
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:1], *lines[2:]]))
    cut = edgead("audit", "verify", file, expect=1)
    assert "row 3 of" in cut.stdout + cut.stderr and "taken out" in cut.stdout + cut.stderr
    file.write_text("".join(lines[:4]))
    assert "cut off at the end" in edgead("audit", "verify", file, "--head", head, expect=1).stderr
    file.write_text("{}\n")
    assert "audit.jsonl:1: is no row of an audit" in edgead("audit", "verify", file, expect=2).stderr
    assert "hash of 64 hexadecimal digits" in edgead("audit", "verify", audited, "--head", "x", expect=2).stderr
    assert "--output is missing" in edgead("audit", "export", audited, expect=2).stderr


CUT = {
    "the tail": (
        "DELETE FROM audit WHERE seq > 3",
        "row 5 is not there: rows were cut off at the end; it ends with row 3",
    ),
    "all": ("DELETE FROM audit", "row 5 is not there: rows were cut off at the end; it is empty"),
}


@pytest.mark.parametrize("what", CUT)
def test_what_is_cut_off_while_no_daemon_runs_is_missed_by_its_number(tmp_path, what):
    statement, problem = CUT[what]
    with closing(open_store(tmp_path)) as store:
        for change in CHANGES:
            store.add_audit(pipeline="caps", **change)
    with closing(sqlite3.connect(tmp_path / "verdicts.sqlite")) as connection, connection:
        connection.execute(statement)
    assert problem in edgead("audit", "verify", tmp_path, expect=1).stderr
    with closing(open_store(tmp_path)) as store:
        assert problem in store.audit_chain.check().problem
        store.add_audit(pipeline="caps", **CHANGES[0])
    where = "row 3" if what == "the tail" else "the beginning"
    assert f"comes behind {where}: rows between them were taken out" in (
        edgead("audit", "verify", tmp_path, expect=1).stderr
    )


@pytest.mark.parametrize("made_again", [False, True])
def test_what_a_daemon_wrote_and_somebody_removed_while_it_runs_stays_missing(tmp_path, caplog, made_again):
    with closing(open_store(tmp_path)) as store:
        for change in CHANGES:
            store.add_audit(pipeline="caps", **change)
        with closing(sqlite3.connect(tmp_path / "verdicts.sqlite")) as connection, connection:
            connection.execute("DELETE FROM audit WHERE seq > 3")
            connection.execute("UPDATE sqlite_sequence SET seq = 3 WHERE name = 'audit'")
        if made_again:
            with closing(open_store(tmp_path)) as other:
                for change in CHANGES[:2]:
                    other.add_audit(pipeline="caps", **change)
        assert "rows were cut off at the end, or the whole chain was made again" in store.audit_chain.check().problem
        store.add_audit(pipeline="caps", **CHANGES[0])
    assert "is no longer there: see `edgead audit verify`" in caplog.text
    where = 5 if made_again else 3
    assert f"was not written behind row {where}: rows between them were taken out" in (
        edgead("audit", "verify", tmp_path, expect=1).stderr
    )
