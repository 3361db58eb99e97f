"""Do thresholds keep the false-reject rate that they guarantee? Many random splits of good parts that no training saw.

    python -m benchmarks guarantee MODEL DATA                  # images that training held out, and test/good
    python -m benchmarks guarantee MODEL DATA --group groups.csv
    python -m benchmarks guarantee MODEL synthetic: --rate 0.001 --parts 10000
    python -m benchmarks guarantee MODEL synthetic: --batches 200 --parts-per-batch 50

Every part is scored once by the shipped detector. Each split calibrates on one half of the groups of images and counts
rejects in the other; where no group has several images, on one half of the images.

With one image of each group, drawn at random, the count is beta-binomial for a random split whatever the scores (they
need only differ), so the mean over the splits has a distribution that is known exactly; the band holds it with 99.9 %.
The threshold that ships weighs all images of the groups. The rate that it realises, each group weighing the same, has a
mean of at most the asked rate and no known distribution; it must not be above a band around the asked rate itself.

With batches of the built-in line, a second table has what calibration by image gives: `benchmarks.guarantee_by_image`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from benchmarks.batches import batch_scores
from benchmarks.guarantee_band import mean_band
from benchmarks.guarantee_by_image import BY_IMAGE_HEADER, measure_by_image, parts_by_image, shipped_thresholds
from edgead.artifact.folder import Artifact
from edgead.artifact.training_hashes import find_learnt
from edgead.calibration.conformal import conformal_threshold, images_needed, raised
from edgead.dataset.folders import GOOD, find_good_images
from edgead.dataset.groups import AUTO, group_images
from edgead.detector import Detector
from edgead.images.files import list_images, load_image
from edgead.synthetic.line import part_seed, render

LINE = "synthetic:"
RATES = (0.1, 0.05, 0.01)
SPLITS = 200
GROUP_SPLITS = 50


@dataclass(frozen=True, slots=True)
class Guarantee:
    """An asked rate, what the guarantee allows and what happened; `low` and `high` are the band of the mean.

    `allowed` is the most that the mean of the shipped threshold may be.
    """

    rate: float
    calibrated: int
    tested: int
    expected: float
    low: float
    high: float
    allowed: float
    mean: float
    shipped_mean: float
    worst: float

    @property
    def kept(self) -> bool:
        """The plain quantile is in the band, and the shipped one not above what is allowed."""
        return self.low <= self.mean <= self.high and self.shipped_mean <= self.allowed

    def row(self) -> str:
        shares = (self.expected, self.low, self.high, self.mean, self.shipped_mean, self.worst)
        expected, low, high, mean, shipped, worst = (f"{100 * share:.3f} %" for share in shares)
        return (
            f"| {100 * self.rate:g} % | {self.calibrated} / {self.tested} | {expected} | {low} to {high} | {mean} "
            f"| {shipped} | {worst} | {'kept' if self.kept else 'BROKEN'} |"
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """A rate that the parts cannot support; there is nothing to keep."""

    rate: float
    needed: int
    found: int
    kept: bool = True

    def row(self) -> str:
        return f"| {100 * self.rate:g} % | refused: needs {self.needed} in each half, found {self.found} | | | | | | |"


@dataclass(frozen=True, slots=True)
class Scores:
    """Image scores of good parts that the model was not trained on, float64 (n,), and the group of each, int (n,)."""

    values: np.ndarray
    groups: np.ndarray

    @classmethod
    def single(cls, values: np.ndarray) -> Scores:
        """Each part is its own group."""
        return cls(values, np.arange(len(values)))

    @property
    def are_single(self) -> bool:
        return len(np.unique(self.groups)) == len(self.groups)

    def members(self) -> list[np.ndarray]:
        """Scores of each group."""
        return [self.values[self.groups == number] for number in np.unique(self.groups)]


HEADER = """\
| asked | calibrated / tested | expected | band of the mean, 99.9 % | mean | mean as shipped | worst split | guarantee |
|---|---|---|---|---|---|---|---|"""


def main(arguments: list[str]) -> None:
    """Print what the splits give; exit status 1 where a guarantee is broken."""
    options = _options(arguments)
    scores = load_scores(options)
    splits = options.splits or (SPLITS if scores.are_single else GROUP_SPLITS)
    groups = "" if scores.are_single else f" in {len(np.unique(scores.groups))} groups"
    distinct = len(np.unique(scores.values))
    print(f"{len(scores.values)} good parts{groups}, {distinct} distinct scores, {splits} random splits\n")
    print(HEADER)
    rates = options.rate or RATES
    guarantees = [measure_guarantee(scores, rate, splits) for rate in rates]
    for guarantee in guarantees:
        print(guarantee.row())
    if options.batches:
        _print_by_image(Artifact.load(options.model), scores.members(), rates, splits)
    raise SystemExit(0 if all(guarantee.kept for guarantee in guarantees) else 1)


def measure_guarantee(scores: Scores, rate: float, splits: int, *, seed: int = 0) -> Guarantee | Refused:
    """Split the groups at random, again and again, and count what the threshold of one half rejects of the other."""
    members = scores.members()
    n = len(members) // 2
    m = len(members) - n
    if n < images_needed(rate):
        return Refused(rate, images_needed(rate), n)
    rng, draw = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    plain, shipped = [], []
    for _ in range(splits):
        mixed = [members[i] for i in rng.permutation(len(members))]
        one = np.array([draw.choice(group) for group in mixed])
        plain.append(np.mean(one[n:] > conformal_threshold(one[:n], rate)))
        shipped.append(shipped_rate(mixed[:n], mixed[n:], rate))
    above = n + 1 - ceil((n + 1) * (1 - rate) - 1e-9)
    low, high = mean_band(n, m, above, splits)
    return Guarantee(
        rate=rate,
        calibrated=n,
        tested=m,
        expected=above / (n + 1),
        low=low,
        high=high,
        allowed=high if scores.are_single else mean_band(n, m, (n + 1) * rate, splits)[1],
        mean=float(np.mean(plain)),
        shipped_mean=float(np.mean(shipped)),
        worst=float(np.max(shipped)),
    )


def shipped_rate(calibrated: Sequence[np.ndarray], tested: Sequence[np.ndarray], rate: float) -> float:
    """Share that the threshold of some groups, as it ships, rejects of others, each of which weighs the same."""
    groups = [number for number, group in enumerate(calibrated) for _ in group]
    threshold = raised(conformal_threshold(np.concatenate(calibrated), rate, groups))
    return float(np.mean([np.mean(group > threshold) for group in tested]))


def load_scores(options: argparse.Namespace) -> Scores:
    """Score good parts, or read their scores; a file holds scores, or scores and below them groups."""
    if options.batches:
        return Scores(*batch_scores(options.model, options.batches, options.parts_per_batch, cache=options.scores))
    if options.scores and options.scores.exists():
        kept = np.load(options.scores, allow_pickle=False)
        return Scores.single(kept) if kept.ndim == 1 else Scores(kept[0], kept[1].astype(int))
    with Detector.load(options.model) as detector:
        if options.data == LINE:
            found = Scores.single(_score(detector, _line(options.parts)))
        else:
            paths, groups = _unseen(detector.artifact, Path(options.data), options.group)
            found = Scores(_score(detector, map(load_image, paths)), np.array(groups))
    if options.scores:
        kept = found.values if found.are_single else np.stack([found.values, found.groups])
        np.save(options.scores, kept, allow_pickle=False)
    return found


def _score(detector: Detector, images: Iterable[np.ndarray]) -> np.ndarray:
    return np.array([detector.measure(image).image_score for image in images])


def _line(parts: int) -> Iterator[np.ndarray]:
    """Good parts of the conveyor: none of them is in a data set of the line."""
    return (render(part_seed(77, index, on_conveyor=True))[0] for index in range(parts))


def _unseen(artifact: Artifact, data: Path, rule: str | None) -> tuple[list[Path], list[int]]:
    """Good images of groups of which the model has learnt none, and the groups."""
    good = find_good_images(data)
    learnt = find_learnt(artifact, good)
    if not learnt:
        raise SystemExit(f"{artifact.path} was not trained on {data}: name the data that it was trained on")
    rule = rule or artifact.manifest.training.get("groups", {}).get("rule", AUTO)
    paths = [*good, *list_images(data / "test" / GOOD)]
    groups = group_images(paths, rule, data)
    print(groups.account)
    known = set(groups.of(learnt))
    unseen = [path for path in paths if groups.numbers[path] not in known]
    return unseen, groups.of(unseen)


def _print_by_image(artifact: Artifact, batches: Sequence[np.ndarray], rates: Sequence[float], splits: int) -> None:
    """The same scores calibrated as if parts were exchangeable, and the thresholds that the model came with."""
    limits = artifact.graph().calibration
    images = sum(artifact.manifest.training.get(f"{use}_images", 0) for use in ("training", "calibration"))
    print(f"\nBy image, calibrated on parts of a few batches of one half:\n\n{BY_IMAGE_HEADER}")
    for rate in rates:
        print(measure_by_image(batches, rate, parts_by_image(images, rate), splits).row())
    if limits:
        print(f"\n{shipped_thresholds(batches, limits)}")


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks guarantee", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("data", help=f"a data set in MVTec layout, or {LINE} for the built-in line")
    parser.add_argument("--rate", type=float, action="append", help=f"default: {RATES}")
    parser.add_argument("--splits", type=int, help=f"default: {GROUP_SPLITS} of groups, {SPLITS} of images")
    parser.add_argument("--group", help="which images belong together, as for edgead train; default: as it was there")
    parser.add_argument("--parts", type=int, default=10_000, help="of the built-in line without batches")
    parser.add_argument("--batches", type=int, help="score so many batches of the built-in line, in none of its sets")
    parser.add_argument("--parts-per-batch", type=int, default=50)
    parser.add_argument("--scores", type=Path, help="a .npy file, of batches a .npz: read if it is there, else written")
    options = parser.parse_args(arguments)
    if options.batches is not None and options.data != LINE:
        parser.error(f"--batches are those of the built-in line: give {LINE} instead of {options.data}, or --group")
    if options.batches is not None and options.batches < 2:
        parser.error(f"--batches must be at least 2, one half to calibrate on and one to test, found {options.batches}")
    return options
