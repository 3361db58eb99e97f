"""Kinds of rejects on a device: the descriptor, the nearest known one, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest

from edgead import Detector
from edgead.artifact.folder import Artifact, ArtifactError, write_arrays, write_manifest
from edgead.artifact.kinds import Kinds
from edgead.detector.known_kinds import (
    KindRegression,
    KnownKinds,
    KnownParts,
    distances_between,
    distances_to_others,
    residual_scale,
    to_find,
    to_know,
)
from edgead.errors import SettingsError
from edgead.heads.describe import PATCHES
from edgead.heads.map import MapHead
from edgead.heads.nearest import NearestHead
from edgead.images.files import load_image
from edgead.kernels import NearestPatches, Smoother
from edgead.synthetic.line import conveyor
from edgead.types import UNKNOWN_KIND
from edgead.unlabelled.sorting.name_kinds import (
    KindExamples,
    keep_kinds,
    kept_examples,
    renamed,
)

GRID, SIZE = (12, 14), (48, 56)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture(scope="module")
def frames(line_data):
    """Good and defective images of the built-in line."""
    return [load_image(path) for path in sorted(line_data.glob("test/*/*.jpg"))]


@pytest.fixture(scope="module")
def described(trained_model, frames):
    with Detector.load(trained_model) as detector:
        return [detector.describe(frame) for frame in frames]


@pytest.fixture
def with_kinds(model_copy, described):
    """A model that knows two kinds, from its rejects, each of a part of its own: two halves that differ."""
    rejects = np.array([one.descriptor for one in described if one.verdict.decision != "ok"])
    assert len(rejects) >= 4
    centred = rejects - rejects.mean(axis=0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    names = [("light", "dark")[int(one > np.median(along))] for one in along]
    keep_kinds(Artifact.load(model_copy), KindExamples(names, rejects, range(len(rejects))))
    return model_copy


def plain_descriptor(features, scores, bank, margin):
    """The descriptor by loops."""
    found = []
    for y in range(margin, GRID[0] - margin):
        for x in range(margin, GRID[1] - margin):
            near = [
                scores[min(max(y + i, 0), GRID[0] - 1), min(max(x + j, 0), GRID[1] - 1)]
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
            ]
            found.append((np.mean(near), features[y, x].astype(float)))
    patches = np.array([patch for _, patch in sorted(found, key=lambda one: -one[0])])
    searched = patches[:80:2]
    nearest = np.array([bank[np.linalg.norm(bank - patch, axis=1).argmin()] for patch in searched])
    residual, looks = (searched - nearest).mean(axis=0), patches[:40].mean(axis=0)
    inner = features[margin : GRID[0] - margin, margin : GRID[1] - margin].astype(float)
    contrast = patches[: len(patches) // 4].mean(axis=0) - inner[::2].mean(axis=(0, 1))
    length = np.linalg.norm(residual) ** 0.5
    return np.concatenate([residual / length, looks / np.linalg.norm(looks), contrast / np.linalg.norm(contrast)])


@pytest.mark.parametrize("margin", [0, 2])
def test_the_descriptor_is_what_it_says(rng, margin):
    bank, features = rng.random((60, 9), np.float32), rng.random((1, *GRID, 9), np.float32)
    head = NearestHead(margin=margin)
    outputs, arrays = {"features": features}, {"memory_bank": bank}
    scorer = head.open(outputs, arrays, SIZE)
    scores = scorer.patch_scores(outputs)
    found = head.open_describer(outputs, arrays, scorer).describe(outputs, scores)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain_descriptor(features[0], scores, bank, margin), atol=1e-5)


def test_who_scores_and_who_describes_share_the_prepared_memory_bank(with_kinds, monkeypatch):
    prepared = []

    def prepare(bank, like=None):
        prepared.append(bank.shape)
        return NearestPatches(bank)

    monkeypatch.setattr("edgead.heads.nearest.NearestPatches", prepare)
    with Detector.load(with_kinds) as detector:
        detector.check_describes()
    assert len(prepared) == 1


def test_what_lies_in_the_memory_bank_is_described_by_its_features(rng):
    features = rng.random((1, *GRID, 9), np.float32)
    outputs, arrays = {"features": features}, {"memory_bank": features.reshape(-1, 9)}
    head, scores = NearestHead(), np.zeros(GRID, np.float32)
    found = head.open_describer(outputs, arrays, head.open(outputs, arrays, SIZE)).describe(outputs, scores)
    assert np.isfinite(found).all() and not found[:9].any()


def test_a_head_that_cannot_describe_says_what_can():
    with pytest.raises(SettingsError, match="'map' says how anomalous .* .edgead train --detector patchcore"):
        MapHead().open_describer({"patch_scores": np.zeros((1, *GRID), np.float32)}, {}, None)


def test_what_of_descriptors_is_compared():
    rows = np.array([[3, 4, 0, 1, 1, 0], [0, 2, 1, 0, 0, 1], [0, 0, 0, 1, 0, 1]], np.float32)
    assert residual_scale(rows) == 0.5 and residual_scale(np.zeros((2, 6), np.float32)) == 1
    np.testing.assert_allclose(to_know(rows, 0.5)[0], [1.5, 2, 1, 0])
    np.testing.assert_allclose(to_find(rows), [[0.6, 0.8, 0, 1], [0, 1, 1, 0], [0, 0, 0, 1]], rtol=1e-6)


def test_distances_go_to_the_two_nearest_other_parts():
    rows = np.array([[0, 0], [0, 0.1], [3, 4], [0, 1]])
    distances = distances_between(rows, rows)
    np.testing.assert_allclose(distances[2], [5, np.hypot(3, 3.9), 0, np.hypot(3, 3)], rtol=1e-6)
    to_2 = (np.hypot(3, 3) + np.array([5, np.hypot(3, 3.9)])) / 2
    known = KnownParts([7, 7, 1, 2])
    expected = [(1 + 5) / 2, (0.9 + np.hypot(3, 3.9)) / 2, to_2[1], (0.9 + np.hypot(3, 3)) / 2]
    np.testing.assert_allclose(known.to_others(distances), expected, rtol=1e-6)
    np.testing.assert_allclose(known.to_nearest(distances[3:]), [(0 + 0.9) / 2], rtol=1e-6)
    np.testing.assert_allclose(KnownParts([7, 7, 1, 1]).to_others(distances)[:2], [1, 0.9], rtol=1e-6)


def test_p_values_of_parts_as_the_known_ones_are_valid(rng):
    # Ten images each of twelve parts: were images taken for parts, far more than a tenth would seem unknown.
    below, groups = [], np.repeat(range(12), 10).tolist()
    for _ in range(200):
        centres = rng.normal(size=(13, 1, 8))
        images = (centres + 0.1 * rng.normal(size=(13, 10, 8))).astype(np.float32)
        rows = np.concatenate([images, np.zeros_like(images), images], axis=2).reshape(130, 24)
        distances = distances_to_others(rows[:120], 1.0, groups)
        known = Kinds(names=["a"], labels=[0] * 120, groups=groups, distances=distances, bank_sha256="")
        below.append(KnownKinds(known, rows[:120]).kind_of(rows[-1]).p_value <= 0.1)
    assert np.mean(below) <= 0.1 + 2 * (0.1 * 0.9 / 200) ** 0.5


def test_the_regression_is_that_of_scikit_learn(rng):
    ridge = pytest.importorskip("sklearn.kernel_ridge", reason="compared on the workstation")
    rows, others, labels = rng.normal(size=(30, 5)), rng.normal(size=(7, 5)), [0, 1, 2] * 10
    distances = distances_between(rows, rows)
    targets = 2 * np.eye(3)[labels] - 1
    gamma = 0.5 / (0.7 * np.median(distances)) ** 2
    plain = ridge.KernelRidge(alpha=0.3, kernel="rbf", gamma=gamma).fit(rows, targets - targets.mean(axis=0))
    found = KindRegression(distances, labels).scores(distances_between(others, rows))
    np.testing.assert_allclose(found, plain.predict(others) + targets.mean(axis=0), rtol=1e-8)


def check_same_verdicts(without, knowing, frames):
    """Compare all but the kind, bit for bit; give the decisions."""
    decisions = []
    with Detector.load(without) as first, Detector.load(knowing) as second:
        for frame in frames:
            before, after = first.predict(frame), second.predict(frame)
            assert (before.decision, before.image_score) == (after.decision, after.image_score)
            np.testing.assert_array_equal(before.anomaly_map, after.anomaly_map)
            assert before.kind is None and before.kind_p_value is None
            assert (after.kind is None) == (after.kind_p_value is None) == (after.decision == "ok")
            decisions.append(after.decision)
    return decisions


def test_verdicts_are_the_same_with_kinds_and_without(trained_model, with_kinds, frames):
    decisions = check_same_verdicts(trained_model, with_kinds, frames[:20])
    assert {"ok", "reject"} <= set(decisions)


@pytest.mark.slow
def test_a_thousand_verdicts_are_the_same_with_kinds_and_without(trained_model, with_kinds):
    decisions = check_same_verdicts(trained_model, with_kinds, (image for image, _, _ in conveyor(8, 1000, 0.3)))
    assert len(decisions) == 1000 and 100 < decisions.count("ok") < 900


@pytest.fixture
def calls(monkeypatch):
    """What the kernels were called with: rows that were searched for, and maps."""
    calls, search, smooth = [], NearestPatches.search, Smoother.__call__

    def counted_search(self, features, k=1):
        calls.append(len(features))
        return search(self, features, k)

    def counted_smooth(self, patch_scores, out=None):
        calls.append("map")
        return smooth(self, patch_scores, out)

    monkeypatch.setattr(NearestPatches, "search", counted_search)
    monkeypatch.setattr(Smoother, "__call__", counted_smooth)
    return calls


def test_a_frame_that_is_ok_costs_no_call_of_a_kernel(with_kinds, frames, calls):
    check_calls(with_kinds, frames, calls)


@pytest.mark.slow
def test_no_frame_of_a_thousand_that_is_ok_costs_a_call_of_a_kernel(with_kinds, calls):
    check_calls(with_kinds, (image for image, _, _ in conveyor(9, 1000, 0.3)), calls)


def check_calls(model, frames, calls):
    """One search and one map for each frame; one search more for those that are described."""
    with Detector.load(model) as detector:
        rows = detector._scorer.grid[0] * detector._scorer.grid[1]
        for frame in frames:
            calls.clear()
            verdict = detector.predict(frame)
            assert calls == ([rows, "map"] if verdict.decision == "ok" else [rows, PATCHES, "map"])


def test_a_known_reject_has_its_kind(with_kinds, frames, described):
    artifact = Artifact.load(with_kinds)
    rejects = [frame for frame, one in zip(frames, described, strict=True) if one.verdict.decision != "ok"]
    with Detector.load(with_kinds) as detector:
        found = [detector.predict(frame) for frame in rejects]
    assert [verdict.kind for verdict in found] == kept_examples(artifact).kinds
    assert all(verdict.kind_p_value > 0.3 for verdict in found)


def test_a_far_reject_is_of_an_unknown_kind(model_copy, rng):
    artifact = Artifact.load(model_copy)
    width = 3 * artifact.array("memory_bank").shape[1]
    near = np.eye(1, width, dtype=np.float32) + 1e-3 * rng.random((30, width), np.float32)
    keep_kinds(artifact, KindExamples(["dent"] * 30, near, range(30)), 0.1)
    with Detector.load(model_copy) as detector:
        assert detector._kinds.kind_of(near[0]).name == "dent"
        name, p_value = detector._kinds.kind_of(-near[0])
    assert name == UNKNOWN_KIND and p_value == pytest.approx(1 / 31)


def test_kinds_of_another_memory_bank_are_not_used(with_kinds, frames, caplog):
    artifact = Artifact.load(with_kinds)
    bank = artifact.array("memory_bank").copy()
    write_arrays(with_kinds, artifact.manifest, {"memory_bank": bank[::-1].copy()})
    write_manifest(with_kinds, artifact.manifest)
    with Detector.load(with_kinds) as detector:
        assert {detector.predict(frame).kind for frame in frames} == {None}
    assert "name them again with `edgead name" in caplog.text
    with pytest.raises(SettingsError, match="has learnt good parts since"):
        kept_examples(Artifact.load(with_kinds))


def test_kinds_that_an_earlier_edgead_described_are_not_used(with_kinds, frames, caplog):
    artifact = Artifact.load(with_kinds)
    earlier = artifact.manifest.kinds.model_copy(update={"descriptor": "patches40"})
    write_manifest(with_kinds, artifact.manifest.model_copy(update={"kinds": earlier}))
    with Detector.load(with_kinds) as detector:
        assert {detector.predict(frame).kind for frame in frames} == {None}
    assert "describes rejects otherwise since its kinds of rejects were named" in caplog.text
    with pytest.raises(SettingsError, match="--examples FOLDER --replace"):
        kept_examples(Artifact.load(with_kinds))


def test_equal_names_merge(with_kinds):
    artifact = Artifact.load(with_kinds)
    before = artifact.manifest.kinds
    written = keep_kinds(artifact, renamed(kept_examples(artifact), {"light": "dark"}))
    assert written.manifest.kinds.names == ["dark"]
    assert written.manifest.kinds.distances == before.distances
    with pytest.raises(SettingsError, match="there is no kind 'light': there are dark"):
        renamed(kept_examples(written), {"light": "x"})


@pytest.mark.parametrize("name", ["", UNKNOWN_KIND, "two\nlines", "x" * 65])
def test_names_that_no_kind_can_have(with_kinds, name):
    artifact = Artifact.load(with_kinds)
    with pytest.raises(SettingsError, match="kinds: "):
        keep_kinds(artifact, renamed(kept_examples(artifact), {"light": name}))
    assert Artifact.load(with_kinds).manifest == artifact.manifest


def test_examples_that_were_edited_are_refused(with_kinds):
    (with_kinds / "kinds" / "examples.npy").write_bytes(b"other")
    with pytest.raises(ArtifactError, match="examples.npy is not the file that was written"):
        Detector.load(with_kinds)
