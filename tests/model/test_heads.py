"""Heads from outside of the package, found by entry points, from the training to the stream; and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes import edit_manifest

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.detector import Detector
from edgead.heads import BUILT_IN, HeadError, find_head, read_head
from edgead.heads.map import MapHead
from edgead.heads.nearest import NearestHead
from edgead.images.files import load_image
from edgead.stream import run

PLUGIN = Path(__file__).parents[1] / "plugin"
TINY_MODEL = Path(__file__).parents[1] / "fixtures" / "tiny_model"


@pytest.fixture
def plugin(monkeypatch):
    """As if the package of these heads were installed."""
    monkeypatch.syspath_prepend(str(PLUGIN))


@pytest.fixture
def dummy_model(plugin, line_data, once):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    from edgead.adapt.training.from_folder import train_from_folder
    from edgead.adapt.training.good_images import GoodImages

    good = GoodImages(line_data, false_reject_rate=0.1)
    return once("dummy", lambda path: train_from_folder(good, path, {}, detector="dummy"))


def test_a_head_from_outside_is_trained_and_judges(dummy_model, line_data, tmp_path):
    manifest = Artifact.load(dummy_model).manifest
    assert manifest.head.kind == "offset" and manifest.arrays == {"offset": "offset.npy"}
    assert manifest.detector == "dummy" and manifest.learns_from == "good"
    content = json.loads((dummy_model / "manifest.json").read_text())
    assert content["head"] == {"kind": "offset", "factor": 1.0}
    with Detector.load(dummy_model) as detector:
        good = detector.predict(load_image(line_data / "test" / "good" / "000.jpg"))
        bad = detector.predict(np.full((200, 200, 3), 255, np.uint8))
        assert good.image_score < bad.image_score and bad.decision == "reject"
        assert bad.anomaly_map.shape == (64, 64)
        summary = run(str(line_data / "test" / "good"), detector, [f"jsonl:{tmp_path}/verdicts.jsonl"])
    assert summary.frames == len((tmp_path / "verdicts.jsonl").read_text().splitlines()) == 8
    assert summary.ended_by == "source" and summary.warming_up == 0


def test_its_reference_is_what_the_export_is_compared_with(dummy_model):
    from edgead.export.verify import compare_with_torch

    assert compare_with_torch(Artifact.load(dummy_model)).passed


def test_its_array_is_checked(dummy_model, tmp_path):
    from edgead.artifact.folder import write_manifest

    path = Path(shutil.copytree(dummy_model, tmp_path / "model"))
    np.save(path / "offset.npy", np.ones((2, 2), np.float32))
    write_manifest(path, Artifact(path, Artifact.load(dummy_model).manifest).manifest)
    with pytest.raises(ArtifactError, match=r"the offset is one number, found \(2, 2\): train the model again"):
        Detector.load(path)


def test_its_options_have_bounds(dummy_model, tmp_path):
    path = Path(shutil.copytree(dummy_model, tmp_path / "model"))
    edit_manifest(path, lambda content: content["head"].update(factor=-1))
    with pytest.raises(ArtifactError, match="head: factor: must be above 0"):
        Artifact.load(path)


def test_a_head_that_is_not_installed_is_named(tmp_path):
    path = Path(shutil.copytree(TINY_MODEL, tmp_path / "model"))
    edit_manifest(path, lambda content: content.update(head={"kind": "oracle"}))
    with pytest.raises(
        ArtifactError, match="the head 'oracle' is not installed, here are .*local, map, nearest, push: install"
    ) as reported:
        Artifact.load(path)
    assert "train" not in str(reported.value)


def test_built_in_heads_are_found_by_their_kinds():
    assert {kind: find_head(kind)().kind for kind in BUILT_IN} == {kind: kind for kind in BUILT_IN}
    assert {*BUILT_IN} == {"nearest", "map", "local", "push", "cycle"}
    assert read_head({"kind": "nearest", "num_neighbors": 2}) == NearestHead(num_neighbors=2)
    assert read_head(MapHead()) == MapHead()


@pytest.mark.parametrize(
    ("kind", "message"),
    [("broken", "the head 'broken' does not load"), ("none", "dummy_heads:deque, the head 'none', is no subclass")],
)
def test_an_entry_point_that_is_no_head_is_refused(plugin, kind, message):
    with pytest.raises(HeadError, match=message):
        find_head(kind)


@pytest.mark.parametrize("content", [None, [], {}, {"kind": 3}, "nearest"])
def test_what_is_no_section_is_refused(content):
    with pytest.raises(HeadError, match="a head is a section with a kind"):
        read_head(content)


def test_what_an_earlier_model_did_not_use_is_dropped_and_what_it_used_is_refused():
    gone = {"reweight_neighbors": 0, "graph_weight": 0.0}
    assert read_head({"kind": "nearest", "window": 3, **gone}) == NearestHead(window=3)
    for name, value in (("reweight_neighbors", 3), ("graph_weight", 1.0)):
        with pytest.raises(HeadError, match=f"made by an earlier edgead.* needs {name} {value}.*retrain it"):
            read_head({"kind": "nearest", **gone, name: value})
    assert read_head({"kind": "map", "graph_weight": 1.0}) == MapHead(graph_weight=1.0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_neighbors": 3, "window": 3, "top_patches": 5},
        {"by_place": True, "margin": 1, "border": "replicate", "sigma_px": 2.5},
        {"sigma_px": 0, "window": 99, "top_patches": 999},
    ],
)
def test_scores_are_those_of_the_reference(options):
    rng = np.random.default_rng(3)
    features = rng.normal(size=(1, 6, 9, 5)).astype(np.float32)
    outputs = {"features": features}
    arrays = {"memory_bank": rng.normal(size=(40, 5)).astype(np.float32)}
    head = NearestHead(**options)
    if head.by_place:
        arrays["usual_scores"] = rng.random((6, 9)).astype(np.float32)
    scorer = head.open(outputs, arrays, (48, 70))
    scored = scorer.score(outputs)
    plain = {name: array[0].astype(np.float64) for name, array in outputs.items()}
    image_score, anomaly_map = head.reference(plain, arrays, (48, 70))
    assert scored.image_score == pytest.approx(image_score, rel=1e-5)
    np.testing.assert_allclose(scorer.anomaly_map(scored.patch_scores)[0], anomaly_map, rtol=1e-4, atol=1e-5)
