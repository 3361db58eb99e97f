"""Artifacts that earlier edgeads wrote still open and judge as they did.

`fixtures/schema_4` was written by the last edgead of that schema: two graphs, usual scores, two golden images.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes import edit_manifest

from edgead.artifact.earlier import upgrade
from edgead.artifact.folder import Artifact, ArtifactError, write_manifest
from edgead.detector import Detector
from edgead.heads.nearest import NearestHead

SCHEMA_4 = Path(__file__).parent / "fixtures" / "schema_4"


def as_schema(version: int):
    """Take out of a manifest what its schema did not have."""

    def change(content: dict) -> None:
        content["schema_version"] = version
        for limits in (content["calibration"], content["precisions"]["fp16"]["calibration"]):
            del limits["groups"]
            if version < 3:
                del limits["tail"]
        if version < 3:
            del content["threshold_changes"]
        if version < 2:
            del content["precisions"]

    return change


@pytest.fixture(params=[1, 2, 3, 4])
def earlier(request, tmp_path):
    path = Path(shutil.copytree(SCHEMA_4, tmp_path / "model"))
    if request.param < 4:
        edit_manifest(path, as_schema(request.param))
    return path


def test_it_scores_as_it_did(earlier):
    artifact = Artifact.load(earlier)
    assert artifact.manifest.head == NearestHead(num_neighbors=2, by_place=True)
    for precision in artifact.precisions:
        with Detector.load(earlier, precision=precision) as detector:
            assert len(detector.graph.golden) == 2
            for golden in detector.graph.golden:
                found = detector.measure(artifact.image(golden.image))
                assert found.image_score == pytest.approx(golden.image_score, rel=1e-5)
                np.testing.assert_allclose(found.anomaly_map, np.load(earlier / golden.anomaly_map), rtol=1e-4)


@pytest.mark.parametrize("change", [{"method": "extrapolated"}, {"tail": {"over": 1.0}}])
def test_a_threshold_that_was_read_off_a_fitted_tail_is_refused(tmp_path, change):
    path = Path(shutil.copytree(SCHEMA_4, tmp_path / "model"))
    edit_manifest(path, lambda content: content["calibration"].update(change))
    with pytest.raises(ArtifactError, match=next(iter(change))):
        Artifact.load(path)


def test_what_it_says_is_kept_when_it_is_written_again(earlier):
    before = Artifact.load(earlier).manifest
    write_manifest(earlier, before)
    after = Artifact.load(earlier).manifest
    assert after.schema_version == 5 and after.manifest_sha256 != before.manifest_sha256
    assert after.model_copy(update={"manifest_sha256": before.manifest_sha256}) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["scoring"].update(head="oracle"), "scoring.head is one of patch_nearest, map"),
        (lambda m: m["scoring"].update(head=["map"]), "scoring.head is one of patch_nearest, map"),
        (lambda m: m["scoring"].update(head="map"), "'map' scores patch_scores"),
        (lambda m: (m["scoring"].update(head="map", reweight_neighbors=3), m.update(output="patch_scores")), "no"),
        (lambda m: m["scoring"].update(sigma_px=-1), "head: sigma_px"),
        (lambda m: m.update(scoring=4), "the section scoring is missing, or is none"),
        (lambda m: m.update(precisions=[]), "the section precisions is missing, or is none"),
        (lambda m: m["precisions"].update(fp16=[]), "graphs.fp16"),
        (lambda m: m["precisions"].update(fp9=m["precisions"]["fp16"]), "unknown precision 'fp9'"),
        (lambda m: m.pop("preprocessing"), "preprocessing"),
        (lambda m: m.update(surprise=1), "surprise: unknown key"),
        (lambda m: m.update(schema_version=0), "there was never a schema 0"),
    ],
)
def test_one_that_was_changed_is_refused(tmp_path, change, message):
    path = shutil.copytree(SCHEMA_4, tmp_path / "model")
    edit_manifest(path, change)
    with pytest.raises(ArtifactError, match=f"{message}.*train the model again"):
        Artifact.load(path)


def test_a_map_has_no_neighbours_any_more():
    scoring = {"head": "map", "num_neighbors": 1, "reweight_neighbors": 0, "window": 3}
    found = upgrade({"schema_version": 4, "scoring": scoring, "output": "patch_scores", "preprocessing": {}})
    assert found["head"] == {"kind": "map", "window": 3} and found["arrays"] == {}
