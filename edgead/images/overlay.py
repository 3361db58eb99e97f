"""Images for people: heat map, boxes and verdict over the image, and contact sheets of many."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edgead.types import Verdict

# BGR. Distinct in grey and for those who do not see red and green: the word is always written as well.
_STRIP_COLOURS = {"ok": (72, 110, 30), "review": (0, 120, 200), "reject": (40, 40, 200)}
_WHITE = (255, 255, 255)
_SHEET_BACKGROUND = 32
# Heat is 1 at the map threshold. Below the first number nothing is drawn, from the second on the colour is at
# its strongest; the colour runs from yellow to red up to the third.
_WARM, _FULL, _HOT = 0.8, 1.1, 2.0
_STRONGEST = 0.55
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_overlay(
    image_bgr: np.ndarray,
    verdict: Verdict,
    caption: str = "",
) -> np.ndarray:
    """Draw what the detector saw onto a copy of the image, under a strip with the verdict.

    The colours are anchored at `verdict.map_threshold`: the same colour means the same score in every image,
    and an image without anomalies stays as it is.

    Parameters
    ----------
    image_bgr : ndarray of shape (H, W, 3), uint8
    verdict : Verdict
    caption : str
        Stands in the strip after the verdict, such as a file name.

    Returns
    -------
    drawn : ndarray of shape (H + strip, W, 3), uint8, BGR
    """
    drawn = draw_heat(image_bgr, verdict)
    return np.vstack([_strip(verdict, caption, drawn.shape), drawn])


def draw_heat(image_bgr: np.ndarray, verdict: Verdict) -> np.ndarray:
    """Draw what `draw_overlay` does, without the strip: an image of shape (H, W, 3)."""
    drawn = image_bgr.copy()
    x, y, width, height = verdict.region or (0, 0, image_bgr.shape[1], image_bgr.shape[0])
    _blend_heat(drawn[y : y + height, x : x + width], verdict)
    thickness = max(1, round(min(drawn.shape[:2]) / 300))
    for box in verdict.boxes:
        corner = (box.x + box.width - 1, box.y + box.height - 1)
        cv2.rectangle(drawn, (box.x, box.y), corner, _STRIP_COLOURS["reject"], thickness)
    return drawn


def contact_sheet(tiles: Sequence[tuple[np.ndarray, str]], columns: int = 4, *, tile_px: int = 320) -> np.ndarray:
    """Arrange images in rows, each with its caption below.

    Parameters
    ----------
    tiles : sequence of (image, caption)
        Images of shape (H, W, 3), uint8, BGR, of any size; at least one.
    columns : int
    tile_px : int
        Width and height that each image is fitted into.

    Returns
    -------
    sheet : ndarray of shape (H, W, 3), uint8, BGR
    """
    if not tiles:
        raise ValueError("a contact sheet needs at least one image")
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    margin, caption_px = max(4, tile_px // 40), max(18, tile_px // 14)
    step_x, step_y = tile_px + margin, tile_px + caption_px + margin
    sheet = np.full((rows * step_y + margin, columns * step_x + margin, 3), _SHEET_BACKGROUND, np.uint8)
    for i, (image, caption) in enumerate(tiles):
        top, left = margin + i // columns * step_y, margin + i % columns * step_x
        small = _fit(image, tile_px)
        y, x = top + (tile_px - small.shape[0]) // 2, left + (tile_px - small.shape[1]) // 2
        sheet[y : y + small.shape[0], x : x + small.shape[1]] = small
        _write(sheet[top + tile_px : top + tile_px + caption_px, left : left + tile_px], caption)
    return sheet


def _blend_heat(region: np.ndarray, verdict: Verdict) -> None:
    """Colour, in place, the pixels of a region that are warm."""
    if not np.isfinite(verdict.map_threshold):
        return  # no threshold, no scale
    # Heat 0 is what good parts typically have, 1 is the threshold. Without a typical value below the threshold, one
    # more is one threshold more; written so that thresholds of 0 and below work.
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
    # Only the rectangle that holds warm pixels is worked on: most of an image is cold.
    area = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    warm, below = large[area], region[area]
    # TURBO at 150 is yellow-green, at 165 yellow, at 225 red; beyond, it darkens and would hide the defect.
    level = np.clip(165 + 60 * (warm - 1) / (_HOT - 1), 150, 225).astype(np.uint8)
    colours = cv2.applyColorMap(level, cv2.COLORMAP_TURBO)
    alpha = _STRONGEST * np.clip((warm - _WARM) / (_FULL - _WARM), 0, 1)[:, :, np.newaxis]
    below[:] = np.rint(below + alpha * (colours.astype(np.float32) - below)).astype(np.uint8)


def _strip(verdict: Verdict, caption: str, shape: tuple[int, ...]) -> np.ndarray:
    height, width = shape[:2]
    line_px = max(18, round(0.05 * min(height, width)))
    label = f"{verdict.decision.upper()} {verdict.image_score:.4g} (threshold {verdict.threshold:.4g})"
    if _text_width(label, line_px) > width:
        label = label.replace("(threshold ", "/ ").rstrip(")")
    one_line = f"{label}  {caption}" if caption else label
    lines = [one_line] if caption == "" or _text_width(one_line, line_px) <= width else [label, caption]
    strip = np.full((line_px * len(lines), width, 3), _STRIP_COLOURS[verdict.decision], np.uint8)
    for i, line in enumerate(lines):
        _write(strip[i * line_px : (i + 1) * line_px], line)
    return strip


def _font_scale(line_px: int) -> float:
    return line_px / 36  # a capital letter is 22 px high at scale 1


def _text_width(text: str, line_px: int) -> int:
    scale = _font_scale(line_px)
    return cv2.getTextSize(text, _FONT, scale, max(1, round(scale * 1.5)))[0][0] + line_px // 2


def _write(strip: np.ndarray, text: str) -> None:
    """Write one line of white text into a strip; shrunk to two thirds, then shortened, until it fits."""
    line_px = strip.shape[0]
    # Hershey fonts have ASCII only; what they lack would be drawn as question marks of unequal number.
    text = text.encode("ascii", "replace").decode()
    size_px = line_px
    while _text_width(text, size_px) > strip.shape[1]:
        if size_px > line_px * 2 / 3:
            size_px -= 1
        elif len(text) > 4:
            text = text[:-4].rstrip() + "..."
        else:
            return
    scale = _font_scale(size_px)
    baseline = (line_px + round(22 * scale)) // 2
    thickness = max(1, round(scale * 1.5))
    # A slice of a wider image is no contiguous array, which OpenCV may refuse to draw on.
    canvas = np.ascontiguousarray(strip)
    cv2.putText(canvas, text, (size_px // 4, baseline), _FONT, scale, _WHITE, thickness, cv2.LINE_AA)
    strip[:] = canvas


def _fit(image: np.ndarray, tile_px: int) -> np.ndarray:
    scale = tile_px / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
