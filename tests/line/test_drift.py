"""Drift: false alarms as rare as guaranteed, changes found and distinguished, a state that outlives a restart."""

from __future__ import annotations

import json
from unittest import mock

import cv2
import numpy as np
import pytest
from fakes import TIMES

from edgead.artifact.camera_view import ViewMeter
from edgead.artifact.manifest import CameraView
from edgead.calibration.conformal import calibrate
from edgead.calibration.plan import choose_rates
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.line.drift import DriftSection, DriftWatch
from edgead.line.drift.betting import Bag, ChangeEvidence, ShareEvidence
from edgead.line.drift.words import drift_reason
from edgead.synthetic import camera
from edgead.synthetic.line import part_seed, render
from edgead.types import Verdict

RATE = 0.1


def scores_of(rng, count):
    return np.exp(0.3 * rng.standard_normal(count))


def calibration(images=60, seed=0):
    scores = scores_of(np.random.default_rng(seed), images)
    return calibrate(scores, scores, scores, false_reject_rate=RATE)


def verdict(score, limits, *, level=None, model="m", review=None):
    rows = np.full((2, 2), score if level is None else level, np.float32)
    decision = "ok" if score <= limits.reject else "reject"
    review = limits.review if review is None else review
    return Verdict(
        float(score),
        decision,
        rows,
        limits.reject,
        limits.map_threshold,
        (),
        TIMES,
        review_threshold=review,
        model=model,
    )


def watch_scores(watch, scores, limits, **more):
    """What is said after each of the scores, until the first warning."""
    for number, score in enumerate(scores, 1):
        state = watch.add(verdict(score, limits, **more))
        if state.state == "warning":
            return number, state
    return None, state


def test_p_values_by_hand():
    bag = Bag([1.0, 2.0, 2.0, 4.0])
    assert bag.p_value(3.0, 0.5) == pytest.approx((1 + 0.5) / 5)
    assert bag.p_value(2.0, 0.25) == pytest.approx((2 + 0.25 * 3) / 6)
    assert bag.p_value(-7.0, 0.0) == pytest.approx(6 / 7)
    assert bag.p_value(9.0, 0.0) == 1e-12
    assert len(bag) == 8
    assert Bag.from_dict(json.loads(json.dumps(bag.to_dict()))).p_value(4.0, 0.5) == bag.p_value(4.0, 0.5)


def test_p_values_are_uniform_and_independent_after_few_images_and_many_parts():
    rng = np.random.default_rng(3)
    bag = Bag(scores_of(rng, 20))
    p = np.array([bag.p_value(score, rng.random()) for score in np.round(scores_of(rng, 20_000), 1)])
    # The 99.9 % quantile of Kolmogorov's statistic.
    assert np.max(np.abs(np.sort(p) - np.linspace(0, 1, p.size))) < 1.95 / np.sqrt(p.size)
    assert abs(np.corrcoef(p[1:], p[:-1])[0, 1]) < 3.3 / np.sqrt(p.size)


def test_a_bag_needs_a_place_for_each_value_only():
    rng = np.random.default_rng(4)
    bag = Bag()
    for value in rng.uniform(0.5, 1.0, 20_000):
        bag.p_value(value, 0.5)
    assert len(bag) == 20_000
    assert len(bag.to_dict()["values"]) <= 2**11 + 1


@pytest.mark.parametrize("kind", ["values", "share"])
def test_false_alarms_are_as_rare_as_guaranteed(kind):
    rng, bar, parts, alarms = np.random.default_rng(5), 100, 40_000, 0
    evidence = ChangeEvidence() if kind == "values" else ShareEvidence(0.2)
    for value in rng.random(parts):
        evidence.add(value if kind == "values" else value < 0.2)
        if evidence.level >= bar:
            alarms += 1
            evidence.sums[:] = 0
    # Expected are at most parts / bar; fewer, for the bar is jumped over, but none at all would be no watch.
    assert parts / bar / 10 < alarms < parts / bar


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda rng: rng.beta(1, 3), "higher"),  # small p-values are high values
        (lambda rng: rng.beta(3, 1), "lower"),
        (lambda rng: rng.beta(0.4, 0.4), "more spread"),
        (lambda rng: rng.beta(5, 5), "less spread"),
    ],
)
def test_the_change_is_named(draw, expected):
    rng, evidence = np.random.default_rng(6), ChangeEvidence()
    for _ in range(200):
        evidence.add(draw(rng))
    assert evidence.level > 1e9
    assert evidence.change == expected


def factors(p_values, **options):
    """What each bet makes of a first p-value; (p-values, bets)."""
    rows = []
    for p_value in p_values:
        evidence = ChangeEvidence(**options)
        evidence.add(p_value)
        rows.append(evidence.sums)
    return np.array(rows)


def test_bets_on_higher_scores_are_those_that_win_no_more_by_larger_p_values():
    won = factors(np.linspace(0.01, 0.99, 99))
    falling = (np.diff(won, axis=0) <= 1e-12).all(axis=0)
    np.testing.assert_array_equal(factors([0.1, 0.6], higher_only=True), factors([0.1, 0.6])[:, falling])


def test_undisturbed_parts_raise_no_more_alarms_than_guaranteed():
    limits, rng = calibration(), np.random.default_rng(7)
    watch, alarms, parts, length = DriftWatch(limits, section=DriftSection(average_run_length=500)), 0, 8_000, 500
    for score, level in zip(scores_of(rng, parts), scores_of(rng, parts), strict=True):
        if watch.add(verdict(score, limits, level=level)).state == "warning":
            alarms += 1
            watch.start_again()
    assert alarms <= parts / length


def test_higher_scores_are_found_soon_and_stay_a_warning():
    limits, rng = calibration(), np.random.default_rng(8)
    watch = DriftWatch(limits)
    assert watch_scores(watch, scores_of(rng, 300), limits)[0] is None
    found, state = watch_scores(watch, 1.5 * scores_of(rng, 300), limits)
    assert found is not None and found < 60
    assert (state.cause, state.alarm_part) == ("product", 300 + found)
    assert "parts that pass score higher" in state.reason or "more parts than usual are rejected" in state.reason
    assert watch_scores(watch, scores_of(rng, 1), limits)[1].state == "warning"
    watch.start_again()
    assert watch.state.state == "ok"


def test_a_day_that_differs_from_the_calibration_from_its_first_part_on():
    limits, rng = calibration(images=200), np.random.default_rng(9)
    found, _ = watch_scores(DriftWatch(limits), 0.7 * scores_of(rng, 300), limits, level=1.0)
    assert found is not None and found < 100


def left_out(images, seed, factor=1.0):
    """A calibration by scores that lie above those of parts, as those of learnt images may."""
    scores = factor * scores_of(np.random.default_rng(seed), images)
    return calibrate(scores, scores, scores, false_reject_rate=0.02, method="cross_conformal")


@pytest.mark.parametrize("factor", [1.0, 1.1, 1.5])
def test_left_out_scores_that_lie_above_those_of_parts_raise_no_more_alarms_than_guaranteed(factor):
    rng, alarms, runs, parts, length = np.random.default_rng(14), 0, 40, 250, 250
    for run in range(runs):
        limits = left_out(60, run, factor)
        watch = DriftWatch(limits, section=DriftSection(average_run_length=length))
        for score in scores_of(rng, parts):
            if watch.add(verdict(score, limits, level=rng.random())).state == "warning":
                alarms += 1
                watch.start_again()
    assert alarms <= runs * parts / length


def test_higher_scores_from_the_first_part_on_are_seen_beside_left_out_scores():
    rng = np.random.default_rng(15)
    limits = left_out(240, 1)
    found, state = watch_scores(DriftWatch(limits), 1.2 * scores_of(rng, 800), limits, level=1.0)
    assert found is not None and found < 500
    assert "parts that pass score higher than the good images did" in state.reason
    assert watch_scores(DriftWatch(limits), 0.7 * scores_of(rng, 400), limits, level=1.0)[0] is None


def test_a_camera_that_was_moved_before_the_first_part_is_seen_until_it_is_accepted():
    rng = np.random.default_rng(16)
    limits, golden = calibration(), [rng.integers(0, 255, (32, 32, 3), np.uint8)]

    def view(x_px):
        return CameraView(
            brightness=1 + 0.02 * rng.normal(), sharpness=1.0, x_px=x_px + rng.normal(), y_px=rng.normal()
        )

    watch = DriftWatch(limits, golden, views=[view(100.0) for _ in range(120)])

    def first_warning(x_px, parts=300):
        for number in range(1, parts + 1):
            state = watch.add_measured(float(scores_of(rng, 1)[0]), rng.random(), view(x_px))
            if state.state == "warning":
                return number, state
        return None, state

    assert first_warning(100.0)[0] is None
    watch.start_again()
    found, state = first_warning(101.0)
    assert found is not None and state.cause == "camera" and "moved to the right" in state.reason
    watch.start_again()  # as another threshold does
    assert first_warning(101.0)[0] == pytest.approx(found, abs=60)
    watch.accept()
    assert first_warning(101.0)[0] is None
    again = DriftWatch(limits, golden, views=[view(100.0) for _ in range(120)])
    again.restore(watch.to_dict())
    again.start_again()
    watch = again
    assert first_warning(101.0)[0] is None, "what was accepted outlives a restart"


def test_only_rejects_are_drift_too():
    limits = calibration()
    found, state = watch_scores(DriftWatch(limits), [99.0] * 60, limits)
    assert found is not None and found < 20
    assert "more parts than usual are rejected or sent to review" in state.reason
    assert watch_scores(DriftWatch(limits), [float("nan")] * 60, limits)[0] == found


def test_defects_within_their_share_are_none():
    limits, rng = calibration(), np.random.default_rng(10)
    scores = np.where(rng.random(3000) < 0.08, 99.0, scores_of(rng, 3000))
    assert watch_scores(DriftWatch(limits), scores, limits)[0] is None


def test_a_share_of_flagged_parts_that_the_thresholds_alone_reach_is_refused():
    with pytest.raises(SettingsError, match="0.05 is no more than the good ones' 0.1"):
        DriftWatch(calibration(), section=DriftSection(most_flagged=0.05))


@pytest.mark.parametrize("images", [4, 10, 20, 28, 29])
def test_a_model_of_few_images_is_watched_at_the_rates_it_gets(images):
    scores = scores_of(np.random.default_rng(images), images)
    rate, review_rate = choose_rates(images, None, None)
    limits = calibrate(
        scores, scores, scores, false_reject_rate=rate, review_rate=review_rate, method="cross_conformal"
    )
    rng, watch = np.random.default_rng(17), DriftWatch(limits)
    usual = np.where(rng.random(500) < rate, 99.0, 0.1)  # as many rejects as its rate says are no change
    assert watch_scores(watch, usual, limits, level=0.1)[0] is None
    found, state = watch_scores(watch, [99.0] * 60, limits)
    assert found is not None and found < 40 and "more parts than usual are rejected" in state.reason


@pytest.mark.parametrize(("rate", "share"), [(0.05, 0.2), (0.1, 0.2), (0.2, 0.4), (0.6, 0.8)])
def test_a_state_kept_for_the_same_share_of_flagged_parts_is_taken(rate, share):
    scores = scores_of(np.random.default_rng(18), 60)
    limits = calibrate(scores, scores, scores, false_reject_rate=rate)
    said = DriftWatch(limits, section=DriftSection(most_flagged=share))
    said.add(verdict(0.1, limits))
    unsaid = DriftWatch(limits)
    unsaid.restore(said.to_dict())
    assert unsaid.state.parts == 1


def test_another_threshold_begins_again():
    limits, rng = calibration(), np.random.default_rng(11)
    watch = DriftWatch(limits)
    watch_scores(watch, scores_of(rng, 50), limits)
    assert watch.state.parts == 50
    assert watch.add(verdict(1.0, limits, review=0.9 * limits.review)).parts == 1
    # Below all that is known: nothing to compare with, and everything is flagged.
    assert watch_scores(watch, scores_of(rng, 60), limits, review=0.01)[1].state == "warning"


def test_the_state_outlives_a_restart():
    limits, rng = calibration(), np.random.default_rng(12)
    one = DriftWatch(limits)
    watch_scores(one, scores_of(rng, 200), limits)
    other = DriftWatch(limits)
    other.restore(json.loads(json.dumps(one.to_dict())))
    for score in 1.3 * scores_of(rng, 60):
        assert one.add(verdict(score, limits)) == other.add(verdict(score, limits))
    assert one.state.parts == 260


def test_a_foreign_or_damaged_state_is_refused_and_changes_nothing():
    limits, rng = calibration(), np.random.default_rng(13)
    watch = DriftWatch(limits)
    watch_scores(watch, scores_of(rng, 20), limits)
    before = watch.to_dict()
    with pytest.raises(SettingsError, match="another model"):
        watch.restore(DriftWatch(calibration(seed=1)).to_dict())
    for damage in ({"channels": {}}, {"random": {}}, {"channels": {"scores": {"bag": [], "sums": []}}}, {"parts": "x"}):
        with pytest.raises(SettingsError, match="damaged"):
            watch.restore({**before, **damage})
    assert watch.to_dict() == before


def photograph(seed, index):
    """A good part as the data set has it: a JPEG has less noise, and scores lower."""
    _, packed = cv2.imencode(".jpg", render(part_seed(seed, index))[0], (cv2.IMWRITE_JPEG_QUALITY, 95))
    return cv2.imdecode(packed, cv2.IMREAD_COLOR)


@pytest.fixture(scope="module")
def line(trained_model):
    """The detector, its golden images and a hundred good parts with their verdicts."""
    with Detector.load(trained_model) as detector:
        golden = [load_image(detector.artifact.path / golden.image) for golden in detector.graph.golden]
        assert len(detector.manifest.views) == 60
        images = [photograph(40, i) for i in range(100)]
        yield detector, golden, [(detector.predict(image), image) for image in images]


def after_change(line, images):
    detector, golden, parts = line
    watch = DriftWatch(detector.graph.calibration, golden, views=detector.manifest.views)
    for number in range(2):
        for found, image in parts[number::2]:
            assert watch.add(found, image).state == "ok"
    for number, image in enumerate(images, 1):
        state = watch.add(detector.predict(image), image)
        if state.state == "warning":
            return number, state
    return None, state


def test_light_that_fades_is_the_camera(line):
    ramp = (cv2.convertScaleAbs(photograph(40, 200 + i), alpha=1 - 0.002 * i) for i in range(80))
    found, state = after_change(line, ramp)
    assert found is not None
    assert state.cause == "camera"
    assert state.reason.startswith("the camera's images look different (") and "darker" in state.reason


def test_another_casting_is_the_product(line):
    tile = camera._casting_tile() * np.float32(1.8)
    with mock.patch.object(camera, "_casting_tile", lambda: tile):
        images = [photograph(40, 300 + i) for i in range(60)]
    found, state = after_change(line, images)
    assert found is not None
    assert state.cause == "product"
    assert state.reason.startswith("parts look different, while light, focus and position are as before (")


def test_a_warning_says_in_plain_words_what_has_changed():
    changed = {"flagged parts": "higher", "scores": "more spread", "map level": "lower"}
    assert drift_reason(changed, camera=False) == (
        "parts look different, while light, focus and position are as before (more parts than usual are rejected or "
        "sent to review, the score of parts that pass varies more, heat maps are cooler all over)"
    )
    moved = {"brightness": "less spread", "place across": "higher", "place down": "lower"}
    assert drift_reason(moved, camera=True) == (
        "the camera's images look different (brightness varies less, moved to the right, moved up)"
    )
    assert drift_reason({"scores": "higher"}, camera=None).startswith("parts look different, or the camera's images do")
    kept_by_another_release = {"hue": "warmer"}
    assert drift_reason(kept_by_another_release, camera=True).endswith("(hue warmer)")


@pytest.mark.parametrize("turned", [False, True], ids=["down", "across"])
def test_the_place_of_a_part_is_the_centroid_of_its_first_derivative(turned):
    rows = np.arange(160.0) ** 2 / 160  # grey levels whose slope grows evenly: their own slope is the same everywhere
    grey = np.tile(rows[:, None], (1, 160)).astype(np.uint8)
    image = cv2.cvtColor(grey.T.copy() if turned else grey, cv2.COLOR_GRAY2BGR)
    view = ViewMeter([image]).measure(image)
    along, other = (view.x_px, view.y_px) if turned else (view.y_px, view.x_px)
    assert along == pytest.approx(2 / 3 * 160, rel=0.02) and other == pytest.approx(79.5, abs=0.5)
    assert view.sharpness == pytest.approx(1) and view.brightness == pytest.approx(1)
