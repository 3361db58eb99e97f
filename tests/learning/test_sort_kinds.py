"""Rejects sorted without labels, and their kinds named: by the command line, from Python, from an evidence store."""

from __future__ import annotations

import csv
import json
import shutil
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from command_line import run_here
from test_evidence import open_store
from verdicts import Line

import edgead
from edgead import Detector
from edgead.artifact.earlier_versions import earlier_versions
from edgead.artifact.folder import Artifact
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.images.sheet import band_sheet
from edgead.line.evidence.kept_frames import read_span
from edgead.metrics.partitions import adjusted_rand
from edgead.unlabelled.sorting import folders
from edgead.unlabelled.sorting.clusters import MAX_REJECTS, _Tree, find_clusters
from edgead.unlabelled.sorting.name_kinds import read_names, shown_name


@pytest.fixture(scope="module")
def rejects(trained_model, line_data, tmp_path_factory):
    """Images of the built-in line that the model rejects or sends to review, under numbers."""
    folder = tmp_path_factory.mktemp("rejects")
    with Detector.load(trained_model) as detector:
        paths = [path for path in sorted(line_data.glob("test/*/*.jpg"))]
        found = [path for path in paths if detector.predict(load_image(path)).decision != "ok"]
    for number, path in enumerate(found):
        shutil.copy(path, folder / f"{number:02d}.jpg")
    assert len(found) >= 5
    return folder


@pytest.fixture
def examples(rejects, tmp_path):
    """The rejects in two folders, as a person may fill them."""
    for number, path in enumerate(sorted(rejects.iterdir())):
        place = tmp_path / "examples" / ("kind-01", "dent")[number % 2] / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return tmp_path / "examples"


def blobs(rng, sizes, width=12, spread=0.05):
    centres = np.linalg.qr(rng.normal(size=(width, width)))[0]
    rows = [centres[k] + spread * rng.normal(size=(size, width)) for k, size in enumerate(sizes)]
    return np.concatenate(rows).astype(np.float32)


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


# Clusters


def test_kinds_that_are_apart_are_found_with_their_number():
    found = find_clusters(blobs(np.random.default_rng(0), (9, 20, 14)), range(43))
    assert found.count == 3 and max(found.agreement) == 12
    assert found.labels.tolist() == [2] * 9 + [0] * 20 + [1] * 14
    assert min(found.stability) > 0.95 and found.clear == [True] * found.count
    assert replace(found, stability=[0.79, 0.8, None]).clear == [False, True, None]
    assert found.agreement[3] > 0.95 > found.agreement[9] + 0.05


def test_each_part_is_of_the_kind_whose_centre_is_nearest():
    # Of rows like these Ward's merges alone leave some nearer to the centre of another kind.
    rows = np.random.default_rng(4).normal(size=(60, 3)).astype(np.float32)
    labels = find_clusters(rows, range(60), 4).labels
    centres = np.array([rows[labels == kind].mean(axis=0) for kind in range(4)])
    assert np.linalg.norm(rows[:, None] - centres, axis=2).argmin(axis=1).tolist() == labels.tolist()


def test_images_of_one_part_are_in_the_same_half():
    # Six exposures each of twelve parts of two kinds: by images, each part would seem to be a kind that comes again.
    rng = np.random.default_rng(1)
    parts = np.repeat(np.arange(12), 6)
    shown = (blobs(rng, (6, 6), spread=0.15)[parts] + 0.01 * rng.normal(size=(72, 12))).astype(np.float32)
    assert find_clusters(shown, parts).count == 2
    assert find_clusters(shown, range(72)).count > 2


@pytest.mark.parametrize("parts", [2, 7, 40])
def test_merges_and_cuts_are_those_of_scipy(parts):
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    rows = np.random.default_rng(parts).normal(size=(parts, 20))
    ours, theirs = _Tree(rows), hierarchy.linkage(rows, "ward")
    np.testing.assert_allclose([height**0.5 for height, *_ in ours._merges], theirs[:, 2])
    for count in range(1, parts):
        assert adjusted_rand(ours.cut(count), hierarchy.fcluster(theirs, count, "maxclust")) == pytest.approx(1)


def test_equal_parts_are_never_of_two_kinds():
    assert _Tree(np.array([[0.1, 0.3]] * 4 + [[1.0, 2.0]] * 3)).cut(5).tolist() == [0] * 4 + [1] * 3
    assert _Tree(np.ones((5, 3))).cut(3).tolist() == [0] * 5 and _Tree(np.ones((1, 3))).cut(1).tolist() == [0]


def test_the_number_may_be_given():
    rows = blobs(np.random.default_rng(2), (5, 5))
    assert find_clusters(rows, range(10), 4).count == 4
    assert find_clusters(rows[:1], [0]).labels.tolist() == [0]
    assert find_clusters(rows[:4], [0, 0, 0, 0]).count == 1
    with pytest.raises(SettingsError, match="rejects of 10 parts cannot be 11 kinds"):
        find_clusters(rows, range(10), 11)
    with pytest.raises(SettingsError, match="more than the 5000"):
        find_clusters(np.zeros((MAX_REJECTS + 1, 1), np.float32), range(MAX_REJECTS + 1))


def test_the_seed_decides():
    rows, parts = blobs(np.random.default_rng(3), (8, 8, 8), spread=0.4), range(24)
    first, again = find_clusters(rows, parts, seed=1), find_clusters(rows, parts, seed=1)
    assert first.agreement == again.agreement and first.stability == again.stability
    assert first.agreement != find_clusters(rows, parts, seed=2).agreement


# The verb sort


def test_sort_writes_folders_a_sheet_and_tables(trained_model, rejects, line_data, tmp_path):
    out, good = tmp_path / "kinds", line_data / "test" / "good"
    ended = run_here("sort", trained_model, rejects, good, "-o", out, "--kinds", 2, "--group", "none", "--json")
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    count = len(list(rejects.iterdir()))
    assert report["sorted"] == count and report["ok"] == len(list(good.glob("*.jpg")))
    assert [row["kind"] for row in report["kinds"]] == ["kind 1", "kind 2"]
    assert report["kinds"][-1]["cumulative"] == 1
    placed = {path.name: path.read_bytes() for path in out.glob("kind-0*/*")}
    assert placed == {path.name: path.read_bytes() for path in rejects.iterdir()}
    with (out / "kinds.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == report["sorted"] + report["ok"]
    assert all((out / row["file"]).is_file() == (row["decision"] != "ok") or not row["file"] for row in rows)
    assert load_image(out / "sheet.jpg").shape[1] >= 1400
    before = content(out)
    again = run_here("sort", trained_model, rejects, "-o", out)
    assert again.returncode == 2 and "is not empty: name another folder" in again.stderr
    assert content(out) == before


def test_links_in_place_of_copies_and_names_of_their_own(trained_model, rejects, tmp_path, monkeypatch):
    captions = []

    def sheet(title, bands, **more):
        captions.extend(name for _, tiles in bands for _, name in tiles)
        return band_sheet(title, bands, **more)

    monkeypatch.setattr(folders, "band_sheet", sheet)
    first = sorted(rejects.iterdir())[:3]
    for number, path in enumerate(first):
        (tmp_path / f"id{number}").mkdir()
        shutil.copy(path, tmp_path / f"id{number}" / "frame.jpg")
    paths = sorted(tmp_path.glob("id*/frame.jpg"))
    ended = run_here("sort", trained_model, *paths, "-o", tmp_path / "kinds", "--link", "--group", "none")
    assert ended.returncode == 0, ended.stderr
    assert "edgead name" in ended.stdout and "kind-01=NAME" in ended.stdout
    links = {path.name: path.resolve() for path in (tmp_path / "kinds" / "kind-01").iterdir()}
    assert links == {f"id{number}_frame.jpg": path.resolve() for number, path in enumerate(paths)}
    assert sorted(captions) == sorted(links)  # what a person moves is called as the sheet says


def test_nothing_is_left_where_it_cannot_be_written(trained_model, rejects, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "write_image", fail)
    ended = run_here("sort", trained_model, rejects, "-o", tmp_path / "kinds")
    assert ended.returncode == 2 and "No space left" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_cannot_be_read_is_named_and_left_out(trained_model, rejects, tmp_path):
    (tmp_path / "torn.jpg").write_bytes(b"no image")
    ended = run_here("sort", trained_model, rejects, tmp_path / "torn.jpg", "-o", tmp_path / "kinds", "--json")
    assert ended.returncode == 1
    assert [one["image"] for one in json.loads(ended.stdout)["problems"]] == [str(tmp_path / "torn.jpg")]
    alone = run_here("sort", trained_model, tmp_path / "torn.jpg", "-o", tmp_path / "none")
    assert alone.returncode == 2 and "none of 1 images can be judged; " in alone.stderr
    assert "torn.jpg: not an image" in alone.stderr and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name images, folders of them, or an evidence store"),
        (("good",), "there is nothing to sort"),
        (("good", "--kinds", "many"), "a number of kinds, or auto"),
        (("--store", "nowhere"), "nowhere/verdicts.sqlite is not there"),
        (("--store", "nowhere", "--since", "soon"), "'soon' is no span of time: write 30m, 12h, 7d"),
        (("--store-url", "sqlite:///x"), "--store-url needs --store"),
        (("good", "--since", "3d"), "--since needs --store"),
    ],
)
def test_what_sort_refuses(trained_model, line_data, tmp_path, options, message):
    given = [line_data / "test" / "good" if option == "good" else option for option in options]
    ended = run_here("sort", trained_model, *given, "-o", tmp_path / "kinds")
    assert ended.returncode == 2 and message in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_rejects_of_an_evidence_store_are_sorted(trained_model, rejects, tmp_path):
    line, images = Line(), sorted(rejects.iterdir())[:4]
    with closing(open_store(tmp_path / "evidence", evidence="all", before=0, after=0)) as store:
        for number, path in enumerate(images):
            frame, verdict = line.part(0.9 if number else 0.1)  # the first was found good
            frame = replace(frame, image=load_image(path))
            assert store.add(frame, verdict)
            store.keep(frame, verdict)
        store.close(10)
    ended = run_here("sort", trained_model, "--store", tmp_path / "evidence", "-o", tmp_path / "kinds", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["sorted"] == 3
    old = run_here("sort", trained_model, "--store", tmp_path / "evidence", "--since", "0m", "-o", tmp_path / "none")
    assert old.returncode == 2 and "keeps no image of a reject" in old.stderr


def test_spans_of_time():
    assert read_span("90m") == timedelta(hours=1.5) and read_span("1.5d") == timedelta(hours=36)
    assert read_span("2w") == timedelta(days=14)


# The verb name


def test_named_kinds_stand_in_verdicts(model_copy, rejects, examples):
    before = Artifact.load(model_copy)
    ended = run_here("name", model_copy, "kind-01=scratch", "--examples", examples, "--group", "none", "--json")
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert {row["kind"] for row in report["kinds"]} == {"dent", "scratch"}
    assert sum(row["examples"] for row in report["kinds"]) == len(list(rejects.iterdir()))
    assert "no reject will be of an unknown kind" in ended.stderr
    (kept,) = earlier_versions(model_copy)
    assert Artifact.load(kept).manifest == before.manifest
    judged = json.loads(run_here("predict", model_copy, rejects, "--json").stdout)["images"]
    assert {row["image"][-6:]: row["kind"] for row in judged} == {
        path.name: "scratch" if path.parent.name == "kind-01" else "dent" for path in examples.glob("*/*.jpg")
    }
    table = run_here("predict", model_copy, rejects, "--csv", examples / "verdicts.csv")
    assert "scratch" in table.stdout
    with (examples / "verdicts.csv").open(newline="") as lines:
        assert {row["kind"] for row in csv.DictReader(lines)} == {"dent", "scratch"}


def test_kinds_are_added_changed_and_replaced(model_copy, rejects, examples, tmp_path):
    assert run_here("name", model_copy, "--examples", examples, "--group", "none").returncode == 0
    assert Artifact.load(model_copy).manifest.kinds.names == ["dent", "kind 1"]
    assert run_here("name", model_copy, "kind-01=dent", "--unknown", "0.2").returncode == 0
    kinds = Artifact.load(model_copy).manifest.kinds
    assert kinds.names == ["dent"] and kinds.unknown_level == 0.2
    first, second = sorted(rejects.iterdir())[:2]
    (tmp_path / "more" / "hole").mkdir(parents=True)
    shutil.copy(first, tmp_path / "more" / "hole")
    assert run_here("name", model_copy, "--examples", tmp_path / "more").returncode == 0
    kinds = Artifact.load(model_copy).manifest.kinds
    assert kinds.counts() == {"dent": len(list(rejects.iterdir())) - 1, "hole": 1}
    shutil.copy(second, tmp_path / "more" / "hole")
    ended = run_here("name", model_copy, "--examples", tmp_path / "more", "--replace", "--group", "none")
    assert ended.returncode == 0, ended.stderr
    assert Artifact.load(model_copy).manifest.kinds.counts() == {"hole": 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name kinds, such as kind-01=scratch"),
        (("kind-01",), "'kind-01' is no name of a kind"),
        (("a=b", "a=c"), "a gets two names: b and c"),
        (("kind-01=b", "kind 1=c"), "kind 1 gets two names: b and c"),
        (("a=b",), "knows no kinds of rejects"),
        (("a=b", "--replace"), "--replace forgets the kinds"),
        (("kind-09=x", "--examples", "EXAMPLES"), "there is no kind 'kind 9': there are dent, kind 1"),
        (("dent=unknown kind", "--examples", "EXAMPLES"), "'unknown kind' cannot name a kind"),
        (("--examples", "GOOD"), "holds no examples: put the rejects of each kind"),
        (("--examples", "nowhere"), "nowhere is no folder"),
    ],
)
def test_what_name_refuses(model_copy, examples, line_data, arguments, message):
    before = content(model_copy)
    places = {"EXAMPLES": examples, "GOOD": line_data / "test" / "good"}
    ended = run_here("name", model_copy, *(places.get(one, one) for one in arguments))
    assert ended.returncode == 2 and message in ended.stderr, ended.stderr
    assert content(model_copy) == before and not earlier_versions(model_copy)


def test_an_example_of_two_kinds_is_refused(model_copy, examples):
    path = next(examples.glob("dent/*"))
    shutil.copy(path, examples / "kind-01" / "other.jpg")
    ended = run_here("name", model_copy, "--examples", examples)
    assert ended.returncode == 2 and "are the same image: an example has one kind" in ended.stderr


def test_the_good_parts_of_a_test_set_are_no_kind(model_copy, examples):
    (examples / "good").mkdir()
    next(examples.glob("dent/*")).rename(examples / "good" / "false_reject.jpg")
    assert run_here("name", model_copy, "--examples", examples, "--group", "none").returncode == 0
    assert Artifact.load(model_copy).manifest.kinds.names == ["dent", "kind 1"]


def test_examples_that_are_ok_are_left_out(model_copy, examples, line_data):
    good = next(line_data.glob("test/good/*.jpg"))
    shutil.copy(good, examples / "dent" / "fine.jpg")
    ended = run_here("name", model_copy, "--examples", examples)
    assert ended.returncode == 0
    assert "1 examples are judged ok and were left out, fine.jpg first" in ended.stderr


def test_names_of_folders():
    assert [shown_name(name) for name in ("kind-01", "kind-12", "kind-00", "dent")] == [
        "kind 1",
        "kind 12",
        "kind-00",
        "dent",
    ]
    assert read_names(["kind-01= deep scratch "]) == {"kind-01": "deep scratch"}


def test_kinds_from_python(model_copy, rejects, tmp_path):
    with edgead.load(model_copy) as model:
        found = model.sort(rejects, tmp_path / "kinds", count=2, group="none")
        assert [one["folder"] for one in found.pareto()] == ["kind-01", "kind-02"]
        assert model.predict(found.of_kind(1)[0].path).kind is None
        named = model.name_kinds({"kind-02": "rare"}, examples=tmp_path / "kinds", group="none")
        assert named.artifact.manifest.kinds.names == ["kind 1", "rare"]
        assert model.predict(found.of_kind(1)[0].path).kind == "rare"
        model.name_kinds({"rare": "scratch"})
        assert model.predict(found.of_kind(1)[0].path).kind == "scratch"
