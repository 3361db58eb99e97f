"""Scoring against hand-computed values and the slow reference."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from edgead.heads.map import MapHead, MapScorer
from edgead.heads.nearest import NearestHead, NearestScorer


def scorer(**settings) -> NearestScorer:
    bank = np.array([[0, 0], [3, 4], [6, 8]], np.float32)
    return NearestScorer(NearestHead(**settings), (2, 2), (8, 8), bank)


def test_patch_scores_by_hand():
    features = np.array([[[[0, 0], [3, 4]], [[3, 0], [0, 8]]]], np.float32)
    nearest = scorer().patch_scores({"features": features})
    np.testing.assert_allclose(nearest, [[0, 0], [3, 5]], rtol=1e-6)
    # Mean of the two nearest: (0 + 5) / 2, (0 + 5) / 2, (3 + 4) / 2, (5 + 6) / 2.
    two = scorer(num_neighbors=2).patch_scores({"features": features})
    np.testing.assert_allclose(two, [[2.5, 2.5], [3.5, 5.5]], rtol=1e-6)


@pytest.mark.parametrize(("top", "expected"), [(1, 9.0), (2, 8.0), (4, 5.0), (99, 5.0)])
def test_image_score_is_the_mean_of_the_largest(top, expected):
    scores = np.array([[9, 1], [3, 7]], np.float32)
    assert scorer(top_patches=top).image_score(scores) == expected


def test_image_score_over_windows():
    scores = np.random.default_rng(0).random((6, 9)).astype(np.float32)
    bank = np.ones((1, 2), np.float32)
    averages = [scores[i : i + 3, j : j + 3].astype(float).mean() for i in range(4) for j in range(7)]
    for top in (1, 4):
        spec = NearestHead(window=3, top_patches=top)
        expected = np.mean(sorted(averages)[-top:])
        assert NearestScorer(spec, (6, 9), (48, 72), bank).image_score(scores) == pytest.approx(expected, rel=1e-6)
    # A window larger than the grid is the whole grid.
    whole = NearestScorer(NearestHead(window=7), (6, 9), (48, 72), bank).image_score(scores)
    assert whole == pytest.approx(max(scores[:, j : j + 7].mean() for j in range(3)), rel=1e-6)


def test_the_margin_is_no_part_of_the_image_score_but_of_the_map():
    scores = np.random.default_rng(0).random((6, 9)).astype(np.float32)
    scores[0, 4] = scores[5, 0] = scores[3, 8] = 50  # on the outermost ring
    bank = np.ones((1, 2), np.float32)

    def of(scores, **settings) -> NearestScorer:
        return NearestScorer(NearestHead(**settings), scores.shape, (48, 72), bank)

    inside = np.ascontiguousarray(scores[1:-1, 1:-1])
    for settings in ({}, {"window": 3, "top_patches": 4}, {"window": 9}):
        found = of(scores, margin=1, **settings).image_score(scores)
        assert found == pytest.approx(of(inside, **settings).image_score(inside))
        assert found < 1
    assert of(scores, margin=1).anomaly_map(scores)[1] == of(scores).anomaly_map(scores)[1] > 1
    # Of a grid that is hardly more than a margin, one patch is left.
    assert of(scores[:2, :3], margin=9, window=3).image_score(scores[:2, :3]) == pytest.approx(scores[:2, 1].mean())


def test_scores_are_never_clamped():
    scores = np.full((2, 2), -1e6, np.float32)
    assert scorer().image_score(scores) == -1e6
    anomaly_map, maximum = scorer(sigma_px=1.0).anomaly_map(scores)
    assert anomaly_map.max() == maximum == pytest.approx(-1e6)


def test_map_is_the_reference_smoothing():
    scores = np.random.default_rng(0).random((2, 2)).astype(np.float32)
    anomaly_map, maximum = scorer(sigma_px=1.5).anomaly_map(scores)
    expected, _ = reference.smooth(scores, (8, 8), 1.5, "reflect")
    np.testing.assert_allclose(anomaly_map, expected, rtol=1e-5)
    assert maximum == anomaly_map.max()


@pytest.mark.parametrize("by_place", [False, True])
def test_an_opened_map_head_is_its_own_reference(by_place):
    rng = np.random.default_rng(1)
    outputs = {"patch_scores": rng.random((1, 6, 7), np.float32)}
    arrays = {"usual_scores": 0.2 * rng.random((6, 7), np.float32)} if by_place else {}
    head = MapHead(window=3, top_patches=2, margin=1, sigma_px=2, by_place=by_place)
    opened = head.open(outputs, arrays, (24, 28))
    scores = opened.patch_scores(outputs)
    score, anomaly_map = head.reference({"patch_scores": outputs["patch_scores"][0]}, arrays, (24, 28))
    assert opened.image_score(scores) == pytest.approx(score, rel=1e-5)
    np.testing.assert_allclose(opened.anomaly_map(scores)[0], anomaly_map, rtol=1e-4, atol=1e-5)


def test_map_head_refuses_what_is_not_finite():
    head = MapScorer(MapHead(), (2, 2), (8, 8))
    given = np.arange(4, dtype=np.float32).reshape(1, 2, 2)
    np.testing.assert_array_equal(head.patch_scores({"patch_scores": given}), [[0, 1], [2, 3]])
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or infinity"):
            head.patch_scores({"patch_scores": np.full((1, 2, 2), bad, np.float32)})
    with pytest.raises(ValueError, match="NaN"):
        scorer().patch_scores({"features": np.full((1, 2, 2, 2), np.nan, np.float32)})


def test_a_bank_that_does_not_fit_is_refused():
    outputs = {"features": np.zeros((1, 2, 2, 2), np.float32)}
    with pytest.raises(ValueError, match="has 1 rows, the manifest asks for 3 neighbours"):
        NearestHead(num_neighbors=3).check(outputs, {"memory_bank": np.ones((1, 2), np.float32)})
    with pytest.raises(ValueError, match=r"rows of \(4,\), the network gives \(2,\)"):
        NearestHead().check(outputs, {"memory_bank": np.ones((1, 4), np.float32)})
    with pytest.raises(ValueError, match=r"usual scores for a grid of \(1, 2\), the network gives \(2, 2\)"):
        arrays = {"memory_bank": np.ones((1, 2), np.float32), "usual_scores": np.ones((1, 2), np.float32)}
        NearestHead(by_place=True).check(outputs, arrays)


def test_the_graphs_own_score_is_weighted():
    scores = np.array([[9, 1], [3, 7]], np.float32)
    graph_score = np.array([2.0], np.float32)

    def of(**weights) -> MapScorer:
        return MapScorer(MapHead(**weights), (2, 2), (8, 8))

    assert of(graph_weight=0.5).image_score(scores, {"image_score": graph_score}) == 9 + 0.5 * 2
    assert of(patch_weight=0.0, graph_weight=1.0).image_score(scores, {"image_score": graph_score}) == 2
    with pytest.raises(ValueError, match="NaN or infinity"):
        of(graph_weight=1.0).image_score(scores, {"image_score": np.array([np.nan], np.float32)})


def test_what_is_usual_at_a_place_is_subtracted_from_patches_and_map():
    features = np.array([[[[0, 0], [3, 4]], [[3, 0], [0, 8]]]], np.float32)
    usual = np.array([[1, -1], [0, 4]], np.float32)
    bank = np.array([[0, 0], [3, 4], [6, 8]], np.float32)
    spec = NearestHead(by_place=True, sigma_px=0)
    by_place = NearestScorer(spec, (2, 2), (2, 2), bank).less({"usual_scores": usual})
    scores = by_place.patch_scores({"features": features})
    np.testing.assert_allclose(scores, [[-1, 1], [3, 1]], rtol=1e-6)
    assert by_place.image_score(scores) == pytest.approx(3)
    np.testing.assert_allclose(by_place.anomaly_map(scores)[0], scores, rtol=1e-6)
