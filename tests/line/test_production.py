"""Production figures equal what a plain count over all rows gives, for every grouping and in every form."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert
from test_evidence import open_store
from verdicts import Line

from edgead.line.evidence import EvidenceError
from edgead.line.evidence.production.counts import QueryBudget, Tally, Unit, total, units_of
from edgead.line.evidence.production.export import VerdictQuery, as_row, count, pages
from edgead.line.evidence.production.formats import encode, safe_cell
from edgead.line.evidence.production.periods import Period, within
from edgead.line.evidence.production.report import COLUMNS, ReportQuery, report, report_table, sum_of
from edgead.line.evidence.tables import marks, orders, parts, verdicts
from edgead.line.site.shifts import ShiftSection, days_between, shifts_between
from edgead.types import Part

BERLIN = ZoneInfo("Europe/Berlin")
BEGIN = datetime(2026, 10, 23, tzinfo=timezone.utc)  # the clock is changed on the 25th
SPAN = timedelta(days=4)
SHIFTS = {name: ShiftSection(starts=at) for name, at in (("early", "06:00"), ("late", "14:00"), ("night", "22:00"))}
UNIT, LINE = Unit("caps"), Unit("cap", is_part=True)

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "at": st.integers(0, 4 * 24 * 60 - 1),
            "pipeline": st.sampled_from(["caps", "lids"]),
            "decision": st.sampled_from(["ok", "ok", "ok", "review", "reject"]),
            "batch": st.sampled_from(["", "a", "=b"]),
            "recipe": st.sampled_from(["", "left"]),
            "marked": st.booleans(),
        }
    ),
    max_size=40,
)
PLAIN = dict(number=0, name="", source="top", threshold=0.5, model="0", serial="", image_score=0.5)
PLAIN |= dict(preprocess_ms=1.0, infer_ms=1.0, score_ms=1.0, smooth_ms=1.0)
CHECK = settings(max_examples=25, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with closing(open_store(tmp_path_factory.mktemp("evidence"), evidence="none", keep_days=36_500)) as store:
        yield store


@pytest.fixture(scope="module")
def access(store):
    return store.production._access


def fill(store, rows):
    """Put rows into an empty store; gives what a plain count needs of each."""
    with store._engine.begin() as connection:
        for one in (verdicts, marks, parts, orders):
            connection.execute(delete(one))
        for index, row in enumerate(rows):
            at = BEGIN + timedelta(minutes=row["at"])
            named = {key: row[key] for key in ("pipeline", "decision", "batch", "recipe")}
            given = {"id": f"{index:08x}", "captured_at": at, "judged_at": at, "boxes": [], **named}
            connection.execute(insert(verdicts).values({**PLAIN, **given}))
            if row["marked"]:
                opinion = "bad" if row["decision"] == "ok" else "good"
                mark = {"id": given["id"], "pipeline": row["pipeline"], "at": at, "by": "a", "note": ""}
                mark["verdict"] = opinion
                connection.execute(insert(marks).values(mark))
            row["judged_at"] = at
    return [row for row in rows if row["pipeline"] == "caps"]


def plain_count(rows):
    counted = Counter(row["decision"] for row in rows)
    false_rejects = sum(row["marked"] and row["decision"] != "ok" for row in rows)
    escapes = sum(row["marked"] and row["decision"] == "ok" for row in rows)
    return Tally(counted["ok"], counted["review"], counted["reject"], 0, false_rejects, escapes)


def periods_by(by):
    if by == "shift":
        return within(shifts_between(BEGIN, BEGIN + SPAN, SHIFTS, BERLIN), BEGIN, BEGIN + SPAN)
    return within(days_between(BEGIN, BEGIN + SPAN, BERLIN), BEGIN, BEGIN + SPAN)


@pytest.mark.parametrize("by", ["shift", "day", "batch", "recipe"])
@CHECK
@given(rows=ROWS)
def test_every_group_is_what_a_plain_count_gives(store, access, by, rows):
    rows = fill(store, rows)
    found = report(access, ReportQuery(by, tuple(periods_by(by)), (UNIT,)), QueryBudget())
    if by in ("shift", "day"):
        sets = {period: [r for r in rows if period.begin <= r["judged_at"] < period.end] for period in periods_by(by)}
        expected = {(period.name, period.begin): plain_count(of) for period, of in sets.items() if of}
    else:
        values = {row[by] for row in rows}
        expected = {(value, None): plain_count([row for row in rows if row[by] == value]) for value in values}
    assert {(group.name, group.begin): group.units["caps"] for group in found} == expected
    assert sum_of(found) == plain_count(rows)
    pieces = {kind: b"".join(encode(kind, COLUMNS, [report_table(found)])) for kind in ("csv", "jsonl")}
    of_csv = list(csv.DictReader(io.StringIO(pieces["csv"].decode())))
    of_json = list(map(json.loads, pieces["jsonl"].decode().splitlines()))
    for name in ("inspected", "ok", "review", "reject", "false_rejects", "known_escapes"):
        sums = [sum(int(row[name]) for row in of) for of in (of_csv, of_json)]
        assert sums == 2 * [sum_of(found).figures()[name]]


@CHECK
@given(rows=ROWS, begin=st.integers(0, 3000), hours=st.integers(0, 60))
def test_counters_are_the_same_when_they_are_asked_again(store, rows, begin, hours):
    rows = fill(store, rows)
    store.production._pieces.clear()
    period = Period("", BEGIN + timedelta(minutes=begin), BEGIN + timedelta(minutes=begin, hours=hours))
    expected = plain_count([row for row in rows if period.begin <= row["judged_at"] < period.end])
    for _ in range(2):
        assert store.production.count(UNIT, period) == expected == total(store.production.by_hour(UNIT, period))


@CHECK
@given(
    rows=ROWS, decision=st.sampled_from([None, "reject"]), batch=st.sampled_from([None, "", "=b"]), marked=st.booleans()
)
def test_an_export_has_each_row_once_and_in_order(store, access, rows, decision, batch, marked):
    rows = fill(store, rows)
    wanted = VerdictQuery(BEGIN, BEGIN + SPAN, "caps", decision, batch, marked=marked)
    chosen = [
        row
        for row in sorted(rows, key=lambda row: row["judged_at"])
        if decision in (None, row["decision"]) and batch in (None, row["batch"]) and (not marked or row["marked"])
    ]
    found = [as_row(row) for page in pages(access, wanted, QueryBudget()) for row in page]
    assert [(row["judged_at"], row["batch"]) for row in found] == [(row["judged_at"], row["batch"]) for row in chosen]
    assert count(access, wanted, QueryBudget()) == len(chosen)


def test_pages_lose_and_repeat_no_row_of_one_instant(store, access, monkeypatch):
    fill(store, [dict(at=7, pipeline="caps", decision="ok", batch="", recipe="", marked=False) for _ in range(10)])
    monkeypatch.setattr("edgead.line.evidence.production.export.PAGE", 3)
    found = [row.id for page in pages(access, VerdictQuery(BEGIN, BEGIN + SPAN), QueryBudget()) for row in page]
    assert len(set(found)) == len(found) == 10


def add_part(store, number, decision, views, batch=""):
    at = BEGIN + timedelta(hours=number)
    seen = [{"pipeline": name, "id": f"{number:08x}", "decision": said} for name, said in views.items()]
    row = {"id": f"{number:08x}", "part": "cap", "serial": "", "batch": batch, "recipe": "", "decision": decision}
    with store._engine.begin() as connection:
        connection.execute(
            insert(parts).values({**row, "reason": "", "captured_at": at, "judged_at": at, "views": seen})
        )
        for name, said in views.items():
            given = {"id": row["id"], "pipeline": name, "decision": said, "captured_at": at, "judged_at": at}
            connection.execute(insert(verdicts).values({**PLAIN, "batch": batch, "recipe": "", "boxes": [], **given}))


def mark(store, number, pipeline, opinion="good"):
    values = {
        "id": f"{number:08x}",
        "pipeline": pipeline,
        "at": BEGIN + SPAN,
        "by": "a",
        "note": "",
        "verdict": opinion,
    }
    with store._engine.begin() as connection:
        connection.execute(insert(marks).values(values))


def test_a_part_of_several_views_counts_once_and_is_good_once_all_its_views_are(store, access):
    fill(store, [])
    add_part(store, 1, "ok", {"caps": "ok", "side": "ok"}, "a")
    add_part(store, 2, "reject", {"caps": "reject", "side": "reject"}, "a")
    add_part(store, 3, "review", {"caps": "ok", "side": "review"}, "b")
    add_part(store, 4, "fault", {"caps": "ok"}, "b")
    assert units_of(access) == [(LINE, True), (UNIT, False), (Unit("side"), False)]
    whole = Period("", BEGIN, BEGIN + SPAN)
    asked = ReportQuery("batch", (whole,), (LINE,))
    assert sum_of(report(access, asked, QueryBudget())) == Tally(1, 1, 1, 1)
    mark(store, 2, "caps")
    mark(store, 3, "side")
    found = {group.name: group.units["cap"] for group in report(access, asked, QueryBudget())}
    assert found == {"a": Tally(1, 0, 1), "b": Tally(0, 1, 0, 1, false_rejects=1)}
    mark(store, 2, "side")
    counted = store.production.count(LINE, whole)
    assert counted == Tally(1, 1, 1, 1, false_rejects=2)
    assert (counted.inspected, counted.first_yield, counted.reviewed_yield) == (3, 1 / 3, 1.0)


def test_a_part_of_several_views_is_a_known_escape_once_a_view_is_marked_bad(store, access):
    fill(store, [])
    add_part(store, 1, "ok", {"caps": "ok", "side": "ok"})
    add_part(store, 2, "reject", {"caps": "ok", "side": "reject"})
    add_part(store, 3, "ok", {"caps": "ok", "side": "reject"})  # where one good view is enough
    add_part(store, 4, "ok", {"caps": "ok", "side": "reject"})
    for number, pipeline, opinion in ((1, "caps", "bad"), (2, "caps", "bad"), (2, "side", "good"), (3, "caps", "good")):
        mark(store, number, pipeline, opinion)
    whole = Period("", BEGIN, BEGIN + SPAN)
    asked = ReportQuery("day", (whole,), (LINE,))
    assert sum_of(report(access, asked, QueryBudget())) == Tally(3, 0, 1, known_escapes=1)
    mark(store, 4, "side", "bad")  # a defect that a view saw, and the part let pass
    counted = sum_of(report(access, asked, QueryBudget()))
    assert (counted.known_escapes, counted.false_rejects, counted.reviewed_yield) == (2, 0, 1 / 4)


def test_frames_without_a_verdict_stand_in_the_shift_that_they_went_by_in_and_change_no_yield(tmp_path):
    now = datetime.now(timezone.utc).replace(second=30)
    clock = [now]
    begin = (now - timedelta(hours=7)).replace(minute=30, second=0, microsecond=0)  # within an hour, as at 06:30
    late = Period("late", begin, now + timedelta(minutes=1))
    early = Period("early", begin - timedelta(hours=8), begin)
    with closing(open_store(tmp_path, evidence="none", now=lambda: clock[0])) as store:
        fill(store, [])
        add_part(store, 1, "ok", {"caps": "ok", "side": "ok"})
        passed = store.production.passed
        for at, pipeline, frames in (
            (begin - timedelta(seconds=1), "caps", {"paused": 30, "lost": 1}),
            (begin + timedelta(seconds=1), "caps", {"paused": 12}),
            (begin + timedelta(seconds=2), "lids", {"paused": 99}),
            (now, "side", {"late": 2, "in_fault": 3}),
        ):
            clock[0] = at
            passed.add(pipeline, frames)
            passed.write(store._engine)
        passed.add("caps", {"paused": 1})  # waits, and the same minute is on record
        clock[0] = now
        asked = [ReportQuery("shift", (early, late), (unit,)) for unit in (UNIT, LINE)]
        found = [report(store.production._access, one, QueryBudget()) for one in asked]
        counted = [{group.name: total(group.units.values()).uninspected for group in groups} for groups in found]
        assert counted == [{"early": 31, "late": 13}, {"early": 31, "late": 18}]
        for _ in range(2):
            tally = store.production.count(Unit("caps"), late)
            assert (tally, tally.inspected, tally.first_yield) == (Tally(paused=13), 0, None)
            passed.write(store._engine)
        assert not passed.waiting()
        by_batch = report(store.production._access, ReportQuery("batch", (late,), (UNIT,)), QueryBudget())
        assert [(group.name, group.units["caps"].uninspected) for group in by_batch] == [("", 13)]
        rows = [[row[name] for name in ("uninspected", "lost", "paused")] for row in report_table(found[0])]
        assert rows == [[31, 1, 30], [13, 0, 13]]


def test_frames_without_a_verdict_outlive_the_program_and_go_with_the_verdicts_of_their_time(tmp_path):
    now = datetime.now(timezone.utc)
    clock = [now - timedelta(days=3)]
    with closing(open_store(tmp_path, evidence="none", now=lambda: clock[0])) as store:
        store.production.passed.add("caps", {"lost": 2})
        fill(store, [])
        with store._engine.begin() as connection:
            row = {**PLAIN, "id": "1", "pipeline": "caps", "decision": "ok", "boxes": []}
            connection.execute(insert(verdicts).values(captured_at=now, judged_at=now - timedelta(days=2), **row))
    clock[0] = now
    with closing(open_store(tmp_path, evidence="none", now=lambda: clock[0], keep_days=1)) as store:
        store.production.passed.add("caps", {"lost": 4})
        days = Period("", now - timedelta(days=4), now + timedelta(minutes=1))
        query = ReportQuery("day", (days,), (UNIT,))
        assert sum_of(report(store.production._access, query, QueryBudget())).lost == 6
        assert store.remove_old() == 1
        assert sum_of(report(store.production._access, query, QueryBudget())).lost == 4


def test_an_order_lasts_until_the_next_one_and_survives_a_restart(tmp_path):
    clock = iter(BEGIN + timedelta(hours=hour) for hour in range(100))
    with closing(open_store(tmp_path, now=lambda: next(clock), keep_days=36_500)) as store:
        store.production.orders.start(name="one", batch="b", by="anna")
        store.production.orders.start(name="", batch="", by="ben")
    with closing(open_store(tmp_path, keep_days=36_500)) as store:
        newest = store.production.orders.newest()
        assert [(row["name"], row["by"]) for row in newest] == [("", "ben"), ("one", "anna")]
        starts = [datetime.fromisoformat(row["started_at"]) for row in newest[::-1]]
        end = BEGIN + SPAN
        assert store.production.orders.between(BEGIN, end) == [Period("one", *starts), Period("", starts[1], end)]
        assert store.production.orders.between(BEGIN - SPAN, BEGIN) == []
        assert [(row["action"], row["after"]["name"]) for row in store.audit()] == [
            ("start_order", ""),
            ("start_order", "one"),
        ]


def test_the_batch_of_an_order_is_that_of_its_parts_unless_they_name_one(tmp_path):
    with closing(open_store(tmp_path)) as store:
        line = Line()

        def judged(own: str = "") -> None:
            frame, verdict = line.part()
            store.add(replace(frame, part=Part(batch=own)), verdict)

        judged()
        store.production.orders.start(name="PO-7", batch="L-1", by="anna")
        judged()
        judged("own")
        store.production.orders.start(name="PO-8", batch="", by="anna")
        judged()
        assert [record["batch"] for record in store.verdicts()] == ["", "own", "L-1", ""]
        assert [record["number"] for record in store.verdicts(part=Part(batch="L-1"))] == [1]


def test_who_counts_cannot_write(store, access):
    with pytest.raises(EvidenceError, match="cannot be written: attempt to write a readonly database"):
        with access.writing() as connection:
            connection.execute(delete(verdicts))


def test_what_takes_too_long_or_is_too_much_is_refused_in_words(store, access):
    whole = Period("", BEGIN, BEGIN + SPAN)
    with pytest.raises(EvidenceError, match="takes longer than 0 s: choose a shorter time"):
        report(access, ReportQuery("shift", (whole,), (UNIT,)), QueryBudget(0.0))
    with pytest.raises(EvidenceError, match="these are 2001 groups, at most 2000 fit"):
        report(access, ReportQuery("shift", (whole,) * 2001, (UNIT,)), QueryBudget())


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1"])
def test_no_text_is_a_formula_and_numbers_stay_numbers(text):
    assert safe_cell(text) == "'" + text.replace("\r", "\\r")
    assert (safe_cell(-1.5), safe_cell("a=b"), safe_cell("")) == (-1.5, "a=b", "")


def test_no_text_of_a_table_commands_a_terminal():
    assert safe_cell("a\x1b[2J\u202egnp.exe") == "a\\x1b[2J\\u202egnp.exe"
    assert safe_cell("مى‌شود\nКолпак") == "مى‌شود\nКолпак"


def test_a_time_is_counted_by_the_index_alone(store):
    asked = (
        "SELECT decision, count(*) FROM verdicts WHERE pipeline='caps' AND judged_at >= '2026' AND judged_at < '2027'"
    )
    with store._engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked} GROUP BY decision").all()
    assert "USING COVERING INDEX verdicts_by_time (pipeline=? AND judged_at>? AND judged_at<?)" in plan[0][-1]
