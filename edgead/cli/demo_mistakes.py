"""Mistakes of the demo: for each the truth beside the heat map, with a sentence that explains it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from edgead.images.boxes import highest_spot
from edgead.images.files import write_image
from edgead.images.overlay import brought_out, draw_heat, outlined
from edgead.types import Verdict, score_texts

MAX_SHOWN = 12
_SIDE_PX, _GAP_PX, _LINE_PX = 420, 12, 26
_LETTERS = 88  # per line below a pair of images
_GROUND, _WHITE, _GREY = (32, 32, 32), (255, 255, 255), (200, 200, 200)
_MISSED, _FALSE = (0, 150, 240), (70, 70, 220)  # BGR; the word is written as well
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Heat may lie beside an outline by as many pixels as the map is smoothed and a patch is wide.
_BESIDE_PX = 12
# A place closer than this to the edge of the region, as a share of its side, lies at the border.
_AT_BORDER = 0.06


@dataclass(frozen=True, slots=True)
class Mistake:
    """Wrong verdict: a defect that passed or, if `defect` is None, a good part that was rejected.

    `image` is (H, W, 3) uint8 BGR; `mask` (H, W) bool marks the defect, and is None if its place is not known.
    """

    name: str
    defect: str | None
    image: np.ndarray
    verdict: Verdict
    mask: np.ndarray | None

    @property
    def title(self) -> str:
        if self.defect is None:
            return f"FALSE REJECT: {self.name}"
        return f"MISSED (scale of its own): {self.defect}, {self.name}"


@dataclass
class Mistakes:
    """Mistakes of a run, at most `MAX_SHOWN` of each kind with their images."""

    missed: list[Mistake] = field(default_factory=list)
    false_rejects: list[Mistake] = field(default_factory=list)

    def add(self, mistake: Mistake) -> None:
        kind = self.false_rejects if mistake.defect is None else self.missed
        if len(kind) < MAX_SHOWN:
            kind.append(mistake)

    def write(self, path: Path, false_reject_rate: float) -> bool:
        """Write the sheet and return True; without mistakes remove an earlier sheet and return False."""
        shown = [*self.missed, *self.false_rejects]
        if not shown:
            path.unlink(missing_ok=True)
            return False
        write_image(path, _sheet([_panel(mistake, explain(mistake, false_reject_rate)) for mistake in shown]))
        return True


def explain(mistake: Mistake, false_reject_rate: float) -> str:
    """Explain in a sentence or two why the verdict was wrong, from the score and the hot place of the heat map.

    Parameters
    ----------
    mistake : Mistake
    false_reject_rate : float
        Share of good parts that the threshold may reject.
    """
    verdict = mistake.verdict
    x, y = highest_spot(verdict.anomaly_map, _looked_at(mistake))
    if mistake.defect is None:
        where = "at the border of what is looked at" if _at_border(mistake, x, y) else f"at {x}, {y}"
        return (
            f"A good part of score {_of_limit(verdict, verdict.threshold)}; its heat is highest {where}. "
            f"The limit lets up to {100 * false_reject_rate:g} % of good parts be rejected."
        )
    limit = verdict.threshold if verdict.review_threshold is None else verdict.review_threshold
    score = _of_limit(verdict, limit)
    if mistake.mask is None or not mistake.mask.any():
        return f"The defect passed with a score of {score}; nobody marked where it is."
    size = f"It covers {100 * float(mistake.mask.mean()):.2g} % of the image"
    around = np.ones((2 * _BESIDE_PX + 1,) * 2, np.uint8)
    if cv2.dilate(mistake.mask.astype(np.uint8), around)[y, x]:
        return f"Seen, but too weak: the heat is highest at the defect, and the score is {score}. {size}."
    return f"Not seen: the heat is highest elsewhere, at {x}, {y}, with a score of {score}. {size}."


def _of_limit(verdict: Verdict, limit: float) -> str:
    score, beside = score_texts(verdict.image_score, limit, verdict.typical_score, verdict.threshold)
    return f"{score} (limit {beside})"


def _at_border(mistake: Mistake, x: int, y: int) -> bool:
    left, top, width, height = _looked_at(mistake)
    across, down = (x - left) / width, (y - top) / height
    return min(across, 1 - across, down, 1 - down) < _AT_BORDER


def _looked_at(mistake: Mistake) -> tuple[int, int, int, int]:
    height, width = mistake.image.shape[:2]
    return mistake.verdict.region or (0, 0, width, height)


def _panel(mistake: Mistake, why: str) -> np.ndarray:
    """Draw the truth, the heat map and the sentence of a mistake."""
    truth = mistake.image
    if mistake.mask is not None and mistake.mask.any():
        truth = outlined(truth, mistake.mask)
    heat = draw_heat(mistake.image, mistake.verdict if mistake.defect is None else brought_out(mistake.verdict))
    scale = _SIDE_PX / max(truth.shape[:2])
    small = [cv2.resize(one, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for one in (truth, heat)]
    gap = np.full((small[0].shape[0], _GAP_PX, 3), _GROUND, np.uint8)
    images = np.hstack([small[0], gap, small[1]])
    width = max(images.shape[1], 2 * _SIDE_PX + _GAP_PX)
    images = cv2.copyMakeBorder(images, 0, 0, 0, width - images.shape[1], cv2.BORDER_CONSTANT, value=_GROUND)
    colour = _FALSE if mistake.defect is None else _MISSED
    lines = [_line(mistake.title, width, colour, 0.62), *(_line(text, width, _GREY, 0.5) for text in _wrapped(why))]
    return np.vstack([lines[0], images, *lines[1:]])


def _wrapped(why: str) -> list[str]:
    lines = textwrap.wrap(why, _LETTERS)[:2]
    return lines + [""] * (2 - len(lines))


def _line(text: str, width: int, colour: tuple[int, int, int], scale: float) -> np.ndarray:
    line = np.full((_LINE_PX, width, 3), _GROUND, np.uint8)
    ascii_only = text.encode("ascii", "replace").decode()
    return cv2.putText(line, ascii_only, (2, _LINE_PX - 8), _FONT, scale, colour, 1, cv2.LINE_AA)


def _sheet(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Arrange panels in columns, under a line that explains them."""
    columns = min(2, len(panels))
    height, width = (max(panel.shape[side] for panel in panels) for side in (0, 1))
    framed = [
        cv2.copyMakeBorder(
            panel,
            *(_GAP_PX, height - panel.shape[0] + _GAP_PX, _GAP_PX, width - panel.shape[1] + _GAP_PX),
            cv2.BORDER_CONSTANT,
            value=_GROUND,
        )
        for panel in panels
    ]
    framed += [np.full_like(framed[0], _GROUND)] * (-len(framed) % columns)
    rows = [np.hstack(framed[start : start + columns]) for start in range(0, len(framed), columns)]
    words = "Left: the image, the true defect outlined. Right: its heat map, from its own highest places."
    head = _line(f"  {words}", rows[0].shape[1], _WHITE, 0.5)
    return np.vstack([np.full((_GAP_PX, *head.shape[1:]), _GROUND, np.uint8), head, *rows])
