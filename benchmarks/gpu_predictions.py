"""Predictions of the performance model for NVIDIA cards, made before any card was at hand, beside what was measured.

They come from peak rates, counted instructions and bytes, and published figures of other programs: 30 % either way is
what the model claims for itself. What is measured outside of that refutes it. "measure" and "whole" are those of the
kernel without float64; from the time that its instructions take to that of its loads, one after another.
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
    size: str, *, products: Range, measure: Range, whole: Range, prepare: Range | None = None
) -> list[Prediction]:
    given = {"prepare": prepare, "products": products, "measure": measure, "whole": whole}
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
            *_nearest(_D384, prepare=_about(3), products=(22, 30), measure=(2.5, 5), whole=_about(34)),
            *_nearest(_D168, products=(20, 26), measure=(3, 6), whole=_about(31)),
            Prediction(_AT_ONCE, 75, 105),
            Prediction(f"{_D384} torch half us", 90, 120),
            *_networks("fp16", small=(0.23, 0.35), medium=(0.53, 0.65)),
            *_networks("fp32", small=_about(1.9), medium=_about(5.9)),
        ],
    ),
    (
        "RTX 4090",
        r"RTX 4090",
        [
            *_nearest(_D384, prepare=(4, 5), products=(50, 58), measure=(2, 4), whole=_about(60)),
            *_nearest(_D168, products=_about(48), measure=(2.5, 5), whole=_about(57)),
            Prediction(_AT_ONCE, 150, 175),
            *_networks("fp16", small=_about(0.8), medium=_about(2.4)),
        ],
    ),
    (
        "RTX 3060",
        r"RTX 3060(?! Ti)",
        [
            *_nearest(_D384, prepare=_about(12), products=_about(300), measure=(7, 10), whole=_about(318)),
            Prediction(_AT_ONCE, 1130, 1170),
        ],
    ),
    (
        "AGX Orin 64",
        r"AGX Orin",
        [
            *_nearest(_D384, prepare=_about(20), products=_about(217), measure=(17, 23), whole=_about(260)),
            *_nearest(_D168, products=_about(235), measure=(32, 40), whole=_about(290)),
            Prediction(_AT_ONCE, 890, 920),
        ],
    ),
    (
        "Orin Nano Super",
        r"Orin Nano.*Super",
        [
            *_nearest(_D384, prepare=_about(38), products=_about(545), measure=(44, 59), whole=_about(635)),
            *_nearest(_D168, products=_about(585), measure=(83, 100), whole=_about(710)),
            Prediction(_AT_ONCE, 2260, 2320),
            *_networks("fp16", small=_about(9), medium=_about(28)),
        ],
    ),
    (
        "Orin Nano",
        r"Orin Nano",
        [
            *_nearest(_D384, prepare=_about(56), products=_about(870), measure=(72, 96), whole=_about(1005)),
            *_nearest(_D168, products=_about(915), measure=(135, 165), whole=_about(1115)),
            Prediction(_AT_ONCE, 3590, 3690),
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
