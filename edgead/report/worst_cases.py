"""Images of the worst cases: for a report's page, and on a sheet of their own."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from edgead.detector import Detector
from edgead.images.files import load_image, write_image
from edgead.images.overlay import brought_out, draw_heat, draw_overlay, draw_truth, outlined
from edgead.images.sheet import Tile, pair, pair_sheet
from edgead.report.evaluate import Evaluation, Outcome
from edgead.serialization import sentence
from edgead.types import score_texts

_LONG_SIDE_PX = 260
_JPEG_QUALITY = 80


# Correct verdicts that a sheet shows beside the mistakes.
_BESIDE = 3


def write_worst_cases(detector: Detector, evaluation: Evaluation, path: Path, *, count: int = 24) -> None:
    """Write a sheet of the mistakes, at most `count`, the worst first, each true defect beside the heat map.

    Below them are a few correct verdicts, the nearest to the threshold.
    """
    missed, rejects, right = evaluation.missed(), evaluation.false_rejects(), evaluation.nearest()
    defects = sum(one.image.is_defective for one in evaluation.outcomes)
    good = len(evaluation.outcomes) - defects
    # Neither kind of mistake takes all the room.
    half = max(count // 2, count - len(rejects))
    shown = missed[:half]
    bands = [
        (f"MISSED: {_of(len(missed), defects, 'defects')} judged ok, the lowest score first", shown),
        (
            f"FALSE REJECTS: {_of(len(rejects), good, 'good parts')} rejected, the highest score first",
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


def _of(count: int, total: int, what: str) -> str:
    return f"{count} of {total} {what}"


def _pair(detector: Detector, outcome: Outcome) -> Tile:
    image = load_image(outcome.image.path)
    mask = outcome.image.load_mask(image.shape[:2])
    unknown = ", no mask" if mask is None else ""
    truth = draw_truth(image, mask, f"truth: {outcome.image.defect}{unknown}")
    verdict = draw_overlay(image, brought_out(detector.predict(image)))
    return pair(truth, verdict), f"{outcome.image.defect}/{outcome.image.path.name}"


def worst_cases(detector: Detector, outcomes: Sequence[Outcome]) -> str:
    """Show images beside their heat maps, the true defect outlined.

    The colours begin at the map's threshold, as everywhere; where nothing reaches it, at the map's own highest places.

    Parameters
    ----------
    detector : Detector
        That judged them.
    outcomes : sequence of Outcome
    """
    return f'<div class="cases">{"".join(_case(detector, outcome) for outcome in outcomes)}</div>'


def _case(detector: Detector, outcome: Outcome) -> str:
    image = load_image(outcome.image.path)
    verdict = detector.predict(image)
    heat = draw_heat(image, brought_out(verdict))
    mask = outcome.image.load_mask(image.shape[:2])
    plain = outlined(image, mask) if mask is not None else image
    name = f"{outcome.image.defect}/{outcome.image.path.name}"
    images = f"{_jpeg(plain, f'{name} as it is')}{_jpeg(heat, f'{name} with its heat map')}"
    score, limit = score_texts(verdict.image_score, verdict.threshold, verdict.typical_score, verdict.threshold)
    said = sentence(verdict.to_dict()) or f"{outcome.decision}, score {score} (limit {limit})"
    caption = f"<b>{escape(name)}</b> {escape(said)}"
    return f'<figure><div class="pair">{images}</div><figcaption>{caption}</figcaption></figure>'


def _jpeg(image: np.ndarray, alt: str) -> str:
    scale = min(1.0, _LONG_SIDE_PX / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    text = base64.b64encode(data.tobytes()).decode()
    return f'<img alt="{escape(alt)}" width="{size[0]}" height="{size[1]}" src="data:image/jpeg;base64,{text}">'
