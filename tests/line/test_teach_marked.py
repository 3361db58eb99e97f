"""Teaching from the marks of an evidence store: what is found there, what a lesson may not do, and what it leaves."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from fakes import content
from test_cli import edgead, report
from test_evidence import open_store
from verdicts import Line

from edgead.adapt.teach import LessonRefusedError, earlier_versions
from edgead.adapt.teach.lesson import DecisionCounts, JudgedPart, Judgement, refuse_escapes
from edgead.artifact.folder import Artifact
from edgead.artifact.training_hashes import find_learnt
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.files import write_image
from edgead.line.evidence.kept_frames import marked_parts
from edgead.synthetic.line import part_seed, render


def marked_store(folder: Path, opinions: list[str | None], **settings) -> list[str]:
    """A store with a verdict of each opinion: bad ones were ok, good ones rejected."""
    with closing(open_store(folder, **settings)) as store:
        line, ids = Line(), []
        for opinion in opinions:
            frame, verdict = line.part(0.1 if opinion == "bad" else 0.9)
            store.add(frame, verdict)
            store.keep(frame, verdict)
            ids.append(frame.id)
            if opinion is not None:
                store.marks.mark(frame.id, opinion, by="anna")
        return ids


def test_marked_parts_are_found_newest_first_and_without_loss(tmp_path):
    ids = marked_store(tmp_path, ["good", None, "bad", "good"])
    found = marked_parts(tmp_path, None, None, None)
    assert [path.parent.name for path in found.good] == [ids[3], ids[0]]
    assert [path.parent.name for path in found.bad] == [ids[2]]
    assert {path.name for path in [*found.good, *found.bad]} == {"frame.png"}
    assert (found.lossy, found.missing, found.notes()) == (0, 0, [])
    assert marked_parts(tmp_path, None, timedelta(0), None).good == []
    assert marked_parts(tmp_path, None, None, "other").good == []


def test_what_was_marked_too_late_is_a_jpeg_or_nothing_and_that_is_said(tmp_path):
    marked_store(tmp_path, ["good", "bad"], recent={"frames": 0})
    found = marked_parts(tmp_path, None, None, None)
    assert [path.name for path in found.good] == ["frame.jpg"] and found.bad == []
    assert [note.partition(" ")[0] for note in found.notes()] == ["1", "1"]
    assert "are JPEGs" in found.notes()[0] and "have no image" in found.notes()[1]


def test_marks_of_two_pipelines_want_a_name(tmp_path):
    with closing(open_store(tmp_path)) as store:
        for name in ("left", "right"):
            frame, verdict = Line(name).part()
            store.add(frame, verdict)
            store.keep(frame, verdict)
            store.marks.mark(frame.id, "good", by="anna")
    with pytest.raises(SettingsError, match="parts of left, right are marked: say with --pipeline"):
        marked_parts(tmp_path, None, None, None)
    assert len(marked_parts(tmp_path, None, None, "left").good) == 1


NONE = DecisionCounts.of([], reject=1, review=1)


def judged(*decisions: str) -> dict[str, Judgement]:
    parts = [JudgedPart(f"{i}/frame.png", "bad", 1.0, 1.0, 100.0, decision, 0) for i, decision in enumerate(decisions)]  # type: ignore[arg-type]
    return {"fp32": Judgement(1.0, 1.0, 0.01, NONE, NONE, NONE, NONE, [], parts, 0.5)}


def test_a_lesson_may_let_pass_no_bad_part_that_was_stopped():
    refuse_escapes(judged("ok", "reject", "review"), judged("ok", "review", "reject"))
    said = "1 bad parts .* now would be ok .fp32.*: 1/frame.png.* train a new model"
    for was in ("reject", "review"):
        with pytest.raises(LessonRefusedError, match=said):
            refuse_escapes(judged("ok", was), judged("ok", "ok"))
    good = replace(judged("reject")["fp32"].parts[0], role="taught")
    before = {"fp32": replace(judged()["fp32"], parts=[good])}
    refuse_escapes(before, {"fp32": replace(before["fp32"], parts=[replace(good, decision="ok")])})


# With a real model


def real_store(folder: Path, model: Path, marked: dict[int, str], *, defect: str | None = None) -> dict[int, str]:
    """A store of marked parts of the built-in line under another light; gives the id of each number."""
    ids = {}
    line = Line("a")
    with closing(open_store(folder)) as store, Detector.load(model) as detector:
        for number, opinion in marked.items():
            kind = defect if opinion == "bad" else None
            image = render(part_seed(21, number), kind)[0]
            frame = replace(line.capture(), image=np.clip(image * 1.25 + 8, 0, 255).astype(np.uint8))
            verdict = replace(detector.predict(frame.image), pipeline="a")
            store.add(frame, verdict)
            store.keep(frame, verdict)
            store.marks.mark(frame.id, opinion, by="anna")
            ids[number] = frame.id
    return ids


@pytest.mark.slow
def test_marked_parts_are_taught_into_a_model_beside_and_not_twice(model_copy, tmp_path):
    store, draft = tmp_path / "store", tmp_path / "draft"
    marked = dict.fromkeys(range(6), "good") | {7: "bad"}
    ids = real_store(store, model_copy, marked, defect="missing_hole")
    first = content(model_copy)
    lesson = report("teach", model_copy, "--marked", store, "-o", draft, "--by", "Anna", "--yes")
    assert content(model_copy) == first and earlier_versions(model_copy) == []
    assert (lesson["model"], lesson["earlier_version"]) == (str(draft), str(model_copy))
    before, after = lesson["before"]["fp32"], lesson["after"]["fp32"]
    assert after["taught"]["reject"] < before["taught"]["reject"]
    assert before["bad"]["reject"] == after["bad"]["reject"] == 1
    roles = {Path(part["image"]).parent.name: part["role"] for part in after["parts"]}
    assert roles[ids[7]] == "bad" and sorted(roles.values()).count("taught") == 5
    taught = Artifact.load(draft)
    assert taught.manifest.training["taught"][0]["bad_images"] == 1
    # The JPEG of a frame that was learnt is known as well; none is kept of a part that was OK.
    learnt = [Path(part["image"]) for part in after["parts"] if part["role"] == "taught"]
    jpegs = [jpeg for path in learnt if (jpeg := path.with_name("frame.jpg")).is_file()]
    assert len(jpegs) >= 3 and find_learnt(taught, jpegs) == jpegs
    held_out = next(part for part in after["parts"] if part["role"] == "held out")
    again = report("teach", draft, "--marked", store, "--dry-run")
    assert [one["image"] for one in again["images"]] == [held_out["image"]]


@pytest.mark.slow
def test_a_lesson_that_would_let_a_bad_part_pass_is_refused_whatever_is_said(model_copy, tmp_path):
    bad, good = tmp_path / "bad.png", tmp_path / "taken_for_good"
    image = render(part_seed(21, 0), "missing_hole")[0]
    write_image(bad, image)
    for brighter in (1, 2, 3):
        write_image(good / f"{brighter}.png", np.clip(image.astype(int) + brighter, 0, 255).astype(np.uint8))
    first = content(model_copy)
    doubted = edgead("teach", model_copy, good, "--bad", bad, "--json", code=2)
    assert len(json.loads(doubted.stdout)["doubtful"]) == 3
    out = edgead("teach", model_copy, good, "--bad", bad, "--yes", "--reason", "x", "--json", "--held-out", "0", code=2)
    refused = json.loads(out.stdout)
    assert "bad parts that are stopped now would be ok" in refused["refused"] and refused["doubtful"] == []
    assert content(model_copy) == first and earlier_versions(model_copy) == []
    both = edgead("teach", model_copy, good, "--bad", good / "1.png", code=2).stderr
    assert "the same image, is bad: which of them is it?" in both
