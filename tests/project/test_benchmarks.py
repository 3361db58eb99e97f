"""The logic of the benchmarks: order, medians, targets, truth. Times are never asserted."""

from __future__ import annotations

import importlib
import itertools
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from benchmarks import guarantee as guarantee_module
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.guarantee import Refused, Scores, measure_guarantee
from benchmarks.guarantee_band import mean_band
from benchmarks.guarantee_by_image import TooFew, measure_by_image, parts_by_image, shipped_thresholds
from benchmarks.interleave import Timing, interleave
from benchmarks.large_images import draw_panel, read_settings
from benchmarks.mutate import EQUIVALENT, ROOT, Mutant, native_mutants, python_mutants
from benchmarks.panel_sets import PanelSet
from benchmarks.results import FP32, OURS, Row, Target, markdown_table
from benchmarks.situations import Product, Rates, learnt_only
from benchmarks.situations import Row as Situation
from benchmarks.truth import DisagreementError, NearestTruth
from edgead.calibration.conformal import calibrate


def timing(milliseconds):
    return Timing.of([milliseconds])


def row(ours, **others):
    timings = {OURS: timing(ours), **{name.replace("_", " "): timing(value) for name, value in others.items()}}
    return Row("nearest", "a search", timings, (Target("faiss", 4, 6),))


def test_median_and_percentiles_are_samples():
    summary = Timing.of([9.0, 1.0, 2.0, 1000.0, 3.0])
    assert (summary.p10_ms, summary.median_ms, summary.p90_ms, summary.rounds) == (1.0, 3.0, 1000.0, 5)


@pytest.mark.slow
def test_every_contender_goes_first_in_some_round():
    calls = []
    contenders = {name: lambda name=name: (calls.append(name), slowly()) for name in "abc"}
    timings = interleave(contenders, rounds=3)
    assert list(timings) == ["a", "b", "c"]
    assert {value.rounds for value in timings.values()} == {3}
    in_turn = [name for name, _ in itertools.groupby(calls)]
    # The warm-up in order, then rounds that start one further each time; two equal neighbours are one group.
    assert "".join(in_turn).endswith("abcbcacab")


def slowly():
    """Long enough to be one call a sample."""
    return np.linalg.svd(np.ones((300, 300)))


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [(1.0, "aim met"), (2.0, "met"), (3.0, "not met")],
)
def test_verdict_of_a_ratio(ours, verdict):
    measured = row(ours, faiss=10.0)
    assert measured.verdict(measured.targets[0]) == verdict


@pytest.mark.parametrize(("seconds", "verdict"), [(9, "aim met"), (20, "met"), (31, "not met")])
def test_verdict_of_seconds(seconds, verdict):
    measured = Row("coreset", "a choice", {OURS: timing(seconds * 1e3)}, (Target(None, 30, 10),))
    assert measured.verdict(measured.targets[0]) == verdict


def test_a_contender_that_is_missing_meets_nothing():
    measured = row(1.0, torch=50.0)
    assert measured.verdict(measured.targets[0]) == "not measured"


def test_table_shows_what_is_not_met_and_the_best_opponent():
    measured = row(4.0, faiss=8.0, torch=6.0, **{FP32.replace(" ", "_"): 5.0})
    table = markdown_table([measured])
    assert "not met (2)" in table
    assert "6.000 (torch)" in table, "our own fp32 kernel is no opponent"


def test_truth_finds_the_first_of_equal_rows_and_sees_errors():
    rng = np.random.default_rng(0)
    bank = np.tile(rng.standard_normal((30, 8), dtype=np.float32), (2, 1))
    queries = rng.standard_normal((5, 8), dtype=np.float32)
    for k in (1, 4):
        truth = NearestTruth(queries, bank, k)
        squared = ((queries[:, None].astype(np.float64) - bank) ** 2).sum(axis=2)
        np.testing.assert_array_equal(truth.index, np.argsort(squared, axis=1, kind="stable")[:, :k])
        truth.check_exact("right", truth.distance.astype(np.float32), truth.index)
        truth.check_rounded("right", truth.index)
        assert truth.recall(truth.index) == truth.worst_ratio(truth.index) == 1
        wrong = truth.index.copy()
        wrong[2, 0] = np.argmax(squared[2])
        with pytest.raises(DisagreementError, match="1 of"):
            truth.check_exact("wrong", truth.distance, wrong)
        with pytest.raises(DisagreementError, match="wrong"):
            truth.check_rounded("wrong", wrong)
        with pytest.raises(DisagreementError, match="distances"):
            truth.check_exact("wrong", truth.distance * 1.001, truth.index)


def test_replay_finds_a_pick_that_is_not_the_farthest():
    pytest.importorskip("torch")
    from benchmarks.coreset_rows import replay
    from edgead.kernels import greedy_coreset

    patches = np.random.default_rng(0).standard_normal((500, 6), dtype=np.float32)
    picks = greedy_coreset(patches, 150)
    notes = replay("coreset", patches, picks)
    assert notes["farthest"] + notes["farthest_within_rounding"] == 150
    picks[120] = np.setdiff1d(np.arange(500), picks)[0]
    with pytest.raises(SystemExit, match="pick 120"):
        replay("coreset", patches, picks)


def test_a_node_of_an_engine_is_known_by_its_layer(tmp_path):
    pytest.importorskip("onnx")
    from small_graph import small_graph, small_images

    from benchmarks.layers import Attribution, OrtLayers, _times, table

    small = small_graph(tmp_path / "model.onnx")
    attribute = Attribution(small)
    assert (
        attribute("relu6_nchwc", "Conv") == attribute("conv_a_token_12", "QLinearConv") == ("other convolutions", "a")
    )
    assert attribute("conv_b/WithoutBiases", "Convolution") == ("1 x 1", "b")
    assert attribute("conv_b_original", "Reorder") == ("layout", "Reorder")
    assert attribute("tail", "Mul") == ("rest", "Mul")
    engine = OrtLayers(small.SerializeToString(), profiled=True)
    for image in small_images(5):
        engine.run(image[None])
    times = _times(engine.nodes(), attribute)
    assert {("other convolutions", "a"), ("1 x 1", "b")} < times.keys()
    lines = table({("ONNX Runtime", "fp32"): times}, {("ONNX Runtime", "fp32"): 1.5}, each=True)
    assert lines[0] == "| ms | ONNX Runtime fp32 |" and lines[-1] == "| network, CPU time | 1.500 |"
    assert any(line.startswith("|   a |") for line in lines)


def test_unknown_benchmark_is_refused():
    with pytest.raises(SystemExit, match="usage"):
        main(["nothing"])


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_explain_themselves(name, capsys):
    try:
        benchmark = importlib.import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        libraries = ("torch", "onnx", "faiss", "matplotlib", "scipy", "sklearn", "threadpoolctl")
        if error.name not in libraries and not str(error.name).startswith("edgead_"):  # of plug-ins
            raise
        pytest.skip(f"could not import {error.name!r}: No module named {error.name!r}")
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(["--help"])
    assert stopped.value.code == 0
    assert f"benchmarks {name}" in capsys.readouterr().out


def test_the_band_of_the_guarantee_is_that_of_all_splits():
    """Three parts calibrate, two are tested: all 10 splits of five ranks, twice, enumerated."""
    n, m, k = 3, 2, 2
    counts = []
    for chosen in itertools.combinations(range(5), n):
        threshold = sorted(chosen)[k - 1]
        counts.append(sum(rank > threshold for rank in set(range(5)) - set(chosen)))
    sums = sorted(a + b for a in counts for b in counts)
    # Of 100 equally likely sums, the ones that 0.05 % on each side leave are all from the smallest to the largest.
    assert mean_band(n, m, n + 1 - k, splits=2) == (sums[0] / 4, sums[-1] / 4)
    # 200 splits: the normal distribution with the mean and the variance of the enumerated counts.
    spread = 3.29 * np.std(counts) / np.sqrt(200)
    expected = (np.mean(counts) - spread) / m, (np.mean(counts) + spread) / m
    assert mean_band(n, m, n + 1 - k, splits=200) == pytest.approx(expected, abs=0.004)


@pytest.mark.parametrize("rate", [0.1, 0.05, 0.01])
def test_a_guarantee_is_kept_and_a_broken_one_is_seen(rate):
    scores = Scores.single(np.random.default_rng(2).lognormal(size=400))
    guarantee = measure_guarantee(scores, rate, splits=200)
    assert guarantee.kept
    assert rate - 1 / 201 <= guarantee.expected <= rate
    assert not replace(guarantee, mean=guarantee.high * 1.01).kept
    assert not replace(guarantee, shipped_mean=guarantee.allowed * 1.01).kept


def grouped(groups, seed=4):
    """Scores of groups of one to six images that differ more between groups than within."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, size=groups)
    numbers = np.repeat(np.arange(groups), sizes)
    return Scores(rng.lognormal(size=groups)[numbers] * rng.lognormal(sigma=0.1, size=numbers.size), numbers)


def test_a_guarantee_is_kept_by_group():
    scores = grouped(120)
    guarantee = measure_guarantee(scores, 0.05, splits=50)
    assert guarantee.kept and (guarantee.calibrated, guarantee.tested) == (60, 60)
    assert measure_guarantee(scores, 0.01, splits=50) == Refused(0.01, 99, 60)
    assert "needs 99 in each half, found 60" in Refused(0.01, 99, 60).row()


def test_groups_of_one_are_measured_as_images():
    values = np.random.default_rng(3).lognormal(size=100)
    one = measure_guarantee(Scores(values, np.arange(100)[::-1].copy()), 0.1, splits=20)
    assert one.allowed == one.high


def line_batches(count, parts, spread):
    """Scores of batches of which each has a level of its own; `spread` is how much levels differ, parts differ by 1."""
    rng = np.random.default_rng(5)
    return list(20 + spread * rng.normal(size=(count, 1)) + rng.normal(size=(count, parts)))


def test_calibration_by_image_is_kept_only_where_batches_are_alike():
    alike = measure_by_image(line_batches(200, 50, 0), 0.05, 19, splits=100)
    assert (alike.parts, alike.batches) == (19, 1), "half of the parts of one batch"
    assert alike.same == pytest.approx(0.05, abs=0.01) and alike.unseen == pytest.approx(0.05, abs=0.01)
    differ = measure_by_image(line_batches(200, 50, 3), 0.05, 19, splits=100)
    assert differ.same == pytest.approx(0.05, abs=0.01), "the split by image sees nothing"
    assert differ.unseen > 0.3 and differ.worst > differ.unseen
    assert [parts_by_image(images, 0.01) for images in (1000, 400, 40)] == [200, 99, 99]
    assert measure_by_image(line_batches(4, 50, 3), 0.01, 99, splits=2) == TooFew(0.01, 4, 2)
    assert "needs 4 batches in each half, found 2" in TooFew(0.01, 4, 2).row()


def shipped(scores, groups=None):
    calm = np.zeros(len(scores))
    return calibrate(scores, calm, calm, false_reject_rate=0.05, groups=groups)


def test_the_threshold_of_a_model_is_held_against_the_band_of_its_calibration():
    batches = line_batches(200, 50, 3)
    one = shipped(batches[0][:40])  # one batch, taken for 40 images
    rejected = np.mean([batch > one.reject for batch in batches])
    text = shipped_thresholds(batches, one)
    assert f"asked 5 %, rejected {100 * rejected:.3f} %" in text and "40 images" in text
    assert rejected > 0.3 and "above the band: BROKEN" in text
    whole = shipped(np.concatenate(batches[:40]), np.repeat(np.arange(40), 50).tolist())
    text = shipped_thresholds(batches[40:], whole)
    assert "calibrated on 40 groups" in text and "not above the band" in text
    by_hand = whole.model_copy(update={"method": "by_hand"})
    assert shipped_thresholds(batches, by_hand).endswith("by_hand guarantees nothing")


def test_batches_of_the_line_are_calibrated_both_ways(monkeypatch, capsys, tmp_path):
    batches = line_batches(60, 50, 3)
    asked = []

    def scores(model, count, parts, *, cache):
        asked.append((model, count, parts, cache))
        return np.concatenate(batches), np.repeat(np.arange(60), 50)

    artifact = SimpleNamespace(
        graph=lambda: SimpleNamespace(calibration=shipped(batches[0][:40])),
        manifest=SimpleNamespace(training={"training_images": 160, "calibration_images": 40}),
    )
    monkeypatch.setattr(guarantee_module, "batch_scores", scores)
    monkeypatch.setattr(guarantee_module, "Artifact", SimpleNamespace(load=lambda path: artifact))
    arguments = [str(tmp_path), "synthetic:", "--batches", "60", "--parts-per-batch", "50", "--rate", "0.05"]
    with pytest.raises(SystemExit) as stopped:
        guarantee_module.main([*arguments, "--rate", "0.01", "--scores", str(tmp_path / "kept")])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0 and asked == [(tmp_path, 60, 50, tmp_path / "kept")]
    assert "| 5 % | 30 / 30 |" in shown and "refused: needs 99 in each half, found 30" in shown
    assert "| 5 % | 40 / 2 |" in shown and "| 1 % | 99 / 4 |" in shown, "by image"
    assert "The model's own threshold" in shown
    for wrong in (["data" if argument == "synthetic:" else argument for argument in arguments], [*arguments[:3], "1"]):
        with pytest.raises(SystemExit) as stopped:
            guarantee_module.main(wrong)
        assert stopped.value.code == 2


@pytest.mark.parametrize("dot_px", [10, 40])
def test_a_panel_differs_from_a_good_one_by_its_dot(dot_px):
    good, flawed = (draw_panel((400, 500), np.random.default_rng(3), dot) for dot in (0, dot_px))
    different = np.argwhere(np.abs(good.astype(int) - flawed) > 3)
    height, width = different.max(axis=0) - different.min(axis=0) + 1
    assert dot_px - 2 <= min(height, width) <= max(height, width) <= dot_px + 6
    assert flawed[tuple(different.mean(axis=0).astype(int))] < 60


def test_settings_of_large_images_are_read():
    assert list(read_settings("whole;tiles:tiles=auto,preset=fast")) == [
        ("whole", {}),
        ("tiles", {"tiles": "auto", "preset": "fast"}),
    ]


SOURCE = '''"""A module of 1 + 1 lines."""
def clip(x: int = 1) -> int:
    if x < 3 and not x:
        log.info("small: %d", x + 1)
        raise ValueError(f"{x + 1}")
    return min(x, 7)
'''


def test_a_mutant_is_one_change_and_none_is_of_messages():
    found = {mutant.change: mutant for mutant in python_mutants("clip.py", SOURCE)}
    line = "if x < 3 and not x:"
    assert sorted(found) == sorted(
        [
            "def clip(x: int = 1) -> int:  [1 -> 2]",
            f"{line}  [x < 3 and (not x) -> (not (x < 3 and (not x)))]",
            f"{line}  [x < 3 and (not x) -> (x < 3 or not x)]",
            f"{line}  [x < 3 -> (x <= 3)]",
            f"{line}  [x < 3 -> (x >= 3)]",
            f"{line}  [3 -> 4]",
            f"{line}  [not x -> (x)]",
            "return min(x, 7)  [min(x, 7) -> None]",
            "return min(x, 7)  [min -> (max)]",
            "return min(x, 7)  [7 -> 8]",
        ]
    )
    for mutant in found.values():
        pairs = zip(SOURCE.splitlines(), mutant.source.splitlines(), strict=True)
        assert [number for number, (old, new) in enumerate(pairs, 1) if old != new] == [mutant.line]


def test_mutants_of_native_code_leave_comments_and_brackets():
    code = "#define N 1\nint at(int i) {  // i < 0\n  return std::min<int>(i, 7) + 10;\n}\n"
    assert [mutant.source.splitlines()[2] for mutant in native_mutants("at.cpp", code)] == [
        "  return std::min<int>(i, 7) - 10;",
        "  return std::max<int>(i, 7) + 10;",
    ]


def test_the_draw_of_mutants_stays_when_other_code_changes():
    mutants = [Mutant("a.py", 1, f"x  [{number} -> 0]", "") for number in range(100)]
    ranked = sorted(mutants, key=lambda mutant: mutant.rank(1))
    moved = sorted((replace(mutant, line=9, source="y") for mutant in mutants[:50]), key=lambda mutant: mutant.rank(1))
    assert [each.change for each in moved] == [each.change for each in ranked if each in mutants[:50]]
    assert ranked != sorted(mutants, key=lambda mutant: mutant.rank(2))


def test_every_equivalent_mutant_has_a_reason_and_is_still_one():
    """What is no mutant any more, as its line has changed, has to be looked at again."""
    for entry in yaml.safe_load(EQUIVALENT.read_text()):
        make = native_mutants if entry["file"].startswith("csrc") else python_mutants
        changes = {mutant.change for mutant in make(entry["file"], (ROOT / entry["file"]).read_text())}
        assert set(entry["changes"]) <= changes and len(entry["reason"]) > 20


def test_a_command_that_is_refused_or_lets_defects_pass_is_not_safe():
    usual = Rates(1, 40, 2, 20)
    refused = Situation("other_light", "brick", "", True, "calibrate model GOOD_IMAGES", usual, usual, None)
    assert not refused.safe and "1; 1 -> refused of 40 | 2 -> refused of 20" in str(refused)
    assert replace(refused, after=usual).safe
    assert not replace(refused, after=replace(usual, escapes=2)).safe, "2.5 points more"


def test_a_learnt_test_set_is_named_and_its_command_measures_it(trained_model, line_data, tmp_path):
    shutil.copytree(trained_model, tmp_path / "models" / "line")
    (tmp_path / "models" / "line.txt").write_text("it was trained before")
    row = learnt_only(Product.of(PanelSet("line", line_data), tmp_path), "learnt_test_set")
    assert row.named and row.safe and row.command == "eval model line --left-out"
    assert (row.before.good, row.after.good, row.after.defects) == (14, 40, row.before.defects)
