"""Drawing of results on images: heat map, boxes and verdict, or the outline of the true defect."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from edgead.images.boxes import highest_spot
from edgead.images.sheet import strip, text_width
from edgead.types import Palette, Verdict, score_texts

# BGR. Distinct in grey and for colour-blind people; the word is always written as well.
_STRIP_COLOURS = {"ok": (72, 110, 30), "review": (0, 120, 200), "reject": (40, 40, 200), "fault": (90, 80, 70)}
_WHITE = (255, 255, 255)
_TRUTH_STRIP = (90, 80, 70)
# Outline of a true defect: neither yellow nor red, which are colours of heat.
_TRUTH = (255, 220, 60)
# Heat is 1 at the map threshold. Below the first number nothing is drawn, from the second on the colour is
# opaque; its hue changes up to the third.
_WARM, _FULL, _HOT = 0.8, 1.1, 2.0
# Levels of the colour map TURBO at heat 1 and at the third number: from yellow to red, or from light blue to violet.
# Towards both ends it darkens and would hide the defect.
_LEVELS: dict[Palette, tuple[int, int]] = {"warm": (165, 225), "blue": (75, 20)}
_STRONGEST = 0.55
# Start of the colours on a map below its threshold, as a share of the way from typical to its maximum.
_FROM = 0.67
# Dashes of the ring, in degrees.
_DASH, _GAP = 20, 16


def draw_overlay(
    image_bgr: np.ndarray,
    verdict: Verdict,
    caption: str = "",
) -> np.ndarray:
    """Draw heat map and boxes on a copy of the image, below a strip with the verdict.

    The colours come from `verdict.palette`, anchored at `verdict.map_threshold`: the same colour means the same score
    in every image, and an image without anomalies is not coloured. If a verdict is not ok but no pixel is above that
    threshold, so that there is no box, a dashed ring marks the highest place.

    Parameters
    ----------
    image_bgr : ndarray of shape (H, W, 3), uint8
    verdict : Verdict
    caption : str
        Text after the verdict in the strip, such as a file name.

    Returns
    -------
    drawn : ndarray of shape (H + strip, W, 3), uint8, BGR
    """
    drawn = draw_heat(image_bgr, verdict)
    return np.vstack([_strip(verdict, caption, drawn.shape), drawn])


def draw_heat(image_bgr: np.ndarray, verdict: Verdict) -> np.ndarray:
    """Draw like `draw_overlay` but without the strip: an image of shape (H, W, 3)."""
    drawn = image_bgr.copy()
    x, y, width, height = verdict.region or (0, 0, image_bgr.shape[1], image_bgr.shape[0])
    _blend_heat(drawn[y : y + height, x : x + width], verdict)
    thickness = max(1, round(min(drawn.shape[:2]) / 300))
    for box in verdict.boxes:
        corner = (box.x + box.width - 1, box.y + box.height - 1)
        cv2.rectangle(drawn, (box.x, box.y), corner, _STRIP_COLOURS["reject"], thickness)
    if verdict.decision != "ok" and not verdict.boxes:
        _ring(drawn, highest_spot(verdict.anomaly_map, (x, y, width, height)), thickness)
    return drawn


def draw_truth(image_bgr: np.ndarray, mask: np.ndarray | None, caption: str) -> np.ndarray:
    """Outline the true defect on a copy of the image, below a strip: the counterpart of `draw_overlay`.

    `image_bgr`: ndarray of shape (H, W, 3), uint8.
    `mask` (ndarray of shape (H, W), bool): true on the defect; without a mask nothing is outlined.
    `caption`: text in the strip.
    Returns ndarray of shape (H + strip, W, 3), uint8, BGR.
    """
    drawn = image_bgr if mask is None else outlined(image_bgr, mask)
    return np.vstack([strip(caption, drawn.shape[1], _line_px(drawn.shape), _TRUTH_STRIP), drawn])


def outlined(image_bgr: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw the outlines of a mask, bool (H, W), onto a copy of the image."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image_bgr.copy(), contours, -1, _TRUTH, max(1, round(max(mask.shape) / 200)))


def brought_out(verdict: Verdict) -> Verdict:
    """Rescale the colours of a verdict whose map stays below its threshold, so that its highest places show.

    Only for missed defects, where the text states the different scale: elsewhere a colour stands for a score.
    """
    highest = float(verdict.anomaly_map.max())
    if highest >= verdict.map_threshold:
        return verdict
    typical = min(verdict.map_typical, highest)
    return replace(verdict, map_threshold=typical + _FROM * (highest - typical))


def _blend_heat(region: np.ndarray, verdict: Verdict) -> None:
    """Blend heat colours, in place, into the pixels of a region whose heat is high enough."""
    if not np.isfinite(verdict.map_threshold):
        return  # without a threshold there is no scale
    # Heat 0 is the typical value of good parts, 1 the threshold. Without a typical value below the threshold, one
    # unit of heat is one threshold; written so that thresholds of 0 and below work.
    scale = verdict.map_threshold - verdict.map_typical
    if not scale > 0:
        scale = abs(verdict.map_threshold) or 1.0
    heat = 1 + (verdict.anomaly_map - np.float32(verdict.map_threshold)) / np.float32(scale)
    if heat.max() <= _WARM:
        return
    large = cv2.resize(heat, (region.shape[1], region.shape[0]), interpolation=cv2.INTER_LINEAR)
    rows, columns = np.nonzero(large > _WARM)
    if rows.size == 0:
        return
    # Only the rectangle around the warm pixels is processed, as most of an image is cold.
    area = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    warm, below = large[area], region[area]
    at_threshold, hottest = _LEVELS[verdict.palette]
    level = at_threshold + (hottest - at_threshold) * (np.clip(warm, _WARM, _HOT) - 1) / (_HOT - 1)
    colours = cv2.applyColorMap(level.astype(np.uint8), cv2.COLORMAP_TURBO)
    alpha = _STRONGEST * np.clip((warm - _WARM) / (_FULL - _WARM), 0, 1)[:, :, np.newaxis]
    below[:] = np.rint(below + alpha * (colours.astype(np.float32) - below)).astype(np.uint8)


def _ring(drawn: np.ndarray, centre: tuple[int, int], thickness: int) -> None:
    """Draw, in place, the mark of a weak anomaly: a dashed ring with a white edge, visible on every part."""
    radius = max(6, round(min(drawn.shape[:2]) / 16))
    # Near the edge of the image the ring is moved inwards, and still surrounds the place.
    inside = [
        min(max(at, radius // 2), size - 1 - radius // 2) for at, size in zip(centre, drawn.shape[1::-1], strict=True)
    ]
    for colour, width in ((_WHITE, thickness + 2), (_STRIP_COLOURS["reject"], thickness)):
        for start in range(0, 360, _DASH + _GAP):
            cv2.ellipse(drawn, inside, (radius, radius), 0, start, start + _DASH, colour, width, cv2.LINE_AA)


def _strip(verdict: Verdict, caption: str, shape: tuple[int, ...]) -> np.ndarray:
    width, line_px = shape[1], _line_px(shape)
    score, limit = score_texts(verdict.image_score, verdict.threshold, verdict.typical_score, verdict.threshold)
    label = f"{verdict.decision.upper()} {score} (limit {limit})"
    if text_width(label, line_px) > width:
        label = f"{verdict.decision.upper()} {score} / {limit}"
    one_line = f"{label}  {caption}" if caption else label
    lines = [one_line] if caption == "" or text_width(one_line, line_px) <= width else [label, caption]
    return np.vstack([strip(line, width, line_px, _STRIP_COLOURS[verdict.decision]) for line in lines])


def _line_px(shape: tuple[int, ...]) -> int:
    return max(18, round(0.05 * min(shape[:2])))
