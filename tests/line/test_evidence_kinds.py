"""Kinds of defects in the evidence store: counted, named, merged, taken apart, corrected."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta, timezone

import pytest
from test_evidence import open_store
from verdicts import Line, ids

from edgead.line.evidence import EvidenceError
from edgead.types import UNKNOWN_KIND

NOW = datetime(2026, 5, 6, 12, tzinfo=timezone.utc)
JUDGED = ["kind 1", "kind 2", "kind 1", UNKNOWN_KIND, "kind 1", "kind 2", "kind 3", None]


class Clock:
    """Advances by a minute whenever it is asked."""

    def __init__(self):
        self.at = NOW

    def __call__(self):
        self.at += timedelta(minutes=1)
        return self.at


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    with closing(open_store(tmp_path, now=clock, evidence="none", keep_days=36_500)) as store:
        yield store


@pytest.fixture
def added(store):
    """The ids of eight rejects of "caps", one minute after the other, among parts of other decisions and pipelines."""
    line, other = Line("caps"), Line("lids")
    found = []
    for kind in JUDGED:
        part = line.part(0.9, kind)
        assert store.add(*part) and store.add(*line.part(0.1)) and store.add(*line.part(0.45, "kind 1"))
        assert store.add(*other.part(0.9, "kind 1"))
        found.append(part[0].id)
    return found


def counts(store, pipeline="caps", since=NOW, **options):
    found = store.kinds.counts(pipeline, since=since, **options)
    return {each["kind"]: each["count"] for each in found["kinds"]}


def test_kinds_are_counted_most_frequent_first(store, added):
    found = store.kinds.counts("caps", since=NOW)
    assert found == {
        "kinds": [
            {"kind": "kind 1", "count": 3, "corrected": 0},
            {"kind": "kind 2", "count": 2, "corrected": 0},
            {"kind": "kind 3", "count": 1, "corrected": 0},
            {"kind": UNKNOWN_KIND, "count": 1, "corrected": 0},
        ],
        "unsorted": 1,
        "false_rejects": 0,
    }
    assert counts(store, "lids") == {"kind 1": 8} and counts(store, "labels") == {}
    assert counts(store, decision="review") == {"kind 1": 8}


def test_a_time_has_a_begin_that_is_in_it_and_an_end_that_is_not(store, added):
    judged = [datetime.fromisoformat(store.verdict(id)["judged_at"]) for id in added]
    assert counts(store, since=judged[4]) == {"kind 1": 1, "kind 2": 1, "kind 3": 1}
    assert counts(store, since=judged[1], until=judged[4]) == {"kind 1": 1, "kind 2": 1, UNKNOWN_KIND: 1}
    assert counts(store, since=judged[-1] + timedelta(seconds=1)) == {}


def test_a_false_reject_has_no_kind(store, added):
    store.mark_false_reject(added[0], by="anna")
    found = store.kinds.counts("caps", since=NOW)
    assert (found["kinds"][0]["count"], found["false_rejects"]) == (2, 1)
    assert len(store.kinds.boxes("caps", since=NOW)) == 7


def test_a_name_holds_for_what_was_and_for_what_comes(store, added):
    store.kinds.rename("caps", "kind 1", "scratch", by="anna")
    part = Line("caps").part(0.9, "kind 1")
    assert store.add(*part)
    assert counts(store) == {"scratch": 4, "kind 2": 2, "kind 3": 1, UNKNOWN_KIND: 1}
    record = store.verdict(part[0].id)
    assert (record["kind"], record["shown_kind"]) == ("kind 1", "scratch")
    assert counts(store, "lids") == {"kind 1": 8}  # another pipeline's
    store.kinds.rename("caps", "scratch", "kind 1", by="ben")
    assert store.kinds.names("caps") == {} and counts(store)["kind 1"] == 4


def test_merged_kinds_are_shown_as_one_and_can_be_taken_apart(store, added):
    store.kinds.rename("caps", "kind 1", "scratch", by="anna")
    store.kinds.merge("caps", "kind 2", "scratch", by="anna")
    store.kinds.rename("caps", "scratch", "scuff", by="anna")
    found = store.kinds.counts("caps", since=NOW)["kinds"][0]
    assert (found["kind"], found["count"]) == ("scuff", 5)
    assert store.kinds.known("caps") == {
        "kind 3": ["kind 3"],
        "scuff": ["kind 1", "kind 2"],
        UNKNOWN_KIND: [UNKNOWN_KIND],
    }
    store.kinds.split("caps", "scuff", "kind 2", by="anna")
    assert counts(store) == {"scuff": 3, "kind 2": 2, "kind 3": 1, UNKNOWN_KIND: 1}
    store.kinds.split("caps", "scuff", "kind 1", "dent", by="anna")
    assert counts(store)["dent"] == 3 and store.kinds.names("caps") == {"kind 1": "dent"}


def test_one_verdict_can_be_of_another_kind(store, added):
    store.kinds.correct(added[0], "kind 2", by="anna", pipeline="caps")
    store.kinds.correct(added[3], "crack", by="ben")  # nobody knew that kind
    store.kinds.correct(added[7], "crack", by="ben")  # and this one was of none
    assert counts(store) == {"kind 2": 3, "crack": 2, "kind 1": 2, "kind 3": 1}
    record = store.verdict(added[3])
    assert (record["kind"], record["shown_kind"], record["kind_correction"]["by"]) == (UNKNOWN_KIND, "crack", "ben")
    store.kinds.rename("caps", "crack", "fissure", by="anna")
    assert store.verdict(added[3])["shown_kind"] == "fissure"
    store.kinds.merge("caps", "fissure", "kind 3", by="anna")
    assert counts(store) == {"kind 2": 3, "kind 3": 3, "kind 1": 2}
    assert store.kinds.counts("caps", since=NOW)["kinds"][1]["corrected"] == 2
    assert store.kinds.known("caps")["kind 3"] == ["kind 3"]
    store.kinds.correct(added[0], None, by="anna")
    assert store.verdict(added[0])["shown_kind"] == "kind 1" and store.verdict(added[0])["kind_correction"] is None


def test_verdicts_of_a_kind_are_listed_by_what_they_are_shown_as(store, added):
    store.kinds.rename("caps", "kind 1", "scratch", by="anna")
    store.kinds.correct(added[0], "kind 2", by="anna")
    assert ids(store.verdicts(pipeline="caps", kind="scratch", decision="reject")) == [added[4], added[2]]
    assert ids(store.verdicts(kind="scratch", decision="reject")) == [added[4], added[2]]
    two = ids(store.verdicts(pipeline="caps", kind="kind 2"))
    assert two == [added[5], added[1], added[0]]
    assert ids(store.verdicts(pipeline="caps", kind="kind 2", before_id=two[0], limit=1)) == [two[1]]
    assert len(store.verdicts(pipeline="caps", kind="scratch")) == 10  # with those for review
    assert store.verdicts(kind="' OR 1=1 --") == []


def test_boxes_are_those_of_the_time_and_the_kind(store, added):
    box = {"x": 80, "y": 40, "width": 40, "height": 20, "peak": 0.9, "place": ""}
    assert store.kinds.boxes("caps", since=NOW) == [[box]] * 8
    assert store.kinds.boxes("caps", since=NOW, kind="kind 2") == [[box]] * 2
    assert store.kinds.boxes("caps", since=NOW + timedelta(days=1)) == []


REFUSED = [
    (lambda kinds: kinds.rename("caps", "dent", "x", by="a"), "caps has no kind 'dent', known are: kind 1, kind 2, k"),
    (lambda kinds: kinds.rename("caps", "kind 1", "kind 2", by="a"), "has a kind 'kind 2' already: merge them"),
    (lambda kinds: kinds.rename("caps", "kind 1", UNKNOWN_KIND, by="a"), "has a kind 'unknown kind' already"),
    (lambda kinds: kinds.rename("caps", UNKNOWN_KIND, "dent", by="a"), "'unknown kind' are many: say of each image"),
    (lambda kinds: kinds.merge("caps", UNKNOWN_KIND, "kind 1", by="a"), "'unknown kind' are many"),
    (lambda kinds: kinds.merge("caps", "kind 1", UNKNOWN_KIND, by="a"), "'unknown kind' are many"),
    (lambda kinds: kinds.merge("caps", "kind 1", "kind 1", by="a"), "'kind 1' is that kind already"),
    (lambda kinds: kinds.merge("caps", "kind 1", "dent", by="a"), "no kind 'dent'"),
    (lambda kinds: kinds.split("caps", "kind 1", "kind 2", by="a"), "'kind 2' is not shown as 'kind 1', these are: ki"),
    (lambda kinds: kinds.split("caps", "kind 1", "kind 1", by="a"), "has a kind 'kind 1' already"),
    (lambda kinds: kinds.correct("missing", "dent", by="a"), "no such record"),
    (lambda kinds: kinds.rename("caps", "kind 1", "half \ud800", by="a"), "cannot be written: .*surrogates"),
]


def test_what_cannot_be_is_refused_and_changes_nothing(store, added):
    before = counts(store), store.kinds.names("caps"), store.audit()
    for change, why in REFUSED:
        with pytest.raises(EvidenceError, match=why):
            change(store.kinds)
    assert (counts(store), store.kinds.names("caps"), store.audit()) == before


def test_a_part_that_was_found_good_is_of_no_kind(store):
    good = Line().part(0.1)
    store.add(*good)
    with pytest.raises(EvidenceError, match="was found good, so it is of no kind"):
        store.kinds.correct(good[0].id, "dent", by="anna")


def test_every_change_stands_in_the_audit(store, added):
    store.kinds.rename("caps", "kind 1", "scratch", by="anna")
    store.kinds.merge("caps", "kind 2", "scratch", by="ben")
    store.kinds.split("caps", "scratch", "kind 2", by="ben")
    store.kinds.correct(added[0], "kind 2", by="anna")
    found = [(each["by"], each["action"], each["before"], each["after"]) for each in store.audit()]
    assert found[::-1] == [
        ("anna", "rename_kind", "kind 1", "scratch"),
        ("ben", "merge_kinds", "kind 2", "scratch"),
        ("ben", "split_kind", {"kind": "scratch", "judged": "kind 2"}, "kind 2"),
        ("anna", "correct_kind", {"id": added[0], "kind": "scratch"}, {"id": added[0], "kind": "kind 2"}),
    ]


def test_corrections_go_with_what_they_are_of_and_names_stay(tmp_path, clock):
    with closing(open_store(tmp_path, now=clock, keep_days=30)) as store:
        frame, verdict = Line().part(0.9, "kind 1")
        store.add(frame, verdict)
        store.kinds.rename("caps", "kind 1", "scratch", by="anna")
        store.kinds.correct(frame.id, "dent", by="anna")
    clock.at += timedelta(days=31)
    with closing(open_store(tmp_path, now=clock, keep_days=30)) as store:
        assert store.remove_old() == 1
        assert store.kinds.known("caps") == {"scratch": ["kind 1"]}


def test_a_time_is_found_by_the_index_alone(store, added):
    from sqlalchemy import func, select

    from edgead.line.evidence.kinds import _within
    from edgead.line.evidence.tables import verdicts

    query = select(verdicts.c.kind, func.count()).where(*_within("caps", NOW, None, "reject"))
    with store._engine.connect() as connection:
        compiled = query.compile(connection, compile_kwargs={"literal_binds": False})
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", tuple(["caps", "reject", str(NOW)])).all()
    assert "USING COVERING INDEX verdicts_with_defects (pipeline=? AND judged_at>?)" in str(plan)
