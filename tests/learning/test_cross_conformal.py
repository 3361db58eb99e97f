"""Cross-conformal thresholds: each good image is scored by what a memory bank has learnt from the others."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgead.adapt.finalize import measure_good
from edgead.adapt.memory_bank.coreset import BankRule, choose_memory_bank
from edgead.adapt.memory_bank.feature_space import fit_metric
from edgead.adapt.memory_bank.folds import FOLDS, deal_folds, find_stand_ins
from edgead.artifact.folder import Artifact, write_manifest
from edgead.artifact.training_hashes import find_folds, find_learnt
from edgead.calibration.conformal import conformal_threshold
from edgead.detector import ClosedError, Detector
from edgead.errors import SettingsError
from edgead.heads.nearest import BANK, FOLD_METRICS, ROW_FOLDS, STAND_INS, NearestHead, in_metric, without_fold
from edgead.images.files import load_image
from edgead.kernels import NearestPatches


@pytest.fixture(scope="module")
def learnt(line_data):
    return sorted((line_data / "train" / "good").iterdir())


def test_every_good_image_is_learnt_and_calibrated_on(trained_model, learnt):
    artifact = Artifact.load(trained_model)
    limits, facts = artifact.graph().calibration, artifact.manifest.training
    assert limits.method == "cross_conformal" and artifact.manifest.head.folds == FOLDS
    assert len(limits.scores) == facts["training_images"] == facts["calibration_images"] == len(learnt)
    assert find_learnt(artifact, learnt) == learnt
    folds = find_folds(artifact, learnt)
    with Detector(artifact, runtime="onnxruntime") as detector:
        again = measure_good(detector, learnt, folds=[folds[path] for path in learnt])
    assert sorted(again.scores) == pytest.approx(limits.scores)


def test_a_left_out_score_is_that_of_a_bank_without_the_fold(model_copy, learnt):
    artifact = Artifact.load(model_copy)
    image, fold = load_image(learnt[0]), find_folds(artifact, learnt)[learnt[0]]
    with Detector(artifact, runtime="onnxruntime") as detector:
        seen, left_out = detector.measure(image), detector.measure_left_out(image, fold)
        verdict = detector.predict_left_out(image, fold)
    bank, metric = without_fold(artifact.head_arrays(), fold)
    np.save(model_copy / "memory_bank.npy", bank)
    assert metric is not None
    learnt_metric = np.load(model_copy / "metric.npy")[..., 0, 0]
    np.save(model_copy / "metric.npy", np.ascontiguousarray((learnt_metric @ metric).T)[..., None, None])
    write_manifest(model_copy, artifact.manifest)
    with Detector.load(model_copy, runtime="onnxruntime") as detector:
        expected = detector.measure(image)
    assert left_out.image_score == verdict.image_score == pytest.approx(expected.image_score, rel=1e-4)
    np.testing.assert_allclose(left_out.anomaly_map, expected.anomaly_map, atol=1e-4)
    assert seen.image_score < left_out.image_score  # its own patches are in the bank


def test_a_fold_is_opened_once_and_while_nothing_else_uses_the_detector(trained_model, learnt, monkeypatch):
    image, opened, at_once = load_image(learnt[0]), [], threading.Barrier(4)

    def open_slowly(head, *arguments, _open=NearestHead.open_left_out):
        opened.append(detector._one_frame.locked())
        time.sleep(0.05)
        return _open(head, *arguments)

    def measure(_):
        at_once.wait(10)
        return detector.measure_left_out(image, 0).image_score

    monkeypatch.setattr(NearestHead, "open_left_out", open_slowly)
    with Detector.load(trained_model) as detector, ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(measure, range(4)))) == 1
    assert opened == [True]
    with pytest.raises(ClosedError, match="open .* again with edgead.load"):
        detector.measure_left_out(image, 1)
    assert opened == [True]


def test_a_fold_that_there_is_not_is_refused(model_copy, learnt):
    image = load_image(learnt[0])
    with Detector.load(model_copy) as detector, pytest.raises(SettingsError, match="no fold 10 .* retrain it"):
        detector.measure_left_out(image, FOLDS)
    manifest = Artifact.load(model_copy).manifest
    head = manifest.head.model_copy(update={"folds": 0})  # as of a model that was learnt by an earlier edgead
    write_manifest(model_copy, manifest.model_copy(update={"head": head}))
    with Detector.load(model_copy) as detector, pytest.raises(SettingsError, match="no fold 0 .* retrain it"):
        detector.measure_left_out(image, 0)


@pytest.mark.parametrize(("groups", "per_group"), [(60, 1), (24, 4)])
def test_the_rate_is_kept_on_average_and_at_most_twice(groups, per_group):
    """On drawn parts: images of patches around a part's own direction, the score the farthest patch."""
    rate, parts, patches, rejected, naive = 0.1, 40, 12, [], []
    for repeat in range(60):
        rng = np.random.default_rng(repeat)

        def draw(count, each, rng=rng):
            of_group = np.repeat(rng.normal(0, 1, (count, 1, 6)), each, axis=0)
            return (of_group + rng.normal(0, 0.5, (count * each, patches, 6))).astype(np.float32)

        good, new = draw(groups, per_group), draw(parts, 1)
        group_of = np.repeat(np.arange(groups), per_group)
        fold = deal_folds(group_of, repeat)
        metric = fit_metric(good.reshape(-1, 6), group_of, folds=fold, seed=repeat)
        good, new = good @ metric.matrix, new @ metric.matrix
        rows = good.reshape(-1, 6)
        of_row = np.repeat(fold, patches)
        chosen = choose_memory_bank(rows, BankRule(1.0, 200, seed=repeat))
        bank, stand_ins = rows[chosen], find_stand_ins(rows, of_row, chosen)

        def score(images, bank):
            distance, _ = NearestPatches(bank).search(images.reshape(-1, 6))
            return distance.reshape(len(images), patches).max(axis=1)

        arrays = {BANK: bank, ROW_FOLDS: of_row[chosen], STAND_INS: stand_ins, FOLD_METRICS: metric.without}
        without = [without_fold(arrays, number) for number in range(FOLDS)]
        left_out = np.concatenate(
            [score(in_metric(good[[i]], without[fold[i]][1]), without[fold[i]][0]) for i in range(len(good))]
        )
        limit = conformal_threshold(left_out, rate, group_of.tolist())
        rejected.append(np.mean(score(new, bank) > limit))
        naive.append(np.mean(score(new, bank) > conformal_threshold(score(good, bank), rate, group_of.tolist())))
    error = 3 * np.std(rejected) / len(rejected) ** 0.5
    assert rate / 4 < np.mean(rejected) < rate + error
    # Scored with their own rows in the bank, good images give a limit that nothing keeps.
    assert np.mean(naive) > 2 * rate


def test_what_the_metric_has_seen_of_an_image_is_left_out_too():
    """Of 40 parts in 48 directions the metric learns those parts; scored in it, they are far more usual than others."""
    rate, width, of_part, parts = 0.1, 48, 12, 40
    rejected: dict[bool, list[float]] = {True: [], False: []}
    for repeat in range(20):
        rng = np.random.default_rng(repeat)
        own, wobble = rng.normal(0, 1, (2 * parts, 1, width)), rng.normal(0, 0.5, (2 * parts, of_part, width))
        images = (own + wobble).astype(np.float32)
        fold = deal_folds(range(parts), repeat)
        metric = fit_metric(images[:parts].reshape(-1, width), range(parts), folds=fold, seed=repeat)
        good, new = (images @ metric.matrix).reshape(2, parts, of_part, width)
        rows, of_row = good.reshape(-1, width), np.repeat(fold, of_part)
        chosen = choose_memory_bank(rows, BankRule(1.0, 200, seed=repeat))
        arrays = {
            BANK: rows[chosen],
            ROW_FOLDS: of_row[chosen],
            STAND_INS: find_stand_ins(rows, of_row, chosen),
            FOLD_METRICS: metric.without,
        }

        def farthest(image, bank):
            return NearestPatches(bank).search(image)[0].max()

        for with_metrics, found in rejected.items():
            known = arrays if with_metrics else {name: arrays[name] for name in (BANK, ROW_FOLDS, STAND_INS)}
            without = [without_fold(known, number) for number in range(FOLDS)]
            left_out = [
                farthest(in_metric(image, without[own][1]), without[own][0])
                for image, own in zip(good, fold, strict=True)
            ]
            limit = conformal_threshold(left_out, rate)
            found.append(np.mean([farthest(image, arrays[BANK]) > limit for image in new]))
    assert np.mean(rejected[True]) < rate + 3 * np.std(rejected[True]) / len(rejected[True]) ** 0.5
    assert np.mean(rejected[False]) > 5 * rate
