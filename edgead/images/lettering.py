"""One line of text in an image."""

from __future__ import annotations

import cv2
import numpy as np

_WHITE = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def strip(text: str, width: int, line_px: int, colour: tuple[int, int, int]) -> np.ndarray:
    """Write one line of white text on a strip of that colour, BGR: an image of shape (line_px, width, 3)."""
    made = np.full((line_px, width, 3), colour, np.uint8)
    write_line(made, text)
    return made


def _scale(line_px: int) -> float:
    return line_px / 36  # a capital letter is 22 px high at scale 1


def _in_ascii(text: str) -> str:
    """Hershey fonts have no more; OpenCV would draw the rest as question marks of unequal number, or crash on it."""
    return text.encode("ascii", "replace").decode()


def text_width(text: str, line_px: int) -> int:
    scale = _scale(line_px)
    return cv2.getTextSize(_in_ascii(text), _FONT, scale, max(1, round(scale * 1.5)))[0][0] + line_px // 2


def write_line(strip: np.ndarray, text: str) -> None:
    """Write one line of white text into a strip; shrunk to two thirds, then shortened, until it fits."""
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
    # A slice of a wider image is no contiguous array, which OpenCV may refuse to draw on.
    canvas = np.ascontiguousarray(strip)
    cv2.putText(canvas, text, (size_px // 4, baseline), _FONT, scale, _WHITE, thickness, cv2.LINE_AA)
    strip[:] = canvas
