"""Overview image of clips: scores over time, and the frames with the highest scores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgead.images.overlay import draw_heat
from edgead.images.sheet import contact_sheet, strip
from edgead_video.strips import FRAMES

if TYPE_CHECKING:
    from edgead_video.command import JudgedFrame

_WIDTH, _HEIGHT, _HEADING_PX = 1400, 240, 30
_SHOWN = 4
_GROUND, _GRID, _LINE, _LIMIT, _EVENT, _TITLE = (
    (32, 32, 32),
    (70, 70, 70),
    (230, 200, 120),
    (80, 80, 240),
    (50, 50, 90),
    (90, 80, 70),
)


def draw_chart(scores: np.ndarray, limit: float | None, events: np.ndarray | None = None) -> np.ndarray:
    """Draw scores over time, uint8 BGR; a red line marks the limit, and frames with an event are shaded.

    `scores`: ndarray of shape (n,).
    `events`: ndarray of shape (n,), bool.
    """
    chart = np.full((_HEIGHT, _WIDTH, 3), _GROUND, np.uint8)
    high = 1.05 * max(float(scores.max()), limit or 0.0) or 1.0
    columns = np.linspace(10, _WIDTH - 10, len(scores))
    if events is not None:
        half = (columns[1] - columns[0]) / 2 if len(columns) > 1 else 1.0
        for column in columns[events]:
            cv2.rectangle(chart, (round(column - half), 0), (round(column + half), _HEIGHT), _EVENT, -1)

    def row(score: float) -> int:
        return round((_HEIGHT - 10) - (_HEIGHT - 20) * max(score, 0.0) / high)

    for share in (0.25, 0.5, 0.75):
        cv2.line(chart, (10, row(share * high)), (_WIDTH - 10, row(share * high)), _GRID, 1)
    points = np.stack([columns, [row(score) for score in scores]], axis=1).round().astype(np.int32)
    cv2.polylines(chart, [points], False, _LINE, 2, cv2.LINE_AA)
    if limit is not None:
        cv2.line(chart, (10, row(limit)), (_WIDTH - 10, row(limit)), _LIMIT, 2)
    return chart


def draw_sheet(judged: Sequence[JudgedFrame], limit: float | None) -> np.ndarray:
    """Draw each clip's scores and its frames with the highest scores, uint8 BGR."""
    bands = []
    for clip, group in groupby(judged, key=lambda one: one.clip):
        of_clip = list(group)
        scores = np.array([one.verdict.image_score for one in of_clip])
        words = "no limit yet" if limit is None else f"red: rejected above {limit:.3g}"
        title = f"{clip}: frames {of_clip[0].number} to {of_clip[-1].number}; {words}"
        bands.append(strip(title, _WIDTH, _HEADING_PX, _TITLE))
        bands.append(draw_chart(scores, limit))
        highest = sorted(of_clip, key=lambda one: -one.verdict.image_score)[:_SHOWN]
        tiles = [(_last(draw_heat(one.strip, one.verdict)), f"frame {one.number}") for one in highest]
        shown = contact_sheet(tiles, _SHOWN)
        bands.append(np.pad(shown, ((0, 0), (0, _WIDTH - shown.shape[1]), (0, 0)), constant_values=_GROUND[0]))
    return np.vstack(bands)


def _last(drawn: np.ndarray) -> np.ndarray:
    """Return the lowest frame of a strip, which is the judged frame."""
    return drawn[-(len(drawn) // FRAMES) :]
