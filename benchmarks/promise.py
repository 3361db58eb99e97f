"""Do thresholds keep the false-reject rate that they promise? Many random splits of good parts that no training saw.

    python -m benchmarks promise MODEL DATA                  # images that training held out, and test/good
    python -m benchmarks promise MODEL synthetic: --rate 0.001 --parts 10000

Every part is scored once by the shipped detector. Each split calibrates on one half and counts rejects on the other.
For a random split that count is beta-binomial whatever the scores (they need only differ), so the mean over the splits
has a distribution that is known exactly; the band holds it with 99.9 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, lgamma
from pathlib import Path

import numpy as np

from edgead.artifact import Artifact
from edgead.calibration import conformal_threshold, images_needed, raised
from edgead.dataset import GOOD
from edgead.demo.line import part_seed, render
from edgead.detector import Detector
from edgead.images import list_images, load_image

RATES = (0.1, 0.05, 0.01)
SPLITS = 200
BAND = 0.999


@dataclass(frozen=True, slots=True)
class Promise:
    """An asked rate, what the guarantee allows and what happened; `low` and `high` are the band of the mean."""

    rate: float
    calibrated: int
    tested: int
    expected: float
    low: float
    high: float
    mean: float
    shipped_mean: float
    worst: float

    @property
    def kept(self) -> bool:
        """The plain quantile is in the band, and the shipped one, which is a little higher, not above it."""
        return self.low <= self.mean <= self.high and self.shipped_mean <= self.high

    def row(self) -> str:
        shares = (self.expected, self.low, self.high, self.mean, self.shipped_mean, self.worst)
        expected, low, high, mean, shipped, worst = (f"{100 * share:.3f} %" for share in shares)
        return (
            f"| {100 * self.rate:g} % | {self.calibrated} / {self.tested} | {expected} | {low} to {high} | {mean} "
            f"| {shipped} | {worst} | {'kept' if self.kept else 'BROKEN'} |"
        )


HEADER = """\
| asked | calibrated / tested | expected | band of the mean, 99.9 % | mean | mean as shipped | worst split | promise |
|---|---|---|---|---|---|---|---|"""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks promise", description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", help="a data set in MVTec layout, or synthetic: for the built-in line")
    parser.add_argument("--rate", type=float, action="append", help=f"default: {RATES}")
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--parts", type=int, default=10_000, help="of the built-in line")
    parser.add_argument("--scores", type=Path, help="a .npy file: read if it is there, else written")
    options = parser.parse_args(arguments)
    scores = load_scores(options)
    print(f"{len(scores)} good parts, {len(np.unique(scores))} distinct scores, {options.splits} random splits\n")
    print(HEADER)
    promises = [measure_promise(scores, rate, options.splits) for rate in options.rate or RATES]
    for promise in promises:
        print(promise.row())
    raise SystemExit(0 if all(promise.kept for promise in promises) else 1)


def measure_promise(scores: np.ndarray, rate: float, splits: int, *, seed: int = 0) -> Promise:
    """Split good scores at random, again and again, and count what the threshold of one half rejects of the other."""
    n = len(scores) // 2
    m = len(scores) - n
    if n < images_needed(rate):
        raise SystemExit(f"a rate of {rate} needs {2 * images_needed(rate)} good parts, found {len(scores)}")
    rng = np.random.default_rng(seed)
    plain, shipped = [], []
    for _ in range(splits):
        mixed = rng.permutation(scores)
        threshold = conformal_threshold(mixed[:n], rate)
        plain.append(np.mean(mixed[n:] > threshold))
        shipped.append(np.mean(mixed[n:] > raised(threshold)))
    above = n + 1 - ceil((n + 1) * (1 - rate) - 1e-9)
    low, high = mean_band(n, m, above, splits)
    return Promise(
        rate=rate,
        calibrated=n,
        tested=m,
        expected=above / (n + 1),
        low=low,
        high=high,
        mean=float(np.mean(plain)),
        shipped_mean=float(np.mean(shipped)),
        worst=float(np.max(shipped)),
    )


def mean_band(n: int, m: int, above: int, splits: int) -> tuple[float, float]:
    """Central interval of the mean share of m parts above the order statistic of n that has `above` - 1 above it.

    One split is beta-binomial with `above` and n + 1 - `above`; the sum of the splits is its convolution with itself.
    """
    j = np.arange(m + 1)
    one = np.exp(_log_choose(j + above - 1, j) + _log_choose(m - j + n - above, m - j) - _log_choose(m + n, m))
    length = splits * m + 1
    total = np.fft.irfft(np.fft.rfft(one, length) ** splits, length)
    cumulative = np.cumsum(total)
    tail = (1 - BAND) / 2
    return (
        float(np.searchsorted(cumulative, tail)) / (splits * m),
        float(np.searchsorted(cumulative, 1 - tail)) / (splits * m),
    )


def load_scores(options: argparse.Namespace) -> np.ndarray:
    """Image scores of good parts that the model was not trained on."""
    if options.scores and options.scores.exists():
        return np.load(options.scores, allow_pickle=False)
    with Detector.load(options.model) as detector:
        parts = _line(options.parts) if options.data == "synthetic:" else _held_out(detector.artifact, options.data)
        scores = np.array([detector.measure(image).image_score for image in parts])
    if options.scores:
        np.save(options.scores, scores, allow_pickle=False)
    return scores


def _line(parts: int) -> Iterator[np.ndarray]:
    """Good parts of the belt: none of them is in a data set of the line."""
    return (render(part_seed(77, index, on_belt=True))[0] for index in range(parts))


def _held_out(artifact: Artifact, data: str) -> Iterator[np.ndarray]:
    from edgead.export.calibration_images import find_calibration_images

    found = find_calibration_images(artifact, Path(data))
    if found.source != "training data":
        raise SystemExit(f"{artifact.path} was not trained on {data}: name the data that it was trained on")
    test = list_images(Path(data) / "test" / GOOD)
    return (load_image(path) for path in [*found.held_out, *test])


def _log_choose(n: np.ndarray | int, k: np.ndarray | int) -> np.ndarray:
    log_factorial = np.vectorize(lgamma, otypes=[float])
    return log_factorial(np.add(n, 1)) - log_factorial(np.add(k, 1)) - log_factorial(np.subtract(n, k) + 1)
