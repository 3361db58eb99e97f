"""Unlabelled piles screened: mixtures of a data set's images with a known share of defects.

    python -m benchmarks screen DATA -o WORK --group DATA/groups.csv --parts 300 --defects 5,10,25 --draws 5

DATA is a data set in MVTec layout, of which every image may be drawn. The features are extracted once and kept in WORK;
everything else, the scale of the features too, is done for each pile from its own images alone. `shuffled` is the AUROC
of the same scores with their labels shuffled: 0.5 unless labels leak. No setting was chosen on the magnetic tiles.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgead.adapt.methods import find_preset
from edgead.adapt.methods.patchcore import PatchCore
from edgead.dataset.folders import LabelledImage, find_good_images, find_test_images
from edgead.dataset.groups import group_images
from edgead.metrics.ranking import auroc
from edgead.unlabelled.screening.features import comparable_features, raw_features
from edgead.unlabelled.screening.mutual import ALIKE, MutualRule, mutual_scores

BACKBONE = "fast"
SHUFFLES = 20


def method() -> PatchCore:
    """Build the method whose backbone computes the features."""
    return PatchCore.from_settings(find_preset(PatchCore.name, BACKBONE))


def main(arguments: list[str]) -> None:
    """Measure and print a row for each share of defects, as it comes."""
    options = _parser().parse_args(arguments)
    images = [LabelledImage(path, "good", None) for path in find_good_images(options.data)]
    images += find_test_images(options.data)
    paths = [image.path for image in images]
    raw = _raw(options.output, paths, options.zoom)
    parts = np.array(group_images(paths, options.group, options.data).of(paths))
    defective = np.array([image.is_defective for image in images])
    rule = MutualRule(options.interval, options.trusted, alike=ALIKE if options.alike else ())
    print(f"{len(paths)} images of {len(set(parts))} parts, {int(defective.sum())} defective; {rule}")
    print("| defects | images | image AUROC | shuffled | CPU s a pile |")
    print("| --- | --- | --- | --- | --- |")
    for share in options.defects:
        found = []
        for draw in range(options.draws):
            pile = draw_pile(defective, share / 100, options.parts, np.random.default_rng([draw, share]))
            start = time.process_time()
            scores, _ = mutual_scores(comparable_features(raw[pile], parts[pile], method()), parts[pile], rule)
            spent = time.process_time() - start
            found.append((auroc(defective[pile], scores), _shuffled(defective[pile], scores), spent))
        areas, shuffled, spent = np.array(found).T
        print(
            f"| {share} % | {options.parts} | {areas.mean():.3f} ({areas.min():.3f} to {areas.max():.3f}) | "
            f"{shuffled.mean():.3f} | {spent.mean():.0f} |",
            flush=True,
        )


def draw_pile(defective: np.ndarray, share: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of so many images, of which a share is defective, drawn at random."""
    wanted = round(share * size)
    chosen = []
    for kind, count in ((False, size - wanted), (True, wanted)):
        members = np.flatnonzero(defective == kind)
        if len(members) < count:
            raise SystemExit(
                f"the data has {len(members)} {'defective' if kind else 'good'} images, {count} are needed"
            )
        chosen.append(rng.choice(members, count, replace=False))
    return np.sort(np.concatenate(chosen))


def _raw(work: Path, paths: Sequence[Path], zoom: int) -> np.ndarray:
    """Raw features of all images, float32 (n, h, w, d), on the disk; extracted where they are not there."""
    file = work / f"screen_{BACKBONE}_{zoom}.npy"
    if not file.is_file():
        work.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part.npy")
        np.save(unfinished, raw_features(method(), paths, roi=None, zoom=zoom))
        unfinished.rename(file)
    raw = np.load(file, mmap_mode="r")
    if len(raw) != len(paths):
        raise SystemExit(
            f"{file} is of {len(raw)} images, the data has {len(paths)}: name another folder, or remove it"
        )
    return raw


def _shuffled(defective: np.ndarray, scores: np.ndarray) -> float:
    rng = np.random.default_rng(0)
    return float(np.mean([auroc(rng.permutation(defective), scores) for _ in range(SHUFFLES)]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks screen", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    rule = MutualRule()
    parser.add_argument("data", type=Path, help="data set in MVTec layout")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="WORK", help="folder of the features")
    parser.add_argument("--group", default="none", help="which images show the same part, as for edgead train")
    parser.add_argument("--parts", type=int, default=300, help="images of a pile")
    parser.add_argument("--defects", type=_numbers, default="5,10,25", metavar="N,...", help="shares in percent")
    parser.add_argument("--draws", type=int, default=5, help="piles of each share")
    parser.add_argument("--zoom", type=int, default=2, help="as of edgead screen")
    parser.add_argument("--interval", type=float, default=rule.interval, help="as of edgead screen")
    parser.add_argument("--trusted", type=float, default=rule.trusted, help="share of the second round; 0 for none")
    parser.add_argument("--alike", action="store_true", help="as of edgead screen")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]
