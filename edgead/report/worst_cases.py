"""Images of the worst cases, for a report's page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from html import escape

import cv2
import numpy as np

from edgead.detector import Detector
from edgead.images.files import load_image
from edgead.images.overlay import draw_heat
from edgead.report.evaluate import Outcome
from edgead.types import Verdict

_LONG_SIDE_PX = 260
_JPEG_QUALITY = 80
# Where colours begin on a map that reaches no threshold, from typical to its highest place.
_FROM = 0.67
# The outline of the true defect, BGR: neither yellow nor red, which are heat.
_OUTLINE = (255, 220, 60)


def worst_cases(detector: Detector, outcomes: Sequence[Outcome], limit: float) -> str:
    """Show images beside their heat maps, the true defect outlined.

    The colours begin at the map's threshold, as everywhere; where nothing reaches it, at the map's own highest places.

    Parameters
    ----------
    detector : Detector
        That judged them.
    outcomes : sequence of Outcome
    limit : float
        The threshold that their scores are shown beside.
    """
    return f'<div class="cases">{"".join(_case(detector, outcome, limit) for outcome in outcomes)}</div>'


def _case(detector: Detector, outcome: Outcome, limit: float) -> str:
    image = load_image(outcome.image.path)
    verdict = detector.predict(image)
    heat = draw_heat(image, with_visible_heat(verdict))
    mask = outcome.image.load_mask(image.shape[:2])
    plain = outlined(image, mask) if mask is not None and mask.any() else image
    name = f"{outcome.image.defect}/{outcome.image.path.name}"
    images = f"{_jpeg(plain, f'{name} as it is')}{_jpeg(heat, f'{name} with its heat map')}"
    share = f" ({100 * outcome.image_score / limit:.0f} % of the threshold)" if limit > 0 else ""
    return (
        f'<figure><div class="pair">{images}</div><figcaption><b>{escape(name)}</b> '
        f"{outcome.decision}, {outcome.image_score:.4g}{share}</figcaption></figure>"
    )


def with_visible_heat(verdict: Verdict) -> Verdict:
    """The verdict with colours that begin at its map's own highest places, where nothing reaches the threshold."""
    highest = float(verdict.anomaly_map.max())
    if highest >= verdict.map_threshold:
        return verdict
    typical = min(verdict.map_typical, highest)
    return replace(verdict, map_threshold=typical + _FROM * (highest - typical))


def outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw the outline of a mask, (H, W) bool, onto a copy of an image."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(max(image.shape[:2]) / 200))
    return cv2.drawContours(image.copy(), contours, -1, _OUTLINE, thickness)


def _jpeg(image: np.ndarray, alt: str) -> str:
    scale = min(1.0, _LONG_SIDE_PX / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    text = base64.b64encode(data.tobytes()).decode()
    return f'<img alt="{escape(alt)}" width="{size[0]}" height="{size[1]}" src="data:image/jpeg;base64,{text}">'
