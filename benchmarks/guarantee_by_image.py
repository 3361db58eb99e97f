"""What calibration by image gives where parts come in batches: it looks kept on the batches that it was made on.

Who takes parts as exchangeable needs few of them, and they may come from few batches. Random parts of those batches
make the threshold (plain split conformal), the other parts of the same batches test it: that is the test of a split by
image, and it agrees. Then parts of batches that are in neither are counted. A model that was trained on a split by
image has seen every batch that it was calibrated on as well; its shipped threshold shows both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from benchmarks.guarantee_band import mean_band
from edgead.artifact.manifest import PROVEN, Calibration
from edgead.calibration.conformal import CalibrationError, conformal_threshold, images_needed, raised
from edgead.calibration.plan import plan_calibration

BY_IMAGE_HEADER = """\
| asked | calibrated: parts / batches | rejected in the same batches | rejected in unseen batches | worst split |
|---|---|---|---|---|"""


@dataclass(frozen=True, slots=True)
class ByImage:
    """Means over the splits of what the threshold of `parts` parts of `batches` batches rejects, and the worst split.

    `same` is of the other parts of these batches, `unseen` and `worst` of batches of the other half.
    """

    rate: float
    parts: int
    batches: int
    same: float
    unseen: float
    worst: float

    def row(self) -> str:
        shares = " | ".join(f"{100 * share:.3f} %" for share in (self.same, self.unseen, self.worst))
        return f"| {100 * self.rate:g} % | {self.parts} / {self.batches} | {shares} |"


@dataclass(frozen=True, slots=True)
class TooFew:
    """The batches of one half do not have the parts; `ByImage` cannot be measured."""

    rate: float
    needed: int
    found: int

    def row(self) -> str:
        return (
            f"| {100 * self.rate:g} % | refused: needs {self.needed} batches in each half, found {self.found} | | | |"
        )


def parts_by_image(images: int, rate: float) -> int:
    """How many of so many good images a split by image holds out; where they are too few, what the rate needs."""
    try:
        return plan_calibration(images, rate)[0]
    except CalibrationError:
        return images_needed(rate)


def measure_by_image(
    batches: Sequence[np.ndarray], rate: float, parts: int, splits: int, *, seed: int = 0
) -> ByImage | TooFew:
    """Split the batches into halves again and again, and calibrate by image on a few batches of the first.

    Parameters
    ----------
    batches : sequence of ndarray
        Scores of each batch; all have as many parts as the first.
    rate : float
    parts : int
        Parts that calibrate: half of the parts of as few batches as have them.
    splits : int
    """
    few, half = ceil(2 * parts / len(batches[0])), len(batches) // 2
    if few > half:
        return TooFew(rate, few, half)
    rng = np.random.default_rng(seed)
    same, unseen = [], []
    for _ in range(splits):
        order = rng.permutation(len(batches))
        mixed = rng.permutation(np.concatenate([batches[i] for i in order[:few]]))
        threshold = raised(conformal_threshold(mixed[:parts], rate))
        same.append(np.mean(mixed[parts:] > threshold))
        unseen.append(np.mean([np.mean(batches[i] > threshold) for i in order[half:]]))
    return ByImage(rate, parts, few, float(np.mean(same)), float(np.mean(unseen)), float(np.max(unseen)))


def shipped_thresholds(batches: Sequence[np.ndarray], limits: Calibration) -> str:
    """Say what the threshold that a model came with rejects of unseen batches, and what its calibration allows.

    The band is that of one calibration on exchangeable images; where it has groups, on one part of each, a guide then.
    """
    rejected = float(np.mean([np.mean(batch > limits.reject) for batch in batches]))
    text = f"The model's own threshold: asked {100 * limits.false_reject_rate:g} %, rejected {100 * rejected:.3f} %"
    if limits.method not in PROVEN:
        return f"{text}; {limits.method} guarantees nothing"
    count = len(set(limits.groups)) or len(limits.scores)
    what = "groups" if limits.groups else "images, each taken as its own group"
    tested = len(batches) if limits.groups else sum(map(len, batches))
    low, high = mean_band(count, tested, (count + 1) * limits.false_reject_rate, 1)
    verdict = "above the band: BROKEN" if rejected > high else "not above the band"
    return (
        f"{text}; calibrated on {count} {what}, band of a single calibration, 99.9 %: {100 * low:.3f} % to "
        f"{100 * high:.3f} %; {verdict}"
    )
