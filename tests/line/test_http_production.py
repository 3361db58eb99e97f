"""Production figures over the API, with a real store behind it."""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import datetime, timedelta, timezone
from socket import gethostname

import pytest
from http_side import client_of, daemon_with_store
from patience import wait_until

from edgead.types import Part

SCORES = (0.1, 0.2, 0.45, 0.9, 0.9)
TWO_DAYS = {"since": (datetime.now(timezone.utc) - timedelta(days=2)).isoformat()}


@pytest.fixture
def daemon(tmp_path):
    with daemon_with_store(tmp_path, before=0, after=0) as daemon:
        yield daemon


@pytest.fixture
def client(daemon):
    with client_of(daemon, "/api") as client:
        yield client


@pytest.fixture
def judged(daemon):
    batches = ("b 1", "b 1", "b 1", "b 2", "=HYPERLINK()")
    return [
        daemon.judge(number, score, part=Part(batch=batch))
        for number, (score, batch) in enumerate(zip(SCORES, batches, strict=True))
    ]


def test_counters_count_the_shift_and_the_order_since_it_was_started(client, daemon, judged):
    found = client.get("/production/counters").json()
    assert found["order"] is None and found["shift"]["name"] == "day"
    (unit,) = found["units"]
    assert (unit["unit"], unit["is_part"], unit["counts_once"], unit["order"]) == ("front", False, True, None)
    assert unit["shift"] == found["total"]["shift"]
    expected = {"inspected": 5, "ok": 2, "review": 1, "reject": 2, "fault": 0, "false_rejects": 0}
    expected |= {"known_escapes": 0, "uninspected": 0, "lost": 0, "late": 0, "in_fault": 0, "paused": 0}
    assert unit["shift"] == {**expected, "yield": 0.4, "yield_after_review": 0.4}
    answer = client.post("/production/orders", json={"name": "A-17", "batch": "b 3", "by": "Anna"})
    assert answer.json() == {"done": "order A-17 has started"}
    daemon.judge(9, 0.1)
    found = client.get("/production/counters").json()
    assert (found["order"]["name"], found["order"]["batch"], found["order"]["by"]) == (
        "A-17",
        "b 3",
        "Anna (127.0.0.1)",
    )
    assert found["units"][0]["order"]["inspected"] == found["total"]["order"]["ok"] == 1
    assert [change["action"] for change in client.get("/audit").json()] == ["start_order"]
    assert client.post("/production/orders", json={"name": "x"}).status_code == 422


def test_a_marked_false_reject_is_good_after_review(client, judged):
    client.post(f"/verdicts/{judged[3]}/false-reject", json={"by": "Anna", "note": "=dust"})
    found = client.get("/production/report", params={**TWO_DAYS, "by": "batch"}).json()
    assert (found["total"]["yield"], found["total"]["yield_after_review"]) == (0.4, 0.6)
    assert {each["name"]: each["total"]["false_rejects"] for each in found["groups"]} == {
        "=HYPERLINK()": 0,
        "b 1": 0,
        "b 2": 1,
    }
    (mark,) = found["marks"]
    assert (mark["id"], mark["decision"], mark["mark_note"]) == (judged[3], "reject", "=dust")


def test_a_marked_escape_is_bad_after_review(client, judged):
    client.post(f"/verdicts/{judged[0]}/mark", json={"verdict": "bad", "by": "Anna"})
    for path in ("counters", "report"):
        total = client.get(f"/production/{path}").json()["total"]
        total = total.get("shift", total)
        assert (total["known_escapes"], total["yield"], total["yield_after_review"]) == (1, 0.4, 0.2)
    (row,) = csv.DictReader(io.StringIO(client.get("/production/report/table").text))
    assert (row["known_escapes"], row["yield_after_review"]) == ("1", "0.2")


def test_kinds_places_and_marks_of_a_report_by_order_are_those_of_its_orders(client, daemon, judged):
    client.post(f"/verdicts/{judged[4]}/false-reject", json={"by": "Anna"})
    none = client.get("/production/report", params={**TWO_DAYS, "by": "order"}).json()
    assert (none["total"]["inspected"], none["groups"], none["marks"]) == (0, [], [])
    client.post("/production/orders", json={"name": "A-17", "by": "Anna"})
    ids = [daemon.judge(number, 0.9, kind) for number, kind in ((10, "scratch"), (11, "scratch"), (12, None))]
    marked = daemon.judge(13, 0.9, "dent")
    client.post(f"/verdicts/{marked}/false-reject", json={"by": "Anna"})
    found = client.get("/production/report", params={**TWO_DAYS, "by": "order"}).json()
    (group,) = found["groups"]
    assert (group["name"], group["begin"], found["device"]) == ("A-17", found["begin"], gethostname())
    for report, rejects in ((found, len(ids)), (none, 0)):
        time = {"since": report["begin"], "until": report["end"]}
        kinds = client.get("/pipelines/front/kinds", params=time).json()
        counted = sum(each["count"] for each in kinds["kinds"]) + kinds["unsorted"]
        places = client.get("/pipelines/front/positions", params=time).json()["verdicts"]
        assert counted == places == report["total"]["reject"] - report["total"]["false_rejects"] == rejects
        assert kinds["false_rejects"] == report["total"]["false_rejects"] == len(report["marks"])
    shift = client.get("/production/report", params={**TWO_DAYS, "by": "shift"}).json()
    assert (shift["total"]["reject"], datetime.fromisoformat(shift["begin"])) == (
        6,
        datetime.fromisoformat(TWO_DAYS["since"]),
    )


def test_hours_add_up_to_the_shift(client, judged):
    found = client.get("/production/series").json()
    assert sum(hour["inspected"] for hour in found["hours"]) == 5
    begins = [datetime.fromisoformat(hour["begin"]) for hour in found["hours"]]
    assert begins[0] == datetime.fromisoformat(found["begin"])
    assert {after - begin for begin, after in zip(begins, begins[1:], strict=False)} <= {timedelta(hours=1)}
    assert client.get("/production/series", params={"of": "day", "unit": "front"}).json()["hours"] == found["hours"]


def test_a_report_is_the_same_in_every_form(client, judged):
    pytest.importorskip("pyarrow", reason="PARQUET IS NOT TESTED: pyarrow is not installed")
    import pyarrow.parquet

    for by in ("shift", "day", "batch", "recipe"):
        query = {**TWO_DAYS, "by": by}
        sums = client.get("/production/report", params=query).json()["total"]
        table = list(csv.DictReader(io.StringIO(client.get("/production/report/table", params=query).text)))
        answer = client.get("/production/report/table", params={**query, "format": "parquet"})
        columns = pyarrow.parquet.read_table(io.BytesIO(answer.content)).to_pydict()
        for name in ("inspected", "ok", "review", "reject", "false_rejects"):
            assert sums[name] == sum(int(row[name]) for row in table) == sum(columns[name]), (by, name)
    groups = [row["group"] for row in table]
    assert groups == [""]


def test_verdicts_come_as_a_table_that_no_spreadsheet_takes_for_formulas(client, judged):
    answer = client.get("/production/verdicts", params=TWO_DAYS)
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"].startswith('attachment; filename="verdicts-')
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in rows] == judged
    assert rows[4]["batch"] == "'=HYPERLINK()" and rows[0]["image_score"] == "0.1"
    rejects = client.get("/production/verdicts", params={**TWO_DAYS, "decision": "reject", "format": "jsonl"})
    assert len(rejects.text.splitlines()) == 2 and '"=HYPERLINK()"' in rejects.text
    of_batch = client.get("/production/verdicts", params={**TWO_DAYS, "batch": "b 1"})
    assert len(of_batch.text.splitlines()) == 4


def test_images_come_as_a_zip(client, daemon, judged):
    wait_until(lambda: daemon.store.status()["images_written"] == 6)
    answer = client.get("/production/images", params={**TWO_DAYS, "decision": "reject"})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(
            f"images/front/{id}/{name}.jpg" for id in judged[3:] for name in ("frame", "heat")
        )
    none = client.get("/production/images", params={**TWO_DAYS, "decision": "ok"})
    assert none.status_code == 409 and "keeps no image of these verdicts" in none.json()["detail"]


def test_one_file_at_a_time_and_none_that_is_too_large(client, daemon, judged, monkeypatch):
    wait_until(lambda: daemon.store.status()["images_written"] == 6)
    monkeypatch.setattr("edgead.line.evidence.production.production._MAX_ROWS", 4)
    monkeypatch.setattr("edgead.line.evidence.production.production._MAX_IMAGES_MIB", 0.001)
    for path, words in (("verdicts", "these are 5 verdicts, at most 4 are sent"), ("images", "these images take")):
        for _ in range(2):  # a refusal leaves the way free
            answer = client.get(f"/production/{path}", params=TWO_DAYS)
            assert answer.status_code == 409 and words in answer.json()["detail"]
    with client.stream("GET", "/production/report", params=TWO_DAYS) as answer:
        assert answer.status_code == 200


def test_who_comes_while_a_file_is_made_is_asked_to_try_again(client, daemon, judged):
    made = iter([b"a"])

    def slow(wanted, kind):
        assert client.get("/production/report").status_code == 503
        return made

    daemon.store.production.verdicts_file = slow
    assert client.get("/production/verdicts").text == "a"
    assert client.get("/production/report").status_code == 200


REFUSED = [
    ("/production/series", {"unit": "back"}, 404),
    ("/production/report", {"by": "weather"}, 422),
    ("/production/report", {"since": "2026-01-01"}, 422),
    ("/production/report/table", {"format": "xlsx"}, 422),
    ("/production/verdicts", {"decision": "fault"}, 422),
]


def test_what_cannot_be_is_refused(client):
    for path, query, status in REFUSED:
        assert client.get(path, params=query).status_code == status, (path, query)
    for since in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"):
        assert client.get("/production/report", params={"since": since, "by": "day"}).status_code in (200, 409), since
