"""Known defects: their score, its join with that of unknown ones, and marked defects that a lesson teaches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes import content
from test_cli import edgead, report

from edgead import Detector
from edgead.adapt.kept_images import measure_kept
from edgead.adapt.teach import TeachPlan, prepare, sheet_of, teach, undo
from edgead.adapt.teach.defects import SHARE, Defects, fit_join, known_defects, scores_by_others, with_known
from edgead.artifact.folder import Artifact
from edgead.artifact.inputs import Ignored, Preprocessing
from edgead.artifact.kinds import LEAST_BAD
from edgead.calibration.conformal import CalibrationError, conformal_threshold
from edgead.dataset.images import Images
from edgead.heads import read_head
from edgead.heads.known_defects import DEFECT_KINDS, NO_KIND, RIDGE, KnownDefects, KnownScorer, fit_directions
from edgead.heads.nearest import BANK, ROW_FOLDS, STAND_INS, NearestHead
from edgead.images.files import load_image, write_image
from edgead.metrics import auroc
from edgead.synthetic.line import part_seed, render

WIDTH, GRID = 12, (10, 9)


def features(rng: np.random.Generator, defect: np.ndarray | None = None, strength: float = 1.0) -> np.ndarray:
    """Patches of a part; a defect moves a quarter of them."""
    found = rng.normal(size=(1, *GRID, WIDTH)).astype(np.float32)
    if defect is not None:
        found[0, 2:7, 3:8] += strength * defect.astype(np.float32)
    return found


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def arrays_of(rng: np.random.Generator, defects: np.ndarray, kinds: np.ndarray) -> dict[str, np.ndarray]:
    bank = rng.normal(size=(200, WIDTH)).astype(np.float32)
    of_fold = (np.arange(200) % 4)[:, None].astype(np.float32)
    return {
        BANK: bank,
        ROW_FOLDS: of_fold,
        STAND_INS: rng.normal(size=bank.shape).astype(np.float32),
        "known_defects": defects.astype(np.float32),
        "known_defect_kinds": kinds.reshape(-1, 1).astype(np.float32),
    }


def test_directions_are_scaled_by_good_rows(rng):
    bank = rng.normal(size=(400, WIDTH)) @ np.diag(np.linspace(0.2, 3, WIDTH)) + 5
    defects = bank.mean(axis=0) + np.eye(WIDTH)[[0, 0, -1]]
    directions, offsets = fit_directions(bank, defects, np.array([7, 7, 2]))
    scores = bank @ directions + offsets
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.sort(scores, axis=0)[-4:].mean(axis=0), 1, rtol=1e-9)
    # One a kind, in the order of their numbers; as much of a direction stands out more where good parts are quiet.
    of_defects = defects @ directions + offsets
    assert of_defects.shape == (3, 2) and of_defects[0, 1] > 1 > of_defects[2, 0] > 0.1


def test_a_direction_is_where_the_gradient_of_the_ridge_regression_vanishes(rng):
    bank = rng.normal(size=(300, WIDTH)) @ np.diag(np.linspace(0.2, 3, WIDTH)) * 7 - 4
    defects = bank.mean(axis=0) + np.eye(WIDTH)[:5] * 30
    (direction,), unit = fit_directions(bank, defects, np.zeros(5))[0].T, np.sqrt(bank.var(axis=0).mean())
    rows = np.concatenate([bank, defects]) / unit
    weight, marked = np.repeat([1 / 300, 1 / 5], [300, 5]), np.repeat([0.0, 1.0], [300, 5])

    def gradient(length: float) -> np.ndarray:
        """Of the loss along and beside the direction, at the offset where its own slope vanishes."""
        at = direction / np.linalg.norm(direction) * length

        def wrong(offset: float) -> np.ndarray:
            return weight * (1 / (1 + np.exp(-np.clip(rows @ at + offset, -700, 700))) - marked)

        return wrong(root(lambda offset: wrong(offset).sum(), -1e3, 1e3)) @ rows + RIDGE * at

    # Only the direction's length is not kept: where the slope along it vanishes, that beside it does too.
    length = root(lambda length: gradient(length) @ direction, 1e-3, 1e3)
    assert np.abs(gradient(length)).max() < 2e-3 * np.abs(gradient(1e-3)).max()


def root(rising: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return low


def test_a_known_look_lifts_the_score_above_its_start_alone():
    options = KnownDefects(start=(2.0, 10.0), slope=(0.5, 3.0))

    def joined(*known: float) -> float:
        return options.joined(0.3, np.array(known))

    assert joined(2.0, 10.0) == joined(-9.0, 1.0) == 0.3
    assert joined(3.0, 0.0) == 0.8 and joined(0.0, 11.0) == joined(3.0, 11.0) == 3.3
    lifted = options.on_map(np.zeros((1, 3), np.float32), np.array([[[1.0, 2.5, 4.0]], [[0.0, 0.0, 11.0]]]))
    assert lifted.dtype == np.float32 and lifted.tolist() == [[0.0, 0.25, 3.0]]


def test_scorer_reference_and_left_out_agree(rng):
    defect = np.eye(WIDTH)[0] * 4
    arrays = arrays_of(rng, np.array([defect, defect * 1.1, defect * 0.9]), np.zeros(3))
    options = KnownDefects(start=(1.0,), slope=(2.0,))
    head = NearestHead(window=3, top_patches=4, margin=1, folds=4, sigma_px=2.0, known=options)
    image = features(rng, defect)
    head.check({"features": image}, arrays)
    scorer = head.open({"features": image}, arrays, (40, 36))
    scored = scorer.score({"features": image})
    score, anomaly_map = head.reference({"features": image[0].astype(np.float64)}, arrays, (40, 36))
    assert scored.image_score == pytest.approx(score, rel=1e-5)
    np.testing.assert_allclose(scorer.anomaly_map(scored.patch_scores)[0], anomaly_map, atol=1e-4)
    # The map shows where the known defect is.
    unknowing = head.model_copy(update={"known": None}).open({"features": image}, arrays, (40, 36))
    without = unknowing.score({"features": image})
    assert scored.image_score > without.image_score + 1
    rise = scored.patch_scores - without.patch_scores
    assert rise[3:6, 4:7].min() > 0 and rise[0].max() == rise[-1].max() == 0
    # Without a fold neither its rows nor their spread are left.
    bank = np.where(arrays[ROW_FOLDS] == 2, arrays[STAND_INS], arrays[BANK])
    alone = KnownScorer(head, GRID, bank, arrays["known_defects"], arrays["known_defect_kinds"])
    known = alone.image_scores(alone.patch_scores(image[0]))
    left_out = head.open_left_out({"features": image}, arrays, (40, 36), 2).score({"features": image})
    features_alone = head.model_copy(update={"known": None}).open_left_out({"features": image}, arrays, (40, 36), 2)
    unlifted = features_alone.score({"features": image}).image_score
    assert known > options.start[0]
    assert left_out.image_score == pytest.approx(options.joined(unlifted, known), rel=1e-6)


def test_a_manifest_with_other_options_or_arrays_is_refused(rng):
    with pytest.raises(ValueError, match="slope"):
        read_head({"kind": "nearest", "known": {"start": [1.0], "slope": [-1.0]}})
    with pytest.raises(ValueError, match="at_most"):
        read_head({"kind": "nearest", "known": {"start": [1.0], "slope": [1.0], "at_most": 3}})
    head = NearestHead(known=KnownDefects(start=(1.0,), slope=(1.0,)))
    assert head.arrays == (BANK, "known_defects", "known_defect_kinds") and not head.takes_gpu_arrays
    for defects, kinds in (
        (np.zeros((3, WIDTH + 1)), np.zeros(3)),
        (np.zeros((3, WIDTH)), np.zeros(2)),
        (np.zeros((3, WIDTH)), np.array([0, 1, 1])),
    ):
        with pytest.raises(ValueError, match="known defects .* do not fit|of 2 kinds, the manifest has 1"):
            head.check({"features": features(rng)}, arrays_of(rng, defects, kinds))


def simulated(rng: np.random.Generator, good: int, heavy: bool) -> tuple[float, float, float]:
    """False rejects of a calibration with so many good parts, before and with known defects; fall of unknown AUROC."""

    def known_of(count: int) -> np.ndarray:
        return rng.standard_t(2, size=count) if heavy else rng.normal(size=count)

    unknown, known = rng.gamma(9.0, size=good), known_of(good)
    fresh_unknown, fresh_known = rng.gamma(9.0, size=4000), known_of(4000)
    other_unknown, other_known = rng.gamma(9.0, size=2000) + 6, known_of(2000)
    options = fit_join(unknown, known[:, None], 0.05)

    def join(some: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.array([options.joined(one, np.array([other])) for one, other in zip(some, others, strict=True)])

    joined, fresh = join(unknown, known), join(fresh_unknown, fresh_known)
    threshold, plain = conformal_threshold(joined, 0.05), conformal_threshold(unknown, 0.05)
    # Its limit moves no further than that of its share of the rate.
    highest = conformal_threshold(unknown, 0.05 * (1 - SHARE)) if good >= 49 else np.inf
    assert plain <= threshold <= highest
    labels = np.repeat([False, True], [4000, 2000])
    before = auroc(labels, np.concatenate([fresh_unknown, other_unknown]))
    after = auroc(labels, np.concatenate([fresh, join(other_unknown, other_known)]))
    return float((fresh_unknown > plain).mean()), float((fresh > threshold).mean()), before - after


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("good", [20, 40, 60, 225])
def test_the_rate_is_kept_and_what_was_never_marked_is_found_as_before(good, heavy):
    rng = np.random.default_rng(good)
    runs = np.array([simulated(rng, good, heavy) for _ in range(100)])
    before, after, fall = runs.mean(axis=0)
    spread = runs[:, 1].std() / np.sqrt(len(runs))
    assert before - 0.01 <= after <= 0.05 + 3 * spread
    # What known defects cost the rate, measured on the same parts.
    assert after - before < 0.007
    # A known score that says nothing lifts a few good parts over the others: fewer than its share of the rate, or than
    # one of the parts that calibrated stands for. Heavy tails lift the same few, but above all others.
    assert fall < (0.05 if heavy else max(0.05 * SHARE, 1 / (good + 1)))


@pytest.mark.parametrize("draw", ["standard_normal", "standard_t", "lognormal"])
@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_few_images_and_several_kinds_keep_the_rate(draw, rate):
    """Of exchangeable scores, as those of good parts are."""
    options = {"standard_normal": {}, "standard_t": {"df": 3}, "lognormal": {"sigma": 0.7}}[draw]
    good, moved, chance = 20, [], np.floor(rate * 21 + 1e-9) / 21
    for number in range(400):
        rng = np.random.default_rng([5, number])
        unknown, known = rng.lognormal(sigma=0.3, size=1020), getattr(rng, draw)(size=(1020, 5), **options)
        joined = unknown + fit_join(unknown[:good], known[:good], rate).lift(known.T)
        shares = [np.mean(some[good:] > conformal_threshold(some[:good], rate)) for some in (joined, unknown)]
        moved.append(shares[0] - shares[1])
    # What known defects add to the share that the limit has without them, which is known: 1 or 2 parts of 21.
    assert chance + np.mean(moved) <= rate + np.std(moved) / np.sqrt(len(moved))


def test_known_defects_need_what_the_limit_needs():
    with pytest.raises(CalibrationError, match="needs 19 held-out good images, found 18"):
        fit_join(np.arange(18.0), np.arange(18.0)[:, None], 0.05)
    # By scores that are all alike nothing is lifted.
    for known in (np.ones(60), np.repeat([1.0, 2.0], [50, 10])):
        assert fit_join(np.arange(60.0), known[:, None], 0.05).joined(1.0, np.array([9.0])) == 1.0
    assert np.isfinite(fit_join(np.arange(60.0), np.arange(60.0)[:, None] * 1e-38, 0.05).slope).all()


def test_rows_that_are_all_alike_give_a_finite_direction():
    directions, offsets = fit_directions(np.ones((5, 3)), np.full((3, 3), 2.0), np.zeros(3))
    assert np.isfinite(directions).all() and np.isfinite(offsets).all()


def test_each_kind_lifts_by_its_own_scale(rng):
    unknown, quiet = rng.gamma(9.0, size=400), rng.normal(size=400)
    alone = fit_join(unknown, quiet[:, None], 0.05)
    both = fit_join(unknown, np.stack([quiet, 100 * rng.normal(size=400) + 50], axis=1), 0.05)
    assert both.start[0] == alone.start[0] and 200 < both.start[1] < 300
    assert both.slope[0] / both.slope[1] == pytest.approx(100, rel=0.3)
    # What is like the quiet kind is lifted although the other kind's scores are hundreds.
    assert both.joined(10.0, np.array([6.0, 60.0])) > 11


def test_good_parts_that_look_like_the_defect_leave_no_lift(rng):
    alike = rng.gamma(9.0, size=400)
    assert fit_join(alike, alike[:, None] ** 4, 0.05).slope[0] < 1e-3


def test_too_few_of_a_kind_count_as_one():
    kinds = ("a", "a", "a", "b", "c", "b")
    defects = Defects(np.arange(12, dtype=np.float32).reshape(6, 2), tuple("uvwxyz"), kinds)
    assert defects.arrays["known_defect_kinds"][:, 0].tolist() == [1, 1, 1, 0, 0, 0]


DEFECT = "scratch"


def photograph(folder: Path, seed: int, count: int) -> list[Path]:
    for number in range(count):
        write_image(folder / f"{number}.png", render(part_seed(seed, number), DEFECT)[0])
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def marked(tmp_path_factory) -> list[Path]:
    """Parts with a defect that the small model seldom finds."""
    return photograph(tmp_path_factory.mktemp("marked") / DEFECT, 71, 6)


def test_marked_defects_change_the_detector(model_copy, marked, tmp_path):
    fresh = [load_image(path) for path in photograph(tmp_path / DEFECT, 72, 30)]
    first = content(model_copy)
    with Detector.load(model_copy) as detector:
        before = sum(detector.predict(image).decision == "reject" for image in fresh)
    lesson = teach(model_copy, TeachPlan([], bad=marked, sheet=sheet_of(model_copy)))
    assert (lesson.known_defects, lesson.rows_added) == (6, 0) and sheet_of(model_copy).is_file()
    assert lesson.bad_by_others is not None and lesson.bad_by_others.images == 6
    artifact = Artifact.load(model_copy)
    with Detector(artifact) as detector:
        after = sum(detector.predict(image).decision == "reject" for image in fresh)
        scores = [measure_kept(detector, one).image_score for one in artifact.manifest.kept]
        golden = [detector.measure(load_image(model_copy / one.image)).image_score for one in detector.graph.golden]
    assert after > before + 5, (before, after)
    assert scores == pytest.approx(artifact.graph("fp32").calibration.scores, rel=1e-6)
    assert golden == pytest.approx([one.image_score for one in artifact.graph("fp32").golden], rel=1e-6)
    assert artifact.manifest.training["taught"][0]["known_defects"] == 6
    # The same parts again add nothing, and the model before comes back whole.
    assert prepare(model_copy, TeachPlan([], bad=marked)).defects.facts() == artifact.manifest.training["known_defects"]
    undo(model_copy)
    assert content(model_copy) == first


def test_what_others_teach_is_joined_tile_by_tile(model_copy, marked, tmp_path, monkeypatch):
    teach(model_copy, TeachPlan([], bad=marked))
    artifact = Artifact.load(model_copy)
    defects, options = known_defects(artifact), artifact.manifest.head.known
    write_image(tmp_path / "odd.png", np.full_like(load_image(marked[0]), 200))
    alone = scores_by_others(artifact, defects, [tmp_path / "odd.png", marked[0]])
    unlifted = Artifact(
        model_copy, with_known(artifact.manifest, defects, options.model_copy(update={"slope": (0.0,)}))
    )
    assert scores_by_others(unlifted, defects, [marked[0]])[0] < alone[1] < alone[0]

    class Tiles(list):
        """Both images as tiles of one frame."""

        def __init__(self, paths, spec):
            super().__init__(Images([tmp_path / "odd.png", marked[0]], spec))
            self.origins = [0, 0]

    monkeypatch.setattr("edgead.adapt.teach.defects.Images", Tiles)
    # The tile that looks like a known defect lifts itself, and not the one that looks like nothing known.
    assert scores_by_others(artifact, defects, [marked[0]]) == pytest.approx([max(alone)])


def test_a_command_teaches_defects_alone(model_copy, marked):
    shown = edgead("teach", model_copy, "--bad", marked[0].parent, "--dry-run").stdout
    assert shown.startswith(f"{model_copy}: 0 images to learn, 0 held out, 6 bad ones to test it, 6 marked defects")
    assert "limit" not in shown
    few = edgead("teach", model_copy, "--bad", marked[0], "--bad", marked[1], "--yes", code=2).stderr
    assert f"2 marked defects teach nothing about others: mark at least {LEAST_BAD}" in few
    lesson = report("teach", model_copy, "--bad", marked[0].parent, "--yes")
    assert (
        lesson["known_defects"] == 6 and lesson["after"]["fp32"]["bad"]["reject"] >= lesson["bad_by_others"]["reject"]
    )


@pytest.mark.slow
def test_a_model_that_knows_defects_is_taught_good_parts(model_copy, marked, tmp_path):
    teach(model_copy, TeachPlan([], bad=marked))
    known = Artifact.load(model_copy)
    for number in range(6):
        write_image(tmp_path / "good" / f"{number}.png", render(part_seed(81, number))[0])
    lesson = teach(model_copy, TeachPlan(sorted((tmp_path / "good").iterdir()), reason="measured"))
    assert lesson.known_defects == 6
    again = Artifact.load(model_copy)
    np.testing.assert_array_equal(again.array("known_defects"), known.array("known_defects"))
    assert again.manifest.head.known is not None  # type: ignore[attr-defined]


@pytest.mark.slow
def test_every_graph_knows_them(model_copy, marked, line_data):
    from edgead.export.calibration_images import find_calibration_images
    from edgead.export.precision import PrecisionPlan, add_precision

    add_precision(model_copy, PrecisionPlan("fp16"), find_calibration_images(Artifact.load(model_copy), line_data))
    lesson = teach(model_copy, TeachPlan([], bad=marked))
    for name in ("fp32", "fp16"):
        assert lesson.after[name].bad.reject > lesson.before[name].bad.reject
        with Detector.load(model_copy, precision=name) as detector:
            good = detector.graph.calibration
            assert good is not None and good.false_reject_rate == 0.05
            for golden in detector.graph.golden:
                found = detector.measure(load_image(model_copy / golden.image)).image_score
                assert found == pytest.approx(golden.image_score, rel=1e-6)


@pytest.mark.slow
def test_masks_say_which_patches_are_learnt(model_copy, tmp_path):
    folder = tmp_path / "test" / DEFECT
    paths = photograph(folder, 71, 3)
    height, width = load_image(paths[0]).shape[:2]
    for path in paths:
        mask = np.zeros((height, width, 3), np.uint8)
        mask[: height // 4, : width // 4] = 255
        write_image(tmp_path / "ground_truth" / DEFECT / f"{path.stem}_mask.png", mask)
    masked = prepare(model_copy, TeachPlan([], bad=paths)).defects.patches
    shown = photograph(tmp_path / "plain" / "shown" / DEFECT, 71, 3)
    assert not np.allclose(masked, prepare(model_copy, TeachPlan([], bad=shown)).defects.patches)
    # The corner of all three shows the same conveyor.
    assert np.linalg.norm(masked[0] - masked[1]) < np.linalg.norm(masked[0])


def test_a_stray_defect_beside_a_kind_gets_no_direction(rng):
    patches = rng.normal(size=(4, WIDTH)).astype(np.float32)
    digests = tuple("abcd")
    of_kind = Defects(patches, digests, ("scratch", "scratch", "hole", "scratch")).arrays[DEFECT_KINDS].ravel()
    assert of_kind.tolist() == [0, 0, NO_KIND, 0]
    bank = rng.normal(size=(200, WIDTH)).astype(np.float32)
    directions, offsets = fit_directions(bank, patches, of_kind)
    assert directions.shape == (WIDTH, 1) and offsets.shape == (1,)
    alone = fit_directions(bank, patches[of_kind == 0], np.zeros(3))
    np.testing.assert_allclose(directions, alone[0])
    assert Defects(patches[:3], digests[:3], ("a", "b", "c")).arrays[DEFECT_KINDS].ravel().tolist() == [0, 0, 0]


def test_a_mask_is_not_painted_over_where_places_are_ignored(tmp_path):
    ignored = Ignored(frame_size=(64, 64), polygons=(((0, 0), (63, 0), (63, 20), (0, 20)),))
    write_image(tmp_path / "part.png", np.zeros((64, 64, 3), np.uint8))
    images = Images([tmp_path / "part.png"], Preprocessing(image_size=(32, 32), ignored=ignored))
    assert images[0].max() > 0  # a part is painted there
    assert images.like(0, np.zeros((64, 64, 3), np.uint8)).max() == 0
