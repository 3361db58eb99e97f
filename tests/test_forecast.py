"""Forecasts from made defects: intervals that know of their rejects, the check against real ones, what is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run_here

from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import find_test_images
from edgead.detector import Detector
from edgead.metrics import Rate
from edgead.report.folder import forecast_folder
from edgead.report.forecast import Forecast, Judged, forecast_kind, forecast_page
from edgead.report.made_against_real import FEWEST, LEVEL, Pair, at_level, compare_with_real
from edgead.synthetic.made_set import Recipe, make_defects
from edgead.synthetic.rejects import by_masks, find_rejects

LIMIT = 1.0


def scores(count: int, *, weaker_by: float, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Ten made ones of each of `count` rejects, scores in which a reject and what is made of it go together."""
    rng = np.random.default_rng(seed)
    strength = rng.normal(0.15, 0.15, count)
    real = {str(i): float(np.exp(one + rng.normal(0, 0.05))) for i, one in enumerate(strength)}
    made = {str(i): np.exp(one - weaker_by + rng.normal(0, 0.05, 10)) for i, one in enumerate(strength)}
    return made, real


def paired(made: dict[str, np.ndarray], real: dict[str, float]) -> list[Pair]:
    return [Pair(name, score, made[name]) for name, score in real.items()]


def judged(made: dict[str, np.ndarray]) -> list[Judged]:
    return [Judged(source, source, float(s), bool(s <= LIMIT)) for source, own in made.items() for s in own]


def test_what_is_made_of_one_reject_goes_together():
    made = {str(i): np.full(30, 2.0 if i < 8 else 0.5) for i in range(10)}
    rate = forecast_kind(judged(made), [], LIMIT).escape_rate
    assert rate.count == 60 and rate.total == 300
    alone = forecast_kind([Judged(str(i), i, 2.0, i >= 8) for i in range(10)], [], LIMIT).escape_rate
    assert rate.low == pytest.approx(alone.low, abs=0.02) and rate.high == pytest.approx(alone.high, abs=0.05)


def test_three_hundred_made_of_ten_that_are_all_found_know_as_much_as_ten():
    rate = forecast_kind(judged({str(i): np.full(30, 2.0) for i in range(10)}), [], LIMIT).escape_rate
    assert rate.low == 0 and rate.high == pytest.approx(1 - 0.025 ** (1 / 10))


def test_defects_that_come_out_too_weak_are_flagged_and_the_rate_of_the_real_ones_is_shown():
    made, real = scores(10, weaker_by=0.25)
    like = compare_with_real(paired(made, real), LIMIT)
    assert like.verdict == "not like" and like.shift == pytest.approx(0.25, abs=0.06)
    assert like.made_escape_rate > like.shifted_escape_rate + 0.3
    assert like.real_escape_rate == np.mean([score <= LIMIT for score in real.values()])
    forecast = forecast_kind(judged(made), [Judged(name, name, s, s <= LIMIT) for name, s in real.items()], LIMIT)
    assert forecast.is_flagged and forecast.to_dict()["flagged"]


def test_the_forecast_is_at_the_level_of_the_rejects_and_varies_as_what_was_made_of_them():
    made, real = scores(10, weaker_by=0.25)
    judged_real = [Judged(name, name, s, s <= LIMIT) for name, s in real.items()]
    found = forecast_kind(judged(made), judged_real, LIMIT)
    unweakened = {name: own * np.exp(0.25) for name, own in made.items()}
    expected = np.mean([np.mean(own <= LIMIT) for own in unweakened.values()])
    assert found.made.rate > expected + 0.3 and found.escape_rate.rate == pytest.approx(expected, abs=0.1)
    # By hand: the geometric mean of what was made becomes the score of the reject.
    (ok,) = at_level([Pair("a", 2.0, np.array([0.5, 1.0, 2.0]))], 1.5)
    assert ok.tolist() == [True, False, False]  # 1, 2 and 4
    (ok,) = at_level([Pair("a", 0.0, np.array([-3.0, -1.0]))], 0.5)
    assert ok.tolist() == [True, False]  # -1 and 1


@pytest.mark.parametrize(("passed", "wanted"), [(0, 48), (5, 97), (10, 48)])
def test_a_forecast_says_of_how_many_rejects_it_would_be_near(passed, wanted):
    # By hand: 2 of 14 pass, 3.8416 x 12 x 100 / 196 = 47.04; 7 of 14, 3.8416 x 25 = 96.04.
    found = forecast_kind([Judged(str(i), i, 1.0, i < passed) for i in range(10)], [], LIMIT)
    assert found.groups_wanted == wanted and found.to_dict()["groups_wanted"] == wanted


def test_what_was_learnt_of_a_kind_is_brought_to_the_level_of_its_rejects():
    real = [Judged(str(i), i // 2, 2.0 if i < 4 else 0.5, i >= 4) for i in range(10)]
    made = [Judged("part", "part", score, score <= LIMIT) for score in (0.25, 0.5, 1.0, 2.0)]
    found = forecast_kind(made, real, LIMIT)
    # By hand, in powers of 2: the rejects are at -0.2 on average, what was made at -0.5; all of it moves up by 0.3.
    assert found.escape_rate.count == 2 and found.escape_rate.total == 4 and found.made.count == 3
    assert found.likeness is not None and found.likeness.shift == pytest.approx(0.3 * np.log(2))
    assert (found.sources, found.groups, found.escape_rate.groups) == (10, 5, 5)
    alone = Rate.of(2, 5)
    assert found.escape_rate.low < alone.low + 0.1 and found.escape_rate.high > alone.high - 0.1


def test_defects_that_are_like_the_real_ones_are_seldom_flagged():
    flagged = [compare_with_real(paired(*scores(10, weaker_by=0.0, seed=seed)), LIMIT).verdict for seed in range(100)]
    assert flagged.count("not like") <= 5


def test_a_shift_that_changes_no_decision_is_no_reason_to_flag():
    made, real = scores(10, weaker_by=0.2)
    far = {name: 100 * own for name, own in made.items()}
    like = compare_with_real(paired(far, {name: 100 * one for name, one in real.items()}), LIMIT)
    assert like.p_value < LEVEL and like.verdict == "like"


def test_too_few_rejects_say_nothing():
    for count in range(1, FEWEST):
        assert compare_with_real(paired(*scores(count, weaker_by=2.0)), LIMIT).verdict == "too few rejects"
    assert compare_with_real(paired(*scores(FEWEST, weaker_by=0.5)), LIMIT).verdict == "not like"


def test_rejects_of_one_part_count_as_one():
    made, real = scores(12, weaker_by=0.25)
    alone = compare_with_real(paired(made, real), LIMIT)
    grouped = [one._replace(group=int(one.group) // 4) for one in paired(made, real)]
    together = compare_with_real(grouped, LIMIT)
    assert (together.rejects, together.groups, alone.groups) == (12, 3, 12) and together.verdict == "too few rejects"
    assert together.shift == alone.shift and together.p_value > alone.p_value
    ones = [Judged(one.source, int(one.source) // 4, one.image_score, one.is_ok) for one in judged(made)]
    assert forecast_kind(ones, [], LIMIT).groups == 3
    wide, narrow = forecast_kind(ones, [], LIMIT).escape_rate, forecast_kind(judged(made), [], LIMIT).escape_rate
    assert wide.high - wide.low > narrow.high - narrow.low


def test_scores_may_be_negative_as_log_likelihoods_are():
    made, real = scores(10, weaker_by=0.25)
    pairs = [Pair(one.group, one.real - 5, one.made - 5) for one in paired(made, real)]
    like = compare_with_real(pairs, LIMIT - 5)
    assert like.verdict == "not like" and like.shift > 0


def test_further_real_ones_decide_where_there_are_some():
    made = judged({str(i): np.full(5, 2.0) for i in range(10)})
    others = [Judged(f"o{i}", i, 0.5, i < 12) for i in range(20)]
    found = forecast_kind(made, [], LIMIT, others)
    assert found.others.count == 12 and found.is_flagged and found.said.startswith("not like: 12 of 20")
    assert not forecast_kind(made, [], LIMIT, [Judged(str(i), i, 2.0, False) for i in range(20)]).is_flagged


@pytest.fixture(scope="module")
def made(line_data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("forecast") / "made"
    rejects = [one for one in find_rejects(line_data) if one[1] in ("stain", "crack")][::2]
    good = [image.path for image in find_test_images(line_data) if not image.is_defective]
    make_defects(good, by_masks(rejects, line_data / "ground_truth"), folder, Recipe(count=8))
    return folder


@pytest.fixture(scope="module")
def forecast(made, trained_model) -> Forecast:
    with Detector.load(trained_model) as detector:
        return forecast_folder(detector, made)


def test_a_folder_is_judged_kind_by_kind(forecast, made, trained_model):
    assert sorted(forecast.kinds) == ["crack", "stain"] and forecast.learnt_parts == 0 < forecast.parts
    assert all(one.escape_rate.total == 4 and one.likeness is not None for one in forecast.kinds.values())
    assert any("at least 5 say whether" in warning for warning in forecast.warnings())
    with Detector.load(trained_model) as detector, pytest.raises(DatasetError, match="holds no made.json"):
        forecast_folder(detector, made / "test")


def test_parts_that_the_model_has_learnt_are_counted(line_data, trained_model, tmp_path):
    learnt = sorted((line_data / "train" / "good").iterdir())
    make_defects(learnt, [], tmp_path / "made", Recipe(count=6, method="drawn"))
    with Detector.load(trained_model) as detector:
        found = forecast_folder(detector, tmp_path / "made")
    assert found.learnt_parts > 0 and "has learnt" in found.warnings()[0]
    assert {one.said for one in found.kinds.values()} == {"not compared: drawn"}


def test_every_rate_of_the_page_and_the_json_says_that_it_is_of_made_defects(forecast):
    page = forecast_page(forecast, model="m", data="d")
    assert "<b>made</b> defects" in page and "What it does not say" in page and "<script" not in page
    said = forecast.to_dict()
    assert said["forecast"] == "from made defects"
    for kind in said["kinds"].values():
        rates = [name for name in kind if "rate" in name]
        assert all("made" in name or "real" in name for name in rates)


def test_report_and_eval_judge_them_only_with_forecast(made, line_data, trained_model, tmp_path):
    page = tmp_path / "page.html"
    ended = run_here("report", trained_model, made, "--forecast", "-o", page, "--json")
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["page"] == str(page) and page.is_file() and set(report["kinds"]) == {"crack", "stain"}
    ended = run_here("eval", trained_model, made, "--forecast", "--real", line_data)
    assert "escape rate from made" in ended.stdout and "warning" in ended.stderr
    no_folder = run_here("report", trained_model, line_data, "--forecast", "-o", tmp_path / "no.html")
    assert no_folder.returncode == 2 and "holds no made.json" in no_folder.stderr
    alone = run_here("eval", trained_model, line_data, "--real", line_data)
    assert alone.returncode == 2 and "goes with --forecast" in alone.stderr
    assert not (tmp_path / "no.html").exists()
