"""Images of the worst cases, for a report's page and for a sheet."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgead.detector import Detector
from edgead.images.files import write_image
from edgead.images.overlay import brought_out, draw_heat, draw_overlay, draw_truth, outlined
from edgead.images.sheet import Tile, pair, pair_sheet
from edgead.images.verdict import ImageVerdict
from edgead.report.evaluate import Evaluation, Outcome
from edgead.serialization import sentence
from edgead.types import Verdict, score_texts

_LONG_SIDE_PX, _JPEG_QUALITY = 260, 80
_BESIDE = 3  # correct verdicts that a sheet shows after the mistakes


def write_worst_cases(detector: Detector, evaluation: Evaluation, path: Path, *, count: int = 24) -> None:
    """Write a sheet of at most `count` mistakes, the worst first, each with the true defect beside the heat map.

    Below them are the few correct verdicts nearest to the threshold.
    """
    missed, rejects, right = evaluation.missed(), evaluation.false_rejects(), evaluation.nearest()
    defects = sum(one.image.is_defective for one in evaluation.outcomes)
    good = len(evaluation.outcomes) - defects
    # Both kinds of mistakes get a share of the space.
    half = max(count // 2, count - len(rejects))
    shown = missed[:half]
    bands = [
        (
            f"MISSED: {len(missed)} of {defects} defects judged ok, the lowest score first; colours on a scale of "
            "each image's own",
            shown,
        ),
        (
            f"FALSE REJECTS: {len(rejects)} of {good} good parts rejected, the highest score first",
            rejects[: count - len(shown)],
        ),
        ("Judged right, the nearest to the threshold first", right[: _BESIDE if missed or rejects else 2 * _BESIDE]),
    ]
    title = (
        f"Mistakes on {len(evaluation.outcomes)} test images at a limit of {evaluation.threshold:.4g} (raw): "
        f"{len(missed)} missed, {len(rejects)} false rejects"
    )
    tiles = [(heading, [_pair(detector, one) for one in outcomes]) for heading, outcomes in bands]
    write_image(path, pair_sheet(title, tiles))


def _pair(detector: Detector, outcome: Outcome) -> Tile:
    values = detector.read_image(outcome.image.path)
    image = detector.visible(values)
    mask = outcome.image.load_mask(image.shape[:2])
    unknown = ", no mask" if mask is None else ""
    truth = draw_truth(image, mask, f"truth: {outcome.image.defect}{unknown}")
    verdict = draw_overlay(image, _coloured(detector.predict_left_out(values, outcome.fold), outcome))
    return pair(truth, verdict), f"{outcome.image.defect}/{outcome.image.path.name}"


def _coloured(verdict: ImageVerdict, outcome: Outcome) -> Verdict:
    """Rescale the colours of a missed defect, which would have none; others keep the scale of the threshold."""
    return brought_out(verdict) if outcome.image.is_defective and outcome.decision == "ok" else verdict


@dataclass(frozen=True, slots=True)
class InlineImage:
    """JPEG image as a data URI, with its size in pixels."""

    alt: str
    width: int
    height: int
    jpeg: str

    @classmethod
    def of(cls, image: np.ndarray, alt: str) -> InlineImage:
        scale = min(1.0, _LONG_SIDE_PX / max(image.shape[:2]))
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        return cls(alt, *size, base64.b64encode(data.tobytes()).decode())


@dataclass(frozen=True, slots=True)
class Case:
    """Case of a test set: its image with the true defect outlined, its heat map, and the verdict in words."""

    name: str
    said: str
    images: tuple[InlineImage, InlineImage]


def show_case(detector: Detector, outcome: Outcome) -> Case:
    """Judge an image again, for a page.

    Colours begin at the map's threshold; for a missed defect at the map's own highest places, which the text states.
    """
    values = detector.read_image(outcome.image.path)
    image, verdict = detector.visible(values), detector.predict_left_out(values, outcome.fold)
    coloured = _coloured(verdict, outcome)
    heat = draw_heat(image, coloured)
    mask = outcome.image.load_mask(image.shape[:2])
    plain = outlined(image, mask) if mask is not None else image
    name = f"{outcome.image.defect}/{outcome.image.path.name}"
    score, limit = score_texts(verdict.image_score, verdict.threshold, verdict.typical_score, verdict.threshold)
    said = sentence(verdict.to_dict()) or f"{outcome.decision}, score {score} (limit {limit})"
    if coloured is not verdict:
        said += "; colours on a scale of its own"
    images = InlineImage.of(plain, f"{name} as it is"), InlineImage.of(heat, f"{name} with its heat map")
    return Case(name, said, images)
