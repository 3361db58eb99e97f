"""A head that measures: scores are millimetres, and the verdict says how far the worst place is off, and which way."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from edgead.artifact.inputs import Relief
from edgead.artifact.relief import add_heights, channels_of, surface_of
from edgead.heads import read_head
from edgead.heads.patches import HIDDEN, USUAL
from edgead.heads.push import PushHead
from edgead.serialization import sentence
from edgead.types import Box, StageTimes, Verdict

GRID, SIZE = (6, 8), (12, 16)
RELIEF = Relief(mm_per_count=0.01, height_mm=0.5, slope_mm=0.1, sigma_px=3)


def pushes(**places: float) -> dict[str, np.ndarray]:
    made = np.random.default_rng(0).normal(0, 0.01, (1, *GRID)).astype(np.float32)
    for place, value in places.items():
        row, column = map(int, place.removeprefix("at_").split("_"))
        made[0, row, column] = value
    return {"push_mm": made}


def scorer_of(head: PushHead, outputs, **arrays):
    return head.open(outputs, arrays, SIZE)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_push_of_the_worst_place_has_its_sign(sign):
    outputs = pushes(at_2_3=sign * 0.4, at_4_6=-sign * 0.3)
    scored = scorer_of(PushHead(), outputs).score(outputs)
    assert scored.measured == pytest.approx({"push_mm": sign * 0.4})
    assert scored.image_score == pytest.approx(0.4)
    assert scored.patch_scores.min() >= 0


def test_what_is_hidden_or_at_the_margin_is_not_the_worst_place():
    outputs = pushes(at_0_0=2.0, at_2_3=1.0, at_4_5=-0.5)
    hidden = np.zeros(GRID, bool)
    hidden[2, 3] = True
    assert scorer_of(PushHead(), outputs).score(outputs).measured["push_mm"] == pytest.approx(2)
    within = scorer_of(PushHead(margin=1), outputs)
    assert within.score(outputs).measured["push_mm"] == pytest.approx(1)
    assert within.score({**outputs, HIDDEN: hidden}).measured["push_mm"] == pytest.approx(-0.5)


def test_what_is_usual_at_a_place_is_not_the_worst():
    outputs, usual = pushes(at_2_3=1.0, at_4_5=-0.5), np.zeros(GRID, np.float32)
    usual[2, 3] = 0.9
    scored = scorer_of(PushHead(by_place=True), outputs, **{USUAL: usual}).score(outputs)
    assert scored.measured == pytest.approx({"push_mm": -0.5})


@pytest.mark.parametrize("options", [{}, {"window": 3, "top_patches": 2}, {"margin": 1, "by_place": True}])
def test_scores_are_those_of_the_reference(options):
    head, outputs = PushHead(**options), pushes(at_2_3=0.4, at_4_6=-0.3)
    arrays = {USUAL: np.full(GRID, 0.01, np.float32)} if head.by_place else {}
    scorer = scorer_of(head, outputs, **arrays)
    scored = scorer.score(outputs)
    score, anomaly_map = head.reference({"push_mm": outputs["push_mm"][0].astype(np.float64)}, arrays, SIZE)
    assert scored.image_score == pytest.approx(score, rel=1e-5)
    np.testing.assert_allclose(scorer.anomaly_map(scored.patch_scores)[0], anomaly_map, atol=1e-5)


def test_pushes_that_are_no_numbers_are_refused():
    outputs = pushes(at_2_3=np.nan)
    with pytest.raises(ValueError, match="NaN"):
        scorer_of(PushHead(), outputs).score(outputs)


def test_a_manifest_names_it():
    head = read_head({"kind": "push", "window": 3})
    assert isinstance(head, PushHead) and head.outputs[0].name == "push_mm"


def test_the_verdict_says_it_where_it_is_known():
    verdict = Verdict(
        0.4, "reject", np.zeros(SIZE, np.float32), 0.1, 0.1, (Box(3, 4, 5, 6, 0.4),), StageTimes(1, 1, 1, 1)
    )
    assert verdict.to_dict()["measured"] == {}
    low = replace(verdict, measured={"push_mm": 0.312})
    assert low != verdict and json.loads(low.to_json())["measured"] == {"push_mm": 0.312}
    assert sentence(low.to_dict()) == "Reject: 0.31 mm too low, 5 x 6 px; score 0.4 (limit 0.1)."
    high = replace(verdict, measured={"push_mm": -12.34})
    assert sentence(high.to_dict(), "de") == "Ausschuss: 12 mm zu hoch, 5 x 6 px; Wert 0,4 (Grenze 0,1)."


def test_heights_that_are_added_to_channels_are_those_of_the_sum():
    rng = np.random.default_rng(1)
    mm, more = rng.normal(0, 0.05, (2, 32, 24)).astype(np.float32)
    more[10:20, 10:20] += 0.4
    found = add_heights(channels_of(surface_of(mm, 3), RELIEF), more, RELIEF)
    np.testing.assert_allclose(found, channels_of(surface_of(mm + more, 3), RELIEF), atol=1e-3)
    assert found.dtype == np.float32 and found.max() > 255
