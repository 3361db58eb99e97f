"""What is no number: no comparison between a head and a verdict takes it for a good part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgead import Detector
from edgead.artifact import preprocess
from edgead.artifact.inputs import Alignment, Preprocessing
from edgead.artifact.limits import Limits
from edgead.heads.contract import Scored
from edgead.heads.patches import NOT_FINITE
from edgead.images.files import write_image
from edgead.stream import run

TINY_MODEL = Path(__file__).parents[1] / "fixtures" / "tiny_model"
IMAGE = np.full((64, 64, 3), 90, np.uint8)


@pytest.mark.parametrize(
    ("score", "expected"), [(1.0, "ok"), (1.5, "review"), (2.0, "review"), (2.5, "reject"), (float("nan"), "reject")]
)
def test_only_a_number_within_the_limit_is_ok(score, expected):
    assert Limits(review=1.0, reject=2.0).decide(score) == expected


class OtherHead:
    """The scorer of a head of another package, which gives what is no number for some frames."""

    def __init__(self, scorer: Any, scores: list[float], of_map: float = 0.0):
        self._scorer, self._scores, self._of_map = scorer, scores, of_map

    def score(self, outputs: Any, state: Any = None) -> Scored:
        return replace(self._scorer.score(outputs, state), image_score=self._scores.pop(0))

    def anomaly_map(self, patch_scores: np.ndarray) -> tuple[np.ndarray, float]:
        anomaly_map, _ = self._scorer.anomaly_map(patch_scores)
        anomaly_map[0, 0] += self._of_map
        return anomaly_map, float(anomaly_map.max())


@pytest.mark.parametrize(
    ("score", "of_map"), [(np.nan, 0.0), (np.inf, 0.0), (-np.inf, 0.0), (0.0, np.nan), (0.0, np.inf)]
)
def test_a_head_of_another_package_gets_no_verdict_of_what_is_not_finite(score, of_map):
    with Detector.load(TINY_MODEL, runtime="onnxruntime") as detector:
        detector._scorer = OtherHead(detector._scorer, [score] * 3, of_map)
        for judge in (detector.predict, detector.measure, detector.session().judge):
            with pytest.raises(ValueError, match=NOT_FINITE):
                judge(IMAGE)


def test_a_tile_without_a_score_is_not_left_out():
    """The highest score of a frame counts, and no number is higher than what is none."""
    with Detector.load(TINY_MODEL, runtime="onnxruntime") as detector:
        size = min(detector.manifest.preprocessing.image_size)
        tiles = {"size": (size, size), "overlap": (0, 0)}
        spec = Preprocessing.model_validate({**detector.manifest.preprocessing.model_dump(), "tiles": tiles})
        detector._spec = detector._laid = spec
        detector._scorer = OtherHead(detector._scorer, [0.1, float("nan"), 0.1, 0.1])
        with pytest.raises(ValueError, match=NOT_FINITE):
            detector.measure(np.full((2 * size, 2 * size, 3), 90, np.uint8))
        assert len(detector._scorer._scores) == 2


def test_a_stream_ends_with_a_fault_and_no_sink_hears_of_a_verdict(tmp_path):
    write_image(tmp_path / "part.png", IMAGE)
    written: list[object] = []
    sink: Any = SimpleNamespace(write=lambda frame, verdict: written.append(verdict), uri="a list")
    with Detector.load(TINY_MODEL, runtime="onnxruntime") as detector:
        detector._scorer = OtherHead(detector._scorer, [float("nan")])
        summary = run(str(tmp_path), detector, [sink])
    assert written == [] and summary.fault is not None and NOT_FINITE in summary.fault


def test_a_part_whose_place_is_no_number_was_not_found(monkeypatch):
    nowhere = SimpleNamespace(place=lambda look: (np.eye(2, 3), float("nan")))
    monkeypatch.setattr(preprocess, "_placer", lambda alignment: (nowhere, (32, 32)))
    spec = Preprocessing(image_size=(32, 32), alignment=Alignment(frame_size=(64, 64), look=""))
    assert not preprocess.aligned(IMAGE, spec).found
