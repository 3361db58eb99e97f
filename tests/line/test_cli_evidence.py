"""`edgead evidence`: verdicts and images taken out of a store, and its report, while a daemon may be writing it."""

from __future__ import annotations

import csv
import json
import zipfile
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
import yaml
from command_line import run_here
from patience import wait_until
from test_evidence import open_store
from verdicts import Line

from edgead.cli.line.evidence import _instant
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.dataset.survey import survey
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.types import Part

SCORES = (0.1, 0.1, 0.45, 0.9, 0.9, 0.9)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The folder of a store in service; one reject is marked."""
    folder = tmp_path_factory.mktemp("evidence")
    with closing(open_store(folder, before=0, after=0)) as store:
        line = Line("caps")
        for score, batch in zip(SCORES, "aabbb=", strict=True):
            frame, verdict = line.part(score, "scratch" if score > 0.5 else None)
            frame = replace(frame, part=Part(batch=batch))
            verdict = replace(verdict, other_format="proportions" if batch == "=" else None)
            verdict = replace(verdict, typical_score=0.1, measured={"push_mm": score} if score == 0.9 else {})
            assert store.add(frame, verdict)
            store.keep(frame, verdict)
        store.mark_false_reject(frame.id, by="anna", note="+dust")
        wait_until(lambda: store.status()["images_written"] == 9)  # the marked one without loss as well
        yield folder


def read_rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_an_export_is_a_table_and_the_images_of_what_is_asked_for(store, tmp_path):
    said = run_here("evidence", "export", store, "-o", tmp_path / "out", "--decision", "reject", "--images")
    assert (said.returncode, said.stdout) == (0, f"3 verdicts, 3 with images: {tmp_path / 'out'}\n")
    rows = read_rows(tmp_path / "out" / "verdicts.csv")
    assert [row["batch"] for row in rows] == ["b", "b", "'="]
    assert [row["other_format"] for row in rows] == ["", "", "proportions"]
    assert {(row["score"], row["measured"]) for row in rows} == {("200.0", '{"push_mm": 0.9}')}
    assert [row["mark_note"] for row in rows] == ["", "", "'+dust"] and rows[0]["kind"] == "scratch"
    images = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.jpg"))
    assert images == sorted(f"images/caps/{row['id']}/{name}.jpg" for row in rows for name in ("frame", "heat"))


def test_a_zip_holds_the_same(store, tmp_path):
    said = run_here("evidence", "export", store, "-o", tmp_path / "out.zip", "--marked", "--images", "--json")
    assert json.loads(said.stdout) == {"verdicts": 1, "with_images": 1, "output": str(tmp_path / "out.zip")}
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        assert [name.rpartition("/")[2] for name in archive.namelist()] == [
            "verdicts.csv",
            "frame.jpg",
            "frame.png",
            "heat.jpg",
        ]
    assert [path.name for path in tmp_path.iterdir()] == ["out.zip"]


def test_annotations_go_out_and_are_read_again(store, tmp_path):
    """One was marked as good, which has no annotation; the review has one of no place; boxes of rejects are masks."""
    said = run_here("evidence", "export", store, "-o", tmp_path / "out", "--format", "coco")
    assert (said.returncode, said.stdout) == (0, f"6 verdicts, 4 with images: {tmp_path / 'out'}\n")
    content = json.loads((tmp_path / "out/annotations/instances_default.json").read_text())
    assert [image["mark"] for image in content["images"]].count("good") == 1
    assert [(image["score"], image["measured"]) for image in content["images"]][1:] == [(200, {"push_mm": 0.9})] * 3
    assert [image["other_format"] for image in content["images"] if "other_format" in image] == ["proportions"]
    found = survey(tmp_path / "out")
    assert (found.found.layout, found.problems) == ("COCO", [])
    tests = find_test_images(tmp_path / "out")
    assert [image.defect for image in tests] == ["anomaly without a place", "scratch", "scratch", "good"]
    boxes = {one["image_id"]: one["bbox"] for one in content["annotations"]}
    shown = content["images"][0]
    assert tests[0].mask is None and boxes.pop(1) == [0, 0, shown["width"], shown["height"]] and sorted(boxes) == [2, 3]
    for number, box in boxes.items():
        x, y, across, down = box
        mask = tests[number - 1].load_mask(load_image(tests[number - 1].path).shape[:2])
        assert mask[y : y + down, x : x + across].all() and mask.sum() == across * down > 0
    said = run_here("evidence", "export", store, "-o", tmp_path / "marked", "--format", "coco", "--marked")
    assert said.returncode == 0 and [path.suffix for path in find_good_images(tmp_path / "marked")] == [".png"]


def test_what_a_stream_judged_is_exported_into_the_folder_although_it_is_of_no_pipeline(tmp_path):
    with closing(open_store(tmp_path / "evidence", before=0, after=0)) as store:
        frame, verdict = Line("").part(0.9)
        assert store.add(frame, verdict)
        store.keep(frame, verdict)
        wait_until(lambda: store.status()["images_written"] == 2)
        run_here("evidence", "export", tmp_path / "evidence", "-o", tmp_path / "out", "--format", "coco")
        run_here("evidence", "export", tmp_path / "evidence", "-o", tmp_path / "out.zip", "--images")
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == [f"{frame.id}.jpg"]
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert f"images/{frame.id}/frame.jpg" in archive.namelist()


def test_boxes_go_out_as_yolo_and_are_read_again(store, tmp_path):
    """The same images, kinds and boxes as COCO's; data.yaml names no path: Ultralytics takes "." for where it runs."""
    for name in ("coco", "yolo"):
        said = run_here("evidence", "export", store, "-o", tmp_path / name, "--format", name)
        assert (said.returncode, said.stdout) == (0, f"6 verdicts, 4 with images: {tmp_path / name}\n")
    found = survey(tmp_path / "yolo")
    assert (found.found.layout, found.problems) == ("YOLO", [])
    coco, yolo = (
        {image.path.relative_to(tmp_path / name / "images"): image for image in find_test_images(tmp_path / name)}
        for name in ("coco", "yolo")
    )
    assert coco.keys() == yolo.keys()
    for name, image in yolo.items():
        assert image.defect == coco[name].defect
        shape = load_image(image.path).shape[:2]
        np.testing.assert_array_equal(image.load_mask(shape), coco[name].load_mask(shape))
    assert "path" not in yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    empty = [file for file in (tmp_path / "yolo" / "labels").rglob("*.txt") if not file.read_text()]
    assert len(empty) == 1


def test_annotations_are_a_folder_and_no_report(store, tmp_path):
    said = run_here("evidence", "export", store, "-o", tmp_path / "out.zip", "--format", "coco")
    assert said.returncode == 2 and "--format coco writes a folder" in said.stderr
    said = run_here("evidence", "report", store, "-o", tmp_path / "out.csv", "--format", "coco")
    assert said.returncode == 2 and "a report has no images" in said.stderr


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_format_holds_every_verdict(store, tmp_path, kind):
    if kind == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet", reason="PARQUET IS NOT TESTED: pyarrow is not installed")
    assert run_here("evidence", "export", store, "-o", tmp_path / "out", "--format", kind).returncode == 0
    file = tmp_path / "out" / f"verdicts.{kind}"
    if kind == "parquet":
        rows = parquet.read_table(file).to_pylist()
        assert rows[0]["judged_at"].tzinfo is not None
    else:
        rows = read_rows(file) if kind == "csv" else list(map(json.loads, file.read_text().splitlines()))
    assert [float(row["image_score"]) for row in rows] == list(SCORES)


def test_a_report_counts_by_batch(store, tmp_path):
    said = run_here("evidence", "report", store, "--by", "batch", "--json")
    report = json.loads(said.stdout)
    assert {row["group"]: (row["inspected"], row["ok"], row["false_rejects"]) for row in report["groups"]} == {
        "=": (1, 0, 1),
        "a": (2, 2, 0),
        "b": (3, 0, 0),
    }
    assert (report["total"]["yield"], report["total"]["yield_after_review"]) == (2 / 6, 3 / 6)
    assert report["kinds"] == {"scratch": 2}  # what was marked is no defect


def test_a_report_by_order_has_kinds_of_no_other_parts(store):
    report = json.loads(run_here("evidence", "report", store, "--by", "order", "--json").stdout)
    assert (report["total"]["inspected"], report["groups"], report["kinds"]) == (0, [], {})  # no order has begun


def test_a_report_is_a_table_in_the_terminal_and_a_page(store, tmp_path):
    (tmp_path / "site.yaml").write_text(
        "cameras: {top: {uri: 'synthetic:'}}\npipelines: {caps: {camera: top, model: m}}\n"
        "shifts: {early: {starts: 00:00}}\n"
    )
    page = tmp_path / "report.html"
    said = run_here("evidence", "report", store, "-c", tmp_path / "site.yaml", "-o", page)
    assert said.returncode == 0 and "early" in said.stdout and "33.3 %" in said.stdout and "50.0 %" in said.stdout
    assert "yield of inspected" in said.stdout and "\N{HORIZONTAL ELLIPSIS}" not in said.stdout  # of 80 columns
    assert "Kinds of rejects" in page.read_text() and "early" in page.read_text()
    assert run_here("evidence", "report", store, "-o", tmp_path / "report.csv", "--by", "day").returncode == 0
    assert [row["inspected"] for row in read_rows(tmp_path / "report.csv")] == ["6"]


REFUSED = [
    (("export",), "--output is missing"),
    (("export", "-o", "OUT", "--since", "tomorrow"), "--since 'tomorrow': write 12h, 7d or 2w, or a date"),
    (("export", "-o", "OUT", "--since", "2026-01-01", "--until", "2025-01-01"), "is not before 2025-01-01"),
    (("export", "-o", "OUT", "--batch", "z"), "there are no such verdicts"),
    (("report", "--marked"), "--marked does not go with `edgead evidence report`"),
    (("report", "--pipeline", "lids"), "no such pipeline or part, these are: caps"),
]


@pytest.mark.parametrize(("given", "why"), REFUSED)
def test_what_cannot_be_is_refused_and_leaves_nothing(store, tmp_path, given, why):
    words = [tmp_path / "out" if word == "OUT" else word for word in given]
    said = run_here("evidence", words[0], store, *words[1:])
    assert said.returncode == 2 and why in said.stderr
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_store_none_is_made(tmp_path):
    said = run_here("evidence", "report", tmp_path)
    assert said.returncode == 2 and "verdicts.sqlite is not there" in said.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_pyarrow_the_extra_is_named(store, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    said = run_here("evidence", "export", store, "-o", tmp_path / "out", "--format", "parquet")
    assert said.returncode == 2 and "Parquet needs `" in said.stderr and "parquet" in said.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_time_is_a_span_or_an_instant_of_the_local_clock():
    now = datetime(2026, 11, 18, 12, tzinfo=timezone.utc)
    assert _instant("--since", "12h", now) == now - timedelta(hours=12)
    assert _instant("--since", "2026-11-18T06:00+00:00", now) == now - timedelta(hours=6)
    assert _instant("--since", "2026-11-18T06:00", now) == datetime(2026, 11, 18, 6).astimezone()
    with pytest.raises(SettingsError, match="--until 'x'"):
        _instant("--until", "x", now)
