"""Predictions of the performance model for NVIDIA cards, made before any card was at hand, beside what was measured.

They come from peak rates, counted instructions and bytes, and published figures of other programs: 30 % either way is
what the model claims for itself. What is measured outside of that refutes it. "measure" and "whole" are those of the
kernel without float64; from the time that its instructions take to that of its loads, one after another. "prepare",
"products", "measure" and "whole" are of the variant that is chosen there, int8 on GeForce and Orin and walking on H100;
"walking whole" is of that, "plain products" are those of the kernel that both are checked against.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

CLAIMED = 0.3

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a card was said to take.

    Attributes
    ----------
    figure : str
        What is measured, such as "nearest 784x384x10000 products us".
    low, high : float
        In the unit that the figure's name ends with.
    """

    figure: str
    low: float
    high: float

    def limits(self) -> Range:
        """Outside of which the model is wrong: the range, widened by `CLAIMED`."""
        return (1 - CLAIMED) * self.low, (1 + CLAIMED) * self.high

    def against(self, measured: float | None) -> dict[str, Any]:
        """Say what came of it: "confirmed", "refuted" or "not measured", with measured / predicted (the middle)."""
        low, high = self.limits()
        verdict = "not measured" if measured is None else "confirmed" if low <= measured <= high else "refuted"
        ratio = None if measured is None else measured / ((self.low + self.high) / 2)
        return {**asdict(self), "refuted": (low, high), "measured": measured, "ratio": ratio, "verdict": verdict}


_D384, _D168 = "nearest 784x384x10000 k1", "nearest 1600x168x10000 k1"
# Four images at once: products by waves of blocks, the rest four times, but twice where a card has room for more.
_AT_ONCE = "nearest 3136x384x10000 k1 whole us"


def _nearest(
    size: str,
    *,
    products: Range,
    plain: Range,
    measure: Range,
    whole: Range,
    prepare: Range | None = None,
    walking: Range | None = None,
) -> list[Prediction]:
    given = {
        "prepare": prepare,
        "products": products,
        "plain products": plain,
        "measure": measure,
        "whole": whole,
        "walking whole": walking,
    }
    return [Prediction(f"{size} {part} us", *of) for part, of in given.items() if of]


def _networks(precision: str, **sizes: Range) -> list[Prediction]:
    return [Prediction(f"efficient_ad {size} {precision} network ms", *of) for size, of in sizes.items()]


def _about(value: float) -> Range:
    return value, value


# Cards by a pattern of what the driver calls them, with the board's name behind it; the first that fits.
CARDS: tuple[tuple[str, str, list[Prediction]], ...] = (
    (
        "H100 SXM",
        r"H100 80GB HBM3|H100 SXM|H200",
        [
            *_nearest(
                _D384, prepare=_about(3), products=(12, 17), plain=(22, 30), measure=(2.3, 4.8), whole=(18, 23),
            ),
            *_nearest(_D168, products=(12, 16), plain=(20, 26), measure=(2.7, 5.5), whole=(18, 23)),
            Prediction(_AT_ONCE, 60, 105),
            Prediction(f"{_D384} torch half us", 90, 120),
            *_networks("fp16", small=(0.23, 0.35), medium=(0.53, 0.65)),
            *_networks("fp32", small=_about(1.9), medium=_about(5.9)),
        ],
    ),
    (
        "RTX 4090",
        r"RTX 4090",
        [
            *_nearest(
                _D384, prepare=(5, 6), products=(13, 17), plain=(50, 58), measure=(3.3, 5.5), whole=_about(25),
                walking=_about(51),
            ),
            *_nearest(
                _D168, products=(12, 16), plain=_about(48), measure=(4, 6), whole=_about(25), walking=_about(51)
            ),
            Prediction(_AT_ONCE, 80, 105),
            *_networks("fp16", small=_about(0.8), medium=_about(2.4)),
        ],
    ),
    (
        "RTX 3060",
        r"RTX 3060(?! Ti)",
        [
            *_nearest(
                _D384, prepare=_about(16), products=_about(85), plain=_about(300), measure=(20, 25), whole=_about(123),
                walking=_about(293),
            ),
            Prediction(_AT_ONCE, 440, 500),
        ],
    ),
    (
        "AGX Orin 64",
        r"AGX Orin",
        [
            *_nearest(
                _D384, prepare=_about(29), products=_about(111), plain=_about(217), measure=(47, 60), whole=_about(193),
                walking=_about(233),
            ),
            *_nearest(
                _D168, products=_about(120), plain=_about(235), measure=(62, 75), whole=_about(217), walking=_about(277)
            ),
            Prediction(_AT_ONCE, 720, 780),
        ],
    ),
    (
        "Orin Nano Super",
        r"Orin Nano.*Super",
        [
            *_nearest(
                _D384, prepare=_about(61), products=_about(282), plain=_about(545), measure=(120, 145),
                whole=_about(475), walking=_about(570),
            ),
            *_nearest(
                _D168, products=_about(304), plain=_about(585), measure=(158, 190), whole=_about(540),
                walking=_about(680),
            ),
            Prediction(_AT_ONCE, 1800, 1920),
            *_networks("fp16", small=_about(9), medium=_about(28)),
        ],
    ),
    (
        "Orin Nano",
        r"Orin Nano",
        [
            *_nearest(
                _D384, prepare=_about(94), products=_about(460), plain=_about(870), measure=(197, 235),
                whole=_about(770), walking=_about(905),
            ),
            *_nearest(
                _D168, products=_about(497), plain=_about(915), measure=(258, 310), whole=_about(875),
                walking=_about(1065),
            ),
            Prediction(_AT_ONCE, 2950, 3090),
        ],
    ),
)  # fmt: skip


def compare(card: str, figures: Mapping[str, float]) -> tuple[str | None, list[dict[str, Any]]]:
    """Hold the figures of a card against the model.

    Parameters
    ----------
    card : str
        What the driver and the board call it.
    figures : mapping of str to float
        Measured, by the names of `Prediction.figure`.

    Returns
    -------
    name : str or None
        Of the card in the model; None if it predicts nothing for this one.
    lines : list of dict
        See `Prediction.against`.
    """
    for name, pattern, predictions in CARDS:
        if re.search(pattern, card):
            return name, [prediction.against(figures.get(prediction.figure)) for prediction in predictions]
    return None, []
