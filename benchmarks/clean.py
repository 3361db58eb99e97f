"""Training sets with defects among the good parts: what `edgead train --clean` leaves out, and what that is worth.

    python -m benchmarks clean PANEL_FOLDER --tiles MAGNETIC_TILES -o WORK --sets brick,bottle

Each draw takes good images to learn from, at most 100, and mixes defects in: 0, 2, 5 and 10 % of all. Half of the
defects may be mixed in, the other half is tested. `left out` are shares of the good images and of the defects; `alarms`
is the share of draws in which a good image was left out. With --train `patchcore --preset fast` learns what is
there, and what is left, and both rank the test set.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.few_shot import build_method, learnt_scores, test_features
from benchmarks.panel_sets import JUDGED, PanelSet, add_panel_arguments, find_sets
from edgead.adapt.frozen_backbone import open_backbone
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.dataset.groups import group_images
from edgead.metrics.ranking import auroc
from edgead.unlabelled.screening.clean import FAR, stand_out
from edgead.unlabelled.screening.features import comparable_features, raw_features
from edgead.unlabelled.screening.mutual import MutualRule, mutual_scores

MAX_GOOD = 100
SHARES = (0.0, 0.02, 0.05, 0.1)


@dataclass(frozen=True, slots=True)
class Pool:
    """The images of a set: good ones to learn from, first, then those of its test set; and how their patches look.

    Attributes
    ----------
    paths : list of Path
    good : int
        So many are to learn from.
    defective : ndarray of shape (n,), bool
    parts : ndarray of shape (n,)
    raw : ndarray of shape (n, h, w, d), float32
    """

    paths: list[Path]
    good: int
    defective: np.ndarray
    parts: np.ndarray
    raw: np.ndarray


@dataclass(frozen=True, slots=True)
class Mixture:
    """Images of a pool to learn from, their scores, and the defects that are not among them."""

    chosen: np.ndarray
    scores: np.ndarray
    tested: np.ndarray


def main(arguments: list[str]) -> None:
    """Measure and print a row for each set and share, as it comes."""
    options = _parser().parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    only = options.sets.split(",") if options.sets else [name for name in JUDGED if options.tiles or name != "tiles"]
    print("| set | defects | good left out | alarms | defects left out | AUROC of all | AUROC of what is left |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for data in find_sets(options.panel, options.output, tiles=options.tiles, only=only):
        pool = read_pool(data, options.output)
        for share in SHARES:
            draws = options.clean_draws if not share else options.draws
            rows = np.array([measure(data, pool, share, draw, options) for draw in range(draws)])
            cells = [_mean(column) for column in rows.T]
            print(f"| {data.name} | {share:.0%} | {' | '.join(cells)} |", flush=True)


def measure(data: PanelSet, pool: Pool, share: float, draw: int, options: argparse.Namespace) -> list[float]:
    """Shares of good images and of defects left out, whether a good one was, and AUROC of all and of what is left."""
    mixture = mix(data, pool, share, draw, options.output)
    left_out = np.zeros(len(mixture.chosen), bool)
    left_out[stand_out(mixture.scores, options.far)] = True
    defective = pool.defective[mixture.chosen]
    found = left_out[defective].mean() if defective.any() else np.nan
    good = left_out[~defective]
    areas = [np.nan, np.nan]
    if options.train and draw < options.draws:
        areas[0] = trained_auroc(data, pool, mixture, np.ones_like(left_out), options.output)
        areas[1] = trained_auroc(data, pool, mixture, ~left_out, options.output) if left_out.any() else areas[0]
    return [good.mean(), float(good.any()), found, *areas]


def mix(data: PanelSet, pool: Pool, share: float, draw: int, work: Path) -> Mixture:
    """Draw good images and defects, and score them by each other; scores are kept in `work`."""
    rng = np.random.default_rng([draw, round(1000 * share)])
    defects = rng.permutation(np.flatnonzero(pool.defective))
    count = min(MAX_GOOD, pool.good * 4 // 5)
    wanted = min(round(share * count / (1 - share)), len(defects) // 2)
    good = rng.choice(pool.good, count, replace=False)
    chosen = np.sort(np.concatenate([good, defects[:wanted]]))
    file = work / f"clean_{data.name}_{round(1000 * share)}_{draw}.npy"
    if not file.is_file():
        features = comparable_features(pool.raw[chosen], pool.parts[chosen], open_backbone("fast"))
        np.save(file, mutual_scores(features, pool.parts[chosen], MutualRule())[0])
    return Mixture(chosen, np.load(file), defects[len(defects) // 2 :])


def trained_auroc(data: PanelSet, pool: Pool, mixture: Mixture, kept: np.ndarray, work: Path) -> float:
    """Image AUROC on the good test images and the defects that are tested."""
    raw, defective = test_features(data, "fast", work)
    places = np.sort(np.concatenate([np.flatnonzero(~defective), mixture.tested - pool.good]))
    good = [pool.paths[index] for index in mixture.chosen[kept]]
    return auroc(defective[places], learnt_scores(build_method("fast"), good, raw[places]))


def read_pool(data: PanelSet, work: Path) -> Pool:
    """List the images of a set; features are extracted once, into `work`."""
    good, tests = find_good_images(data.folder), find_test_images(data.folder)
    paths = [*good, *(image.path for image in tests)]
    file = work / f"clean_{data.name}.npy"
    if not file.is_file():
        np.save(file, raw_features(open_backbone("fast"), paths, roi=None, zoom=2))
    defective = np.array([False] * len(good) + [image.is_defective for image in tests])
    parts = np.array(group_images(paths, data.group, data.folder).of(paths))
    return Pool(paths, len(good), defective, parts, np.load(file, mmap_mode="r"))


def _mean(values: np.ndarray) -> str:
    measured = values[~np.isnan(values)]
    return f"{measured.mean():.3f}" if len(measured) else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks clean", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_panel_arguments(parser, work="folder of features, scores")
    parser.add_argument("--draws", type=int, default=5, help="mixtures of each share")
    parser.add_argument("--clean-draws", type=int, default=20, help="choices of good images without a defect")
    parser.add_argument("--far", type=float, default=FAR, help="deviations above which an image is left out")
    parser.add_argument("--train", action="store_true", help="measure what models are worth, too")
    return parser
