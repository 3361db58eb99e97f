"""Checks of images that are taught as good, against the scores of known good parts.

Good parts under another light differ everywhere a little: the whole map of anomalies rises, and the peak with it. A
defect raises the map in one place and leaves the rest as it was. Another product is far from everything good
everywhere. So two ratios decide, both 1 for the good parts that thresholds came from: the median of the map over the
median of their maps, and the image score over the median of the map.

The ratios do not find a defect that changes as little as light does: for that a person looks at the sheet of images,
and the manifest records who taught.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgead.artifact.kinds import LEAST_BAD
from edgead.artifact.manifest import Calibration
from edgead.calibration.blind import MAX_REJECTED, OTHER_PRODUCT
from edgead.dataset.folders import Progress
from edgead.detector import Detector, Measurement
from edgead.errors import SettingsError
from edgead.images.files import write_image
from edgead.images.overlay import draw_overlay
from edgead.images.sheet import contact_sheet
from edgead.metrics.robust import robust_deviation
from edgead.types import score_texts

# On the built-in line a quarter more light, half the light, another colour, light from the side and defocus stay below
# 1.2; a missing hole is above. A reflection and clipped exposure are above too, as they change one place like a defect;
# half of the dents and stains, most scratches and all cracks are below, as they change little.
ONE_PLACE = 1.2
# If good scores themselves vary widely, by so many robust deviations of their logarithm, one place may deviate more.
WIDE = 6.0
# Good parts of the benchmark's data sets seldom score this far above the limit; most defects do.
LIKE_DEFECTS = 1.1
# A bad part looks like good ones if at most this share of them scores lower.
LIKE_GOOD = 0.75
MAX_TILES = 24


class LessonRefusedError(SettingsError):
    """Refusal of a lesson: images are not good, or learning them would let defects pass; the message names them.

    `doubtful`: images far from all good parts, which may still be taught with a reason; empty if a reason does not
        help.
    """

    def __init__(self, message: str, doubtful: Sequence[Offered] = ()):
        super().__init__(message)
        self.doubtful = list(doubtful)

    def to_dict(self) -> dict[str, object]:
        """Return the refusal as plain JSON types."""
        return {"refused": str(self), "doubtful": [one.to_dict() for one in self.doubtful]}


@dataclass(frozen=True, slots=True)
class Offered:
    """An image to learn, its score by the present model, and why it may not be good ('' if there is no doubt)."""

    path: Path
    score: float
    limit: float
    doubt: str
    typical: float | None = None

    def to_dict(self) -> dict[str, object]:
        scores = {"score": self.score, "typical": self.typical, "limit": self.limit}
        return {"image": str(self.path), **scores, "doubt": self.doubt}

    @property
    def label(self) -> str:
        """Folder and name of the image, its score and the limit."""
        score, limit = score_texts(self.score, self.limit, self.typical, self.limit)
        return f"{Path(*self.path.parts[-2:])}: score {score} (limit {limit})"


def examine(detector: Detector, paths: Sequence[Path], progress: Progress | None = None) -> list[Offered]:
    """Measure images with the model that shall learn them; return doubtful ones first, then by score.

    A single image that scores like a defect may be a false reject, a reason to teach; if most do, all are doubtful.
    """
    limits = detector.graph.calibration
    assert limits is not None
    offered = []
    for done, path in enumerate(paths, 1):
        measured = detector.measure(detector.read_image(path))
        offered.append(Offered(path, measured.image_score, limits.reject, doubt_of(measured, limits), limits.typical))
        if progress:
            progress(done, len(paths))
    high = [one for one in offered if one.score > LIKE_DEFECTS * one.limit]
    if len(high) > MAX_REJECTED * len(offered):
        words = f"{len(high)} of these {len(offered)} score like defects"
        offered = [replace(one, doubt=one.doubt or words) if one in high else one for one in offered]
    return sorted(offered, key=lambda one: (not one.doubt, -one.score))


def warn_of_like_good(detector: Detector, bad: Sequence[Path], progress: Progress | None = None) -> list[str]:
    """Return a list with a warning if bad parts score like good parts; empty if no scores of good parts are known."""
    limits = detector.graph.calibration
    assert limits is not None
    highest = np.quantile(limits.scores, LIKE_GOOD) if limits.scores else -math.inf
    like_good = [one for one in examine(detector, bad, progress) if one.score <= highest]
    if not like_good:
        return []
    lowest = min(like_good, key=lambda one: one.score)
    return [
        f"{len(like_good)} of {len(bad)} bad parts look like good ones to this model, such as {lowest.label}: a limit "
        f"that stops them stops {100 * (1 - LIKE_GOOD):.0f} % of the good parts or more. Take back wrong marks. "
        f"Of others {LEAST_BAD} or more teach known defects, and the report says what that finds; else take a finer "
        "preset, a region or tiles"
    ]


def doubt_of(measured: Measurement, limits: Calibration) -> str:
    """Say why an image may not show a good part; empty for no doubt, or if no scores of good parts are known."""
    everywhere, place = ratios(measured, limits)
    if everywhere > OTHER_PRODUCT:
        return f"all of it is {everywhere:.1f} times as far from what is good as usual: another product?"
    if place > max(ONE_PLACE, math.exp(WIDE * _spread(limits))):
        return f"one place stands out {place:.2f} times as far as in good images: a defect?"
    return ""


def ratios(measured: Measurement, limits: Calibration) -> tuple[float, float]:
    """Return two ratios: how far the whole image, and how far one place in it, is from good parts; 1 is usual.

    Scores that are not distances (0 or less for good parts) have no ratios: both are 1.
    """
    usual = limits.typical
    if usual is None or usual <= 0 or limits.map_typical <= 0:
        return 1.0, 1.0
    everywhere = float(np.median(measured.anomaly_map)) / limits.map_typical
    return everywhere, measured.image_score / usual / max(everywhere, 1.0)


def _spread(limits: Calibration) -> float:
    return robust_deviation(np.log(np.maximum(limits.scores, np.finfo(float).tiny)))


def write_sheet(detector: Detector, offered: Sequence[Offered], path: Path, bad: Sequence[Path] = ()) -> None:
    """Draw the first images with heat map, verdict and doubt into one image file, then the bad parts."""
    tiles = []
    for one in offered[:MAX_TILES]:
        image = detector.read_image(one.path)
        drawn = draw_overlay(detector.visible(image), detector.predict(image))
        tiles.append((drawn, "IN DOUBT  " * bool(one.doubt) + one.label))
    for defect in bad[: MAX_TILES - len(tiles)]:
        image = detector.read_image(defect)
        drawn = draw_overlay(detector.visible(image), detector.predict(image))
        tiles.append((drawn, f"BAD  {Path(*defect.parts[-2:])}"))
    write_image(path, contact_sheet(tiles))


def refuse_doubtful(offered: Sequence[Offered], sheet: Path | None) -> None:
    """Raise LessonRefusedError if some of the images are doubtful."""
    doubtful = [one for one in offered if one.doubt]
    if not doubtful:
        return
    named = "".join(f"\n  {one.label}; {one.doubt}" for one in doubtful[:8])
    more = f"\n  and {len(doubtful) - 8} more" if len(doubtful) > 8 else ""
    look = f"{sheet} shows them: " if sheet else ""
    raise LessonRefusedError(
        f"{len(doubtful)} of {len(offered)} images stand far from anything good, and nothing was learnt:{named}{more}\n"
        f"{look}look at all {len(offered)}, as defects may score like good parts. Leave out what is not good; if all "
        'are good, say why with --reason "...", which the model keeps',
        doubtful,
    )
