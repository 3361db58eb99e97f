"""The evidence store with a real SQLite and real images: what is reported, in which order, and what is refused."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import threading
import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import cv2
import numpy as np
import pytest
from fakes import FakeDetector, read_number, write_video
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import wait_for, wait_until
from sqlalchemy import create_engine, select
from verdicts import Line, ids

from edgead.errors import SettingsError
from edgead.files.folder_lock import FolderLock
from edgead.line.evidence import EvidenceError, EvidenceStore
from edgead.line.evidence.records import is_found_by
from edgead.line.evidence.rows import RowCounts, RowWriter
from edgead.line.evidence.settings import FOLDER_MODE, StoreSection
from edgead.line.evidence.tables import orders, verdicts
from edgead.serialization import verdict_record
from edgead.stream import run
from edgead.types import FrameLines, Part


def open_store(folder, *, now=lambda: datetime.now(timezone.utc), **settings):
    """A store that waits for its rows also where the disk of a test machine is busy."""
    section = StoreSection.model_validate({"folder": folder, "free_mib": 0, "commit_within_ms": 10_000, **settings})
    return EvidenceStore(section, now=now)


def read_image(path):
    image = cv2.imread(str(path))
    assert image is not None, path
    return image


def test_the_folder_is_for_who_runs_edgead_where_edgead_makes_it(tmp_path):
    line = Line()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o755)
    for name in ("site/new", "shared"):
        with closing(open_store(tmp_path / name, url=f"sqlite:///{tmp_path}/elsewhere.sqlite")) as store:
            part = line.part(0.9)
            store.add(*part)
            store.keep(*part)
            wait_for(lambda store=store: store.status()["images_written"], "an image")
    with closing(open_store(tmp_path / "plain")):
        pass
    FolderLock(tmp_path / "held", "", mode=FOLDER_MODE).close()
    FolderLock(tmp_path / "watched", "").close()
    names = ("site/new", "plain", "held", "shared", "site", "watched")
    usual = 0o777 & ~umask()
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names] == [0o700] * 3 + [0o755, usual, usual]


def umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


# Records


@pytest.mark.parametrize("other_format", [None, "proportions"])
@pytest.mark.parametrize("lines", [None, FrameLines(12_800, 64), FrameLines(2**40, 0, 0.1)])
def test_a_record_tells_what_all_sinks_tell(tmp_path, lines, other_format):
    frame, verdict = Line().part(0.75)
    frame = replace(frame, part=Part("A-17", "b 7", "left"), lines=lines)
    verdict = replace(verdict, kind="scratch", kind_p_value=0.25, other_format=other_format)
    verdict = replace(verdict, typical_score=0.1, measured={"push_mm": -0.31, "of another package": 1e-9})
    with closing(open_store(tmp_path)) as store:
        before = datetime.now(timezone.utc)
        assert store.add(frame, verdict)
        record = store.verdict(frame.id)
        assert before <= datetime.fromisoformat(record.pop("judged_at")) <= datetime.now(timezone.utc)
        assert (record.pop("images"), record.pop("false_reject"), record.pop("kind_correction")) == ([], None, None)
        assert (record.pop("shown_kind"), record.pop("mark"), record.pop("recent")) == (verdict.kind, None, False)
        expected = verdict_record(frame, verdict)
        del expected["stage_times"]["sink_ms"]
        assert record == json.loads(json.dumps(expected))
        assert record["score"] == pytest.approx(162.5) and record["measured"]["push_mm"] == -0.31


def test_verdicts_of_a_part_are_found_by_the_index(tmp_path):
    parts = [Part("A1", "b1", "left"), Part("A2", "b1", "right"), Part(), Part("A1", "b2", "left")]
    with closing(open_store(tmp_path)) as store:
        line = Line()
        for part in parts:
            frame, verdict = line.part()
            store.add(replace(frame, part=part), verdict)

        def found(**values):
            return [record["number"] for record in store.verdicts(part=Part(**values))]

        assert found() == [3, 2, 1, 0] and found(serial="A1") == [3, 0] and found(batch="b1") == [1, 0]
        assert found(serial="A1", batch="b1") == [0] and found(recipe="right") == [1] and found(serial="A") == []
        first = store.verdicts(part=Part("A1"), limit=1)[0]["id"]
        assert [record["number"] for record in store.verdicts(part=Part("A1"), before_id=first)] == [0]
    query = "EXPLAIN QUERY PLAN SELECT * FROM verdicts WHERE serial <> '' AND serial = 'A1' ORDER BY seq DESC LIMIT 50"
    with closing(sqlite3.connect(tmp_path / "verdicts.sqlite")) as connection:
        assert "verdicts_by_serial" in str(connection.execute(query).fetchall())


def test_a_part_is_found_by_what_its_number_its_file_or_its_id_begins_with(tmp_path):
    with closing(open_store(tmp_path)) as store:
        line = Line()
        for serial, name in (("A_1", ""), ("AB1", "7.png"), ("", "seven.png"), ("a_1", ""), ("A_12", ""), ("", "")):
            frame, verdict = line.part()
            store.add(replace(frame, part=Part(serial), name=name), verdict)

        def found(text, **also):
            return [record["number"] for record in store.verdicts(search=text, **also)]

        ids = [record["id"] for record in store.verdicts()][::-1]
        assert found("A_1") == [4, 3, 0] and found("A_12") == [4] and found("7") == [1] and found("sev") == [2]
        assert found("5") == [5] and found("3") == []
        assert found("9" * 40) == found("%") == [] and found("_1") == [4, 3, 0] and found("") == [5, 4, 3, 2, 1, 0]
        assert found(ids[2]) == [2] and found(ids[2].upper()) == [2] and found(ids[0][:8])[-1] == 0
        assert found("A_1", decision="reject") == [] and found("A_1", before_id=ids[4]) == [3, 0]
        query = str(store_query("A_1").compile(store._engine, compile_kwargs={"literal_binds": True}))
        with store._engine.connect() as connection:
            plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").fetchall())
        assert all(f"verdicts_by_{name}" in plan for name in ("serial", "name", "id")) and "SCAN verdicts" not in plan


def store_query(text):
    return select(verdicts.c.seq).where(is_found_by(text)).order_by(verdicts.c.seq.desc()).limit(50)


def test_a_database_that_is_away_is_tried_again_ever_less_often(monkeypatch):
    def away():
        raise EvidenceError("the database is away")

    waits = []
    monkeypatch.setattr(RowWriter, "_wait", lambda writer, for_s: waits.append(for_s) or len(waits) < 8)
    writer = RowWriter(create_engine("sqlite://"), away)
    assert not writer.commit({}, 10)
    wait_until(lambda: len(waits) == 8)
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 10, 10] and writer.problem == "the database is away"
    monkeypatch.undo()
    begin = time.monotonic()
    assert writer._wait(0.2) and time.monotonic() - begin >= 0.2
    writer.close(1)
    assert not writer._wait(600) and writer.counts == RowCounts(0, 0, 0, 1)


def test_a_row_that_lacks_what_it_must_have_is_given_up_alone(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'rows.sqlite'}")
    writer = RowWriter(engine, lambda: verdicts.metadata.create_all(engine, [verdicts, orders]))
    assert not writer.commit({"id": "half a row"}, 10)
    wait_until(lambda: writer.counts == RowCounts(0, 0, 0, 1))
    assert "a record was refused: NOT NULL" in writer.problem
    writer.close(10)
    engine.dispose()


def test_an_id_that_is_there_is_counted_and_not_doubled(tmp_path):
    line = Line()
    frame, verdict = line.part()
    with closing(open_store(tmp_path)) as store:
        assert store.add(frame, verdict)
        assert store.add(frame, line.part(0.9)[1])
        assert store.counts() == {"ok": 1, "review": 0, "reject": 0}
        assert (store.status()["rows_written"], store.status()["rows_doubled"]) == (1, 1)
    with closing(open_store(tmp_path)) as store:
        store.add(frame, verdict)
        assert (store.status()["rows_written"], store.status()["rows_doubled"]) == (0, 1)
        assert len(store.verdicts()) == 1


def test_pipelines_that_share_a_capture_each_have_their_record(tmp_path):
    frame, verdict = Line("caps").part(0.9)
    with closing(open_store(tmp_path)) as store:
        for pipeline in ("caps", "labels", "caps"):
            one = replace(verdict, pipeline=pipeline, image_score=0.9 if pipeline == "caps" else 0.8)
            assert store.add(frame, one)
            store.keep(frame, one, ())
        wait_until(lambda: store.status()["images_waiting"] == 0)
        assert store.status()["rows_doubled"] == 1
        assert [record["pipeline"] for record in store.verdicts()] == ["labels", "caps"]
        assert store.verdict(frame.id)["pipeline"] == "caps"
        assert store.verdict(frame.id, pipeline="labels")["image_score"] == 0.8
        places = [store.image(frame.id, "frame.jpg", pipeline=pipeline) for pipeline in ("caps", "labels")]
        assert places[0] != places[1] and all(path.is_file() for path in places)
        store.mark_false_reject(frame.id, by="anna", pipeline="labels")
        assert [record["false_reject"] is None for record in store.verdicts()] == [False, True]
        assert ids(store.verdicts(before_id=frame.id, pipeline="labels")) == []


def test_an_image_that_cannot_be_drawn_is_reported_and_stops_no_other(tmp_path):
    line = Line()
    frame, verdict = line.part(0.9)
    wide = replace(frame, image=np.zeros((1, 70_000, 3), np.uint8))  # JPEG ends at 65,535
    with closing(open_store(tmp_path, after=0)) as store:
        store.add(wide, verdict)
        store.keep(wide, verdict, ())
        wait_until(lambda: store.status()["images_dropped"])
        assert "cannot be written as an image" in store.problems()[0]
        good = keep(store, line, 0.9)
        wait_until(lambda: store.problems() == ())
        wait_until(lambda: store.status()["images_waiting"] == 0)
        assert store.verdict(good.id)["images"] == ["frame.jpg", "heat.jpg"]


def test_records_are_listed_newest_first_by_pages(tmp_path):
    caps, lids = Line("caps"), Line("lids")
    with closing(open_store(tmp_path)) as store:
        added = []
        for index in range(30):
            part = (caps if index % 3 else lids).part(0.9 if index % 5 == 0 else 0.1)
            store.add(*part)
            added.append(part[0].id)
        added.reverse()
        first = store.verdicts(limit=20)
        rest = store.verdicts(limit=20, before_id=first[-1]["id"])
        assert ids(first) + ids(rest) == added
        assert ids(store.verdicts(pipeline="lids")) == added[2::3]
        assert ids(store.verdicts(decision="reject")) == added[4::5]
        assert ids(store.verdicts(decision="reject", pipeline="lids", before_id=added[20])) == [added[29]]
        assert store.verdicts(before_id="no such id") == []
        assert store.counts() == {"ok": 24, "review": 0, "reject": 6}
        assert store.counts(pipeline="lids") == {"ok": 8, "review": 0, "reject": 2}
        assert store.counts(since=datetime.now(timezone.utc)) == {"ok": 0, "review": 0, "reject": 0}
        tenth = datetime.fromisoformat(store.verdict(added[9])["judged_at"])
        assert store.counts(since=tenth) == {"ok": 8, "review": 0, "reject": 2}
        assert sum(store.counts(since=tenth - timedelta(days=1)).values()) == 30
        assert ids(store.verdicts(until=tenth, limit=50)) == added[9:]
        assert store.verdicts(until=tenth - timedelta(days=1)) == [] == store.verdicts(at_least=0)  # of no scale


def test_several_pipelines_and_readers_at_once_lose_nothing(tmp_path):
    lines = [Line(f"line{index}") for index in range(4)]
    with closing(open_store(tmp_path)) as store:

        def work(line):
            for part in line.parts(50):
                assert store.add(*part)
                store.verdicts(limit=5)

        threads = [threading.Thread(target=work, args=(line,)) for line in lines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.counts()["ok"] == 200 and store.problems() == ()
        for line in range(4):
            numbers = [record["number"] for record in store.verdicts(pipeline=f"line{line}")]
            assert numbers == list(range(49, -1, -1))


def test_verdicts_are_found_by_their_score_on_the_scale_of_the_limit(tmp_path):
    line = Line()
    with closing(open_store(tmp_path)) as store:
        for score, limit in ((0.2, 0.5), (0.6, 0.5), (0.6, 0.9), (0.9, 0.5)):
            frame, verdict = line.part(score)
            store.add(frame, replace(verdict, typical_score=0.1, threshold=limit))
        assert [row["number"] for row in store.verdicts(at_least=100)] == [3, 1]
        assert [row["number"] for row in store.verdicts(at_least=60)] == [3, 2, 1]


def test_a_frame_without_an_id_is_refused(tmp_path):
    frame, verdict = Line().part()
    with closing(open_store(tmp_path)) as store, pytest.raises(EvidenceError, match="without an id"):
        store.add(replace(frame, id=""), verdict)


def test_a_value_that_the_database_refuses_holds_up_no_other(tmp_path):
    line = Line()
    bad, good = line.part(), line.part()
    with closing(open_store(tmp_path)) as store:
        assert not store.add(replace(bad[0], number=2**70), bad[1])
        assert store.add(*good)
        assert ids(store.verdicts()) == [good[0].id]
        assert store.status()["rows_lost"] == 1


# Images


def keep(store, line, score, before=()):
    frame, verdict = line.part(score)
    store.add(frame, verdict)
    store.keep(frame, verdict, before)
    return frame


def test_a_reject_keeps_its_image_and_those_before_and_after(tmp_path):
    line, other = Line(), Line(camera="side")
    with closing(open_store(tmp_path, before=2, after=3)) as store:
        before = [line.capture() for _ in range(4)]
        frame = keep(store, line, 0.9, before)
        store.follow(frame)
        store.follow(before[-1])
        for _ in range(5):
            store.follow(other.capture())
            store.follow(line.capture())
        names = ["before-002.jpg", "before-001.jpg", "frame.jpg", "heat.jpg"]
        names += ["after-001.jpg", "after-002.jpg", "after-003.jpg"]
        wait_until(lambda: store.status()["images_written"] == 7)
        assert store.verdict(frame.id)["images"] == names
        found = {name: read_image(store.image(frame.id, name)) for name in names}
    numbers = [read_number(found[name]) for name in names if name != "heat.jpg"]
    assert numbers == [2, 3, 4, 5, 6, 7]
    assert found["heat.jpg"].shape == found["frame.jpg"].shape  # the verdict is beside it, in the language of who looks


def test_two_rejects_in_a_row_each_have_their_frames(tmp_path):
    line = Line()
    with closing(open_store(tmp_path, before=1, after=2)) as store:
        first = keep(store, line, 0.9)
        second = keep(store, line, 0.9, [first])
        for frame in (second, line.capture(), line.capture()):
            store.follow(frame)
        wait_until(lambda: store.status()["images_written"] == 9)
        after = [
            [read_number(read_image(store.image(frame.id, f"after-00{step}.jpg"))) for step in (1, 2)]
            for frame in (first, second)
        ]
    assert after == [[1, 2], [2, 3]]


@pytest.mark.parametrize("evidence, kept", [("none", 0), ("reject", 1), ("review", 2), ("all", 3)])
def test_the_section_says_which_decisions_keep_images(tmp_path, evidence, kept):
    line = Line()
    with closing(open_store(tmp_path, evidence=evidence)) as store:
        frames = [keep(store, line, score) for score in (0.1, 0.45, 0.9)]
        wait_until(lambda: store.status()["images_waiting"] == 0)
    with closing(open_store(tmp_path)) as store:
        assert sum(bool(store.verdict(frame.id)["images"]) for frame in frames) == kept


@pytest.mark.parametrize(
    "name", ["../frame.jpg", "/etc/passwd", "frame.jpg/..", "frame.png", ".frame.jpg.part", "", "..", "frame.jpg\0"]
)
def test_only_images_of_the_record_can_be_had(tmp_path, name):
    with closing(open_store(tmp_path)) as store:
        frame = keep(store, Line(), 0.9)
        wait_until(lambda: store.status()["images_written"] == 2)
        assert store.image(frame.id, "frame.jpg").is_file()
        assert store.image(frame.id, name) is None
        assert store.image(f"../{frame.id}", "frame.jpg") is None
        assert store.verdict("' OR 1=1 --") is None


def test_no_name_and_no_id_leads_out_of_the_store(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    with closing(open_store(tmp_path / "store")) as store:
        frame = keep(store, Line(), 0.9)
        wait_until(lambda: store.status()["images_written"] == 2)
        parts = st.sampled_from(
            ["..", "/", "\\", "secret", "frame", ".jpg", "\0", "%2e%2e", frame.id, "verdicts.sqlite"]
        )
        texts = st.one_of(st.lists(parts, max_size=8).map("".join), st.text(st.characters(), max_size=40))

        @settings(max_examples=200, deadline=None)
        @given(name=texts, id=st.one_of(st.just(frame.id), texts))
        def ask(name, id):
            path = store.image(id, name)
            assert path is None or (id == frame.id and name in ("frame.jpg", "heat.jpg"))
            assert store.verdicts(pipeline=id or "-") == store.verdicts(decision=name or "-") == []

        ask()


def test_an_id_that_is_no_uuid_makes_no_folder(tmp_path):
    frame, verdict = Line().part(0.9)
    with closing(open_store(tmp_path)) as store:
        frame = replace(frame, id="../../outside")
        store.add(frame, verdict)
        store.keep(frame, verdict, ())
        assert store.verdict("../../outside")["images"] == []
    assert not (tmp_path / "pictures").exists()


def test_unfinished_images_of_a_killed_process_are_removed(tmp_path):
    with closing(open_store(tmp_path)) as store:
        frame = keep(store, Line(), 0.9)
        wait_until(lambda: store.status()["images_written"] == 2)
        folder = store.image(frame.id, "frame.jpg").parent
    (folder / ".after-001.jpg.part").write_bytes(b"\xff\xd8half")
    used = sum(path.stat().st_size for path in folder.glob("*.jpg"))
    with closing(open_store(tmp_path)) as store:
        wait_until(lambda: store.status()["images_mib"] == used / 2**20)
    assert sorted(path.name for path in folder.iterdir()) == ["frame.jpg", "heat.jpg"]


def test_the_camera_loop_records_by_a_uri_alone(tmp_path):
    detector, folder = FakeDetector(), tmp_path / "store"
    recording = write_video(tmp_path / "line.avi", 12)
    summary = run(str(recording), detector, [f"sqlite:{folder}?evidence=all"])
    assert (summary.frames, summary.fault) == (12, None)
    with closing(open_store(folder)) as store:
        records = store.verdicts()
        assert [record["number"] for record in records] == list(range(11, -1, -1))
        names = ["before-002.jpg", "before-001.jpg", "frame.jpg", "heat.jpg", "after-001.jpg", "after-002.jpg"]
        assert store.verdict(records[5]["id"])["images"] == names
        found = [read_number(read_image(store.image(records[5]["id"], name))) for name in names if name != "heat.jpg"]
    assert found == [4, 5, 6, 7, 8]


# Marks and changes


def test_a_false_reject_is_marked_and_audited(tmp_path):
    line = Line()
    (good, ok), (bad, reject) = line.part(0.1), line.part(0.9)
    with closing(open_store(tmp_path)) as store:
        store.add(good, ok)
        store.add(bad, reject)
        store.mark_false_reject(bad.id, by="anna", note="only dust")
        store.mark_false_reject(bad.id, by="ben", note="dust, wiped")
        mark = store.verdict(bad.id)["false_reject"]
        assert (mark["by"], mark["note"]) == ("ben", "dust, wiped")
        assert [record["false_reject"] is None for record in store.verdicts()] == [False, True]
        with pytest.raises(EvidenceError, match="no such record"):
            store.mark_false_reject("missing", by="anna")
        with pytest.raises(EvidenceError, match="was found good"):
            store.mark_false_reject(good.id, by="anna")
        with pytest.raises(EvidenceError, match="cannot be written: .*surrogates not allowed"):
            store.mark_false_reject(bad.id, by="anna", note="half \ud800")
        second, first = store.audit()
    assert (first["action"], first["by"], first["pipeline"]) == ("mark_false_reject", "anna", "caps")
    assert second["before"]["by"] == "anna" and second["after"]["note"] == "dust, wiped"


def test_changes_are_audited_newest_first_and_stay(tmp_path):
    with closing(open_store(tmp_path)) as store:
        for index in range(5):
            store.add_audit(by="anna", action="thresholds", pipeline="caps", before={"reject": index}, after=None)
    with closing(open_store(tmp_path)) as store:
        found = store.audit(limit=3)
    assert [change["before"] for change in found] == [{"reject": 4}, {"reject": 3}, {"reject": 2}]
    assert found[0]["after"] is None
    assert datetime.fromisoformat(found[0]["at"]) > datetime.now(timezone.utc) - timedelta(minutes=1)


# Closing


@pytest.mark.parametrize("after_it_was_closed", [False, True], ids=["opened before", "opened after"])
def test_a_connection_in_use_while_the_store_closes_is_closed_by_who_returns_it(tmp_path, after_it_was_closed):
    """What hangs in another thread comes back late: left to the garbage collection, its files stay open until then."""
    store, used = open_store(tmp_path), []
    holds, is_closed = threading.Event(), threading.Event()

    def read():
        if after_it_was_closed:
            is_closed.wait(30)
        with store.kinds._access.reading() as connection:
            used.append(connection.connection.dbapi_connection)
            holds.set()
            is_closed.wait(30)

    thread = threading.Thread(target=read)
    thread.start()
    if not after_it_was_closed:
        assert holds.wait(30)
    store.close()
    is_closed.set()
    thread.join()
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        used[0].execute("SELECT 1")


# Opening


def test_a_newer_schema_is_refused_with_what_to_do(tmp_path):
    open_store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "verdicts.sqlite")) as connection:
        connection.execute("UPDATE schema_version SET version = 10")
        connection.commit()
    with pytest.raises(EvidenceError, match="tables are of version 10, this edgead knows 9: install the newer"):
        open_store(tmp_path)


def test_a_damaged_database_is_set_aside_and_reported(tmp_path):
    for index in (1, 2):
        (tmp_path / "verdicts.sqlite").write_bytes(b"JFIF" * 1000)
        with closing(open_store(tmp_path)) as store:
            (problem,) = store.problems()
            assert problem.startswith("the database was damaged (file is not a database): it is ")
            assert store.add(*Line().part())
        assert (tmp_path / f"verdicts.sqlite.damaged-{index}").read_bytes() == b"JFIF" * 1000


def test_a_named_file_that_is_no_database_is_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"JFIF" * 1000)
    with pytest.raises(EvidenceError, match="photo.jpg: cannot be opened: file is not a database; check path"):
        open_store(tmp_path, url=f"sqlite:///{tmp_path}/photo.jpg")
    assert (tmp_path / "photo.jpg").read_bytes() == b"JFIF" * 1000


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EvidenceError, match="file/x/verdicts.sqlite: its folder cannot be made: Not a directory"):
        open_store(tmp_path / "file" / "x")


@pytest.mark.parametrize(
    "url, what",
    [
        ("not a url hunter2", "no SQLAlchemy URL"),
        ("mysql://anna:hunter2@host/x", "only sqlite and postgresql"),
        ("sqlite://", "in memory keeps nothing"),
        ("postgresql://anna:hunter2@host:port/x", "no SQLAlchemy URL"),
    ],
)
def test_a_wrong_address_is_refused_without_its_password(tmp_path, url, what):
    with pytest.raises(SettingsError, match=what) as error:
        open_store(tmp_path, url=url)
    assert "hunter2" not in str(error.value)


def test_no_address_is_shown_with_its_password(tmp_path):
    url = "postgresql://anna:hunter2@127.0.0.1:1/x"
    section = StoreSection(folder=tmp_path, url=url)
    assert "hunter2" not in f"{section!r} {section} {section.model_dump_json()}"
    assert section.url == url
