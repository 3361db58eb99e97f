"""Contact sheets of many images: rows with captions, and bands with headings."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

_WHITE = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BACKGROUND = 32
_TITLE, _HEADING, _LEGEND = (60, 60, 60), (90, 80, 70), (_BACKGROUND,) * 3
_PAIR_PX = 360
_GAP_PX = 4
LEGEND = (
    "left the part with its true defect outlined in light blue; right what the model saw: red boxes, or a dashed ring "
    "at the highest place where none is above the map's threshold"
)


def strip(text: str, width: int, line_px: int, colour: tuple[int, int, int]) -> np.ndarray:
    """Make a strip of a colour, BGR, with one line of white text: an image of shape (line_px, width, 3)."""
    made = np.full((line_px, width, 3), colour, np.uint8)
    write_line(made, text)
    return made


def _scale(line_px: int) -> float:
    return line_px / 36  # a capital letter is 22 px high at scale 1


def _in_ascii(text: str) -> str:
    """Replace characters outside ASCII, which OpenCV's Hershey fonts lack: it would draw question marks, or crash."""
    return text.encode("ascii", "replace").decode()


def text_width(text: str, line_px: int) -> int:
    scale = _scale(line_px)
    return cv2.getTextSize(_in_ascii(text), _FONT, scale, max(1, round(scale * 1.5)))[0][0] + line_px // 2


def write_line(strip: np.ndarray, text: str) -> None:
    """Write one line of white text into a strip; it is shrunk to two thirds at most, then shortened, to fit."""
    line_px = strip.shape[0]
    text = _in_ascii(text)
    size_px = line_px
    while text_width(text, size_px) > strip.shape[1]:
        if size_px > line_px * 2 / 3:
            size_px -= 1
        elif len(text) > 4:
            text = text[:-4].rstrip() + "..."
        else:
            return
    scale = _scale(size_px)
    baseline = (line_px + round(22 * scale)) // 2
    thickness = max(1, round(scale * 1.5))
    # OpenCV may refuse to draw on a slice of a wider image, which is not contiguous.
    canvas = np.ascontiguousarray(strip)
    cv2.putText(canvas, text, (size_px // 4, baseline), _FONT, scale, _WHITE, thickness, cv2.LINE_AA)
    strip[:] = canvas


Tile = tuple[np.ndarray, str]
"""An image of shape (H, W, 3), uint8, BGR, and its caption."""

Band = tuple[str, Sequence[Tile]]
"""A heading, and the tiles below it."""


def contact_sheet(tiles: Sequence[Tile], columns: int = 4, *, tile_px: int = 320) -> np.ndarray:
    """Arrange images in rows, each with its caption below.

    `tiles` (sequence of (image, caption)): images of any size; at least one.
    `tile_px`: width and height into which each image is fitted; a row is as high as its highest image.
    Returns ndarray of shape (H, W, 3), uint8, BGR.
    """
    if not tiles:
        raise ValueError("a contact sheet needs at least one image")
    columns = min(columns, len(tiles))
    rows = [_row(tiles[i : i + columns], columns, tile_px) for i in range(0, len(tiles), columns)]
    return np.pad(np.vstack(rows), ((0, _margin(tile_px)), (0, 0), (0, 0)), constant_values=_BACKGROUND)


def pair(truth: np.ndarray, verdict: np.ndarray) -> np.ndarray:
    """Put two images of one size side by side, reduced: the true defect, and the model's verdict."""
    left, right = (_fit(image, _PAIR_PX) for image in (truth, verdict))
    return np.hstack([left, np.full((left.shape[0], _GAP_PX, 3), _BACKGROUND, np.uint8), right])


def pair_sheet(title: str, bands: Sequence[Band], columns: int = 3) -> np.ndarray:
    """Arrange results of `pair` in bands; see `band_sheet`."""
    return band_sheet((title, LEGEND), bands, columns, tile_px=2 * _PAIR_PX + _GAP_PX)


def band_sheet(title: tuple[str, str], bands: Sequence[Band], columns: int, *, tile_px: int) -> np.ndarray:
    """Arrange tiles in bands, each below its heading.

    `title`: the title, and the line below it, which explains the marks.
    `bands` (sequence of (heading, tiles)): bands without tiles are left out.
    `columns`, `tile_px`: parameters of `contact_sheet`.
    """
    shown = [(heading, contact_sheet(tiles, columns, tile_px=tile_px)) for heading, tiles in bands if tiles]
    width = max([1400, *(sheet.shape[1] for _, sheet in shown)])
    rows = [strip(title[0], width, 48, _TITLE), strip(title[1], width, 30, _LEGEND)]
    for heading, sheet in shown:
        padding = ((0, 0), (0, width - sheet.shape[1]), (0, 0))
        rows += [strip(heading, width, 38, _HEADING), np.pad(sheet, padding, constant_values=_BACKGROUND)]
    return np.vstack(rows)


def _row(tiles: Sequence[Tile], columns: int, tile_px: int) -> np.ndarray:
    margin, caption_px = _margin(tile_px), max(18, min(tile_px, 400) // 14)
    small = [_fit(image, tile_px) for image, _ in tiles]
    high = max(image.shape[0] for image in small)
    row = np.full((margin + high + caption_px, columns * (tile_px + margin) + margin, 3), _BACKGROUND, np.uint8)
    for i, (image, (_, caption)) in enumerate(zip(small, tiles, strict=True)):
        left = margin + i * (tile_px + margin)
        y, x = margin + (high - image.shape[0]) // 2, left + (tile_px - image.shape[1]) // 2
        row[y : y + image.shape[0], x : x + image.shape[1]] = image
        write_line(row[margin + high :, left : left + tile_px], caption)
    return row


def _margin(tile_px: int) -> int:
    return max(4, tile_px // 40)


def _fit(image: np.ndarray, tile_px: int) -> np.ndarray:
    scale = tile_px / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
