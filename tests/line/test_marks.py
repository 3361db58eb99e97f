"""Parts that people marked as good or bad, and the frames of the last minutes that marks are kept from."""

from __future__ import annotations

from contextlib import closing

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evidence import open_store
from verdicts import Line, ids

from edgead.line.evidence import EvidenceError
from edgead.line.evidence.recent import RecentFrames
from edgead.line.evidence.settings import RecentSection
from edgead.types import Frame

MB = 10**6


def frame_of(number: int, size: int) -> Frame:
    return Frame(np.empty((1, size // 3, 3), np.uint8), number, 0, None, "top", id=str(number))  # type: ignore[arg-type]


# The ring


@settings(max_examples=30, deadline=None)
@given(
    most=st.integers(0, 6),
    megabytes=st.integers(1, 3),
    sizes=st.lists(st.integers(1, 40).map(lambda tenths: tenths * MB // 10), max_size=30),
)
def test_recent_frames_stay_within_their_bounds_and_the_newest_is_there(most, megabytes, sizes):
    recent = RecentFrames(RecentSection(frames=most, megabytes=megabytes))
    for number, size in enumerate(sizes):
        frame = frame_of(number, size)
        recent.add(frame)
        recent.add(frame)  # by another pipeline
        assert recent.frames <= most and recent.bytes <= megabytes * MB
        held = [other for other in range(number + 1) if recent.find(str(other)) is not None]
        assert recent.bytes == sum(sizes[other] // 3 * 3 for other in held) and recent.frames == len(held)
        fits = most > 0 and frame.image.nbytes <= megabytes * MB
        assert (recent.find(str(number)) is frame.image) == fits


def test_the_oldest_goes_first():
    recent = RecentFrames(RecentSection(frames=3, megabytes=1))
    for number in range(5):
        recent.add(frame_of(number, 300))
    assert [number for number in range(5) if recent.find(str(number)) is not None] == [2, 3, 4]


# Marks


def test_an_ok_part_is_marked_bad_and_kept_without_loss(tmp_path):
    with closing(open_store(tmp_path)) as store:
        line = Line()
        judged = line.parts(3)
        for frame, verdict in judged:
            store.add(frame, verdict)
            store.keep(frame, verdict)
        frame = judged[1][0]
        assert store.verdict(frame.id)["images"] == [] and store.verdict(frame.id)["recent"]
        assert store.marks.mark(frame.id, "bad", by="anna", note="a crack")
        record = store.verdict(frame.id)
        said = {name: record["mark"][name] for name in ("verdict", "by", "note")}
        assert said == {"verdict": "bad", "by": "anna", "note": "a crack"}
        assert record["false_reject"] is None and record["images"] == ["frame.png"]
        kept = cv2.imread(str(store.image(frame.id, "frame.png")))
        np.testing.assert_array_equal(kept, frame.image)
        assert ids(store.verdicts(mark="bad")) == [frame.id] and store.verdicts(mark="good") == []
        assert store.audit()[0]["action"] == "mark_bad" and store.audit()[0]["after"]["verdict"] == "bad"
        rows = len(store.audit())
        assert store.marks.mark(frame.id, "bad", by="anna", note="a crack") and len(store.audit()) == rows
        assert store.marks.mark(frame.id, "bad", by="ben", note="a crack") and len(store.audit()) == rows + 1


def test_a_reject_is_marked_good_beside_its_images_and_the_mark_is_taken_back(tmp_path):
    with closing(open_store(tmp_path)) as store:
        frame, verdict = Line().part(0.9)
        store.add(frame, verdict)
        store.keep(frame, verdict)
        assert store.marks.mark(frame.id, "good", by="anna")
        assert store.verdict(frame.id)["false_reject"] == store.verdict(frame.id)["mark"]
        store.marks.take_back(frame.id, by="ben")
        assert store.verdict(frame.id)["mark"] is None is store.verdict(frame.id)["false_reject"]
        newest = store.audit()[0]
        assert (newest["action"], newest["by"], newest["before"]["by"]) == ("take_back_mark", "ben", "anna")
        with pytest.raises(EvidenceError, match="nobody marked it"):
            store.marks.take_back(frame.id, by="ben")
        with pytest.raises(EvidenceError, match="no such record"):
            store.marks.mark("missing", "good", by="anna")
        assert "frame.png" in store.verdict(frame.id)["images"]  # what was kept stays


def test_who_marks_hears_that_the_frame_is_held_no_longer(tmp_path):
    with closing(open_store(tmp_path, recent={"frames": 1})) as store:
        line = Line()
        judged = line.parts(2)
        for frame, verdict in judged:
            store.add(frame, verdict)
            store.keep(frame, verdict)
        assert not store.marks.mark(judged[0][0].id, "bad", by="anna")
        assert store.marks.mark(judged[1][0].id, "bad", by="anna")
        assert [record["images"] for record in store.verdicts()] == [["frame.png"], []]


def test_a_full_disk_loses_the_image_and_not_the_mark(tmp_path):
    with closing(open_store(tmp_path, free_mib=10**9)) as store:
        frame, verdict = Line().part()
        store.add(frame, verdict)
        store.keep(frame, verdict)
        assert not store.marks.mark(frame.id, "bad", by="anna")
        assert store.verdict(frame.id)["mark"]["verdict"] == "bad" and store.verdict(frame.id)["images"] == []
        assert "MiB of the disk are free" in store.problems()[0]


def test_a_bad_mark_of_a_reject_is_no_false_reject_and_counts_for_its_kind(tmp_path):
    with closing(open_store(tmp_path)) as store:
        line = Line()
        added = []
        for _ in range(2):
            frame, verdict = line.part(0.9, kind="scratch")
            store.add(frame, verdict)
            added.append(frame.id)
        store.marks.mark(added[0], "bad", by="anna")
        store.marks.mark(added[1], "good", by="anna")
        found = store.kinds.counts("caps", since=frame.captured_at.replace(year=2000))
        assert (found["kinds"][0]["count"], found["false_rejects"]) == (1, 1)
        assert [record["false_reject"] is None for record in store.verdicts()] == [False, True]
