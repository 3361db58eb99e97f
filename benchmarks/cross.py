"""Do cross-conformal thresholds keep their rate, and what do they win? Many random splits of good parts, by group.

    python -m benchmarks cross PANEL --tiles MAGNETIC_TILES -o WORK --splits 200

Each split deals the groups of all good images to two halves. One is what a user has: thresholds come from it as
`edgead train` makes them, cross-conformal from all of its images, and split conformal from a fifth that is held out.
The other half are parts to come, of which the rejected are counted; and so are the defects of the test set that pass.

Features are extracted once, and scale and metric learnt once, from all good images. The groups are dealt to cells, each
with a coreset of its own, and the distance of every patch to each cell is measured once: a bank is then the union of
cells, a fold two of them, and a split a matter of minima. What is usual at a place is learnt in each split.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.panel_sets import PanelSet, find_sets
from benchmarks.panel_settings import build_settings
from edgead import kernels
from edgead.calibration.conformal import conformal_threshold, images_needed, raised
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.dataset.groups import group_images
from edgead.dataset.images import Images
from edgead.heads.nearest import NearestHead
from edgead.heads.patches import ImageScorer
from edgead.memory_bank.folds import FOLDS
from edgead.memory_bank.usual_scores import LEAST_GROUPS, fit_usual_scores

RATES = (0.02, 0.05, 0.1)
CELLS = 4 * FOLDS  # half of them are learnt, two a fold


@dataclass(frozen=True, slots=True)
class Distances:
    """How far every patch of a set's images is from each cell, and what the images are.

    Attributes
    ----------
    good, defects : ndarray of shape (images, patches, cells), float32
    groups, cells : ndarray of shape (good images,)
        The group of each good image, and the cell that it is in.
    head : NearestHead
    grid : (int, int)
    """

    good: np.ndarray
    defects: np.ndarray
    groups: np.ndarray
    cells: np.ndarray
    head: NearestHead
    grid: tuple[int, int]

    def scores(self, distances: np.ndarray, usual: np.ndarray | None) -> np.ndarray:
        """Image scores, (n,), of distances to the nearest row (n, patches)."""
        head = self.head.model_copy(update={"by_place": usual is not None})
        scorer = ImageScorer(head, self.grid, usual)
        return np.array([scorer.image_score(scorer.of_scores(one)) for one in distances])


def measure_distances(data: PanelSet, preset: str) -> Distances:
    """Extract features and measure all distances."""
    import torch

    from edgead.methods.device import CPU
    from edgead.methods.extraction import extract_patches
    from edgead.methods.patchcore import PatchCore

    (setting,) = build_settings([preset])
    model = PatchCore.from_settings({**setting.of(data), "max_patches": 10**9})
    tests = find_test_images(data.folder)
    paths = [*find_good_images(data.folder), *(one.path for one in tests if not one.is_defective)]
    groups = np.array(group_images(paths, data.group, data.folder).of(paths))
    patches = extract_patches(
        model.network,
        Images(paths, model.preprocessing),
        model.grid,
        max_patches=10**9,
        groups=groups.tolist(),
        rng=np.random.default_rng(0),
        device=CPU,
        progress=lambda done, total: None,
    ).reshape(len(paths), -1, model.network.mean.numel())
    distinct = np.unique(groups)
    count = min(CELLS, len(distinct) // 2 * 2)
    dealt = np.random.default_rng(0).permutation(len(distinct)) % count
    cells = dealt[np.searchsorted(distinct, groups)]
    rows = [_coreset(patches[cells == cell], 2 * model.config.memory_bank_size // count) for cell in range(count)]
    search = kernels.GroupedPatches(np.concatenate(rows), [len(one) for one in rows])
    good = np.stack([search.search(one) for one in patches])
    del patches
    defective = Images([one.path for one in tests if one.is_defective], model.preprocessing)
    defects = np.empty((len(defective), *good.shape[1:]), np.float32)
    for number in range(len(defective)):
        with torch.inference_mode():
            features = model.network(torch.from_numpy(defective[number])[None])[0].numpy()
        defects[number] = search.search(features.reshape(good.shape[1], -1))
    return Distances(good, defects, groups, cells, model.head, model.grid)


def _coreset(patches: np.ndarray, most: int) -> np.ndarray:
    flat = np.ascontiguousarray(patches.reshape(-1, patches.shape[-1]))
    return flat[kernels.greedy_coreset(flat, min(most, len(flat)))]


@dataclass(frozen=True, slots=True)
class Realised:
    """What the thresholds of one split do: shares of parts to come that are rejected, and of defects that pass."""

    rejected: dict[float, float]
    passed: dict[float, float]


def split_at_random(found: Distances, seed: int) -> tuple[Realised, Realised]:
    """Cross-conformal and split conformal thresholds of one half of the cells, counted on the other."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(found.good.shape[2])
    ours, theirs = order[: len(order) // 2], order[len(order) // 2 :]
    known, new = np.isin(found.cells, ours), np.isin(found.cells, theirs)
    fold_of_cell = dict(zip(ours.tolist(), (np.arange(len(ours)) % FOLDS).tolist(), strict=True))
    folds = np.array([fold_of_cell.get(cell, -1) for cell in found.cells.tolist()])
    several = len(np.unique(found.groups[known])) >= LEAST_GROUPS

    # Every image of the half by what the other folds gave.
    left_out = np.concatenate(
        [
            found.good[known & (folds == fold)][..., [cell for cell in ours if fold_of_cell[int(cell)] != fold]].min(2)
            for fold in range(int(folds.max()) + 1)
        ]
    )
    groups = np.concatenate([found.groups[known & (folds == fold)] for fold in range(int(folds.max()) + 1)])
    usual = _usual(left_out, found.grid) if several else None
    cross = _count(found, found.scores(left_out, usual), groups, ours, usual, new)

    held_out = ours[: max(1, len(ours) // 5)]
    learnt = ours[len(held_out) :]
    inside = np.isin(found.cells, held_out)
    # What is usual was learnt from the learnt images alone.
    rest = np.isin(groups, found.groups[inside], invert=True)
    usual = _usual(left_out[rest], found.grid) if several else None
    scores = found.scores(found.good[inside][..., learnt].min(2), usual)
    return cross, _count(found, scores, found.groups[inside], learnt, usual, new)


def _usual(maps: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    return fit_usual_scores(maps.reshape(len(maps), *grid))


def _count(
    found: Distances,
    scores: np.ndarray,
    groups: np.ndarray,
    bank: np.ndarray,
    usual: np.ndarray | None,
    new: np.ndarray,
) -> Realised:
    """Make thresholds from scores of good images, and judge other good images and defects by a bank of cells."""
    to_come = found.scores(found.good[new][..., bank].min(2), usual)
    defects = found.scores(found.defects[..., bank].min(2), usual)
    share = np.array([1 / np.sum(found.groups[new] == group) for group in found.groups[new]])
    rejected, passed = {}, {}
    for rate in RATES:
        if len(np.unique(groups)) < images_needed(rate):
            continue
        limit = raised(conformal_threshold(scores, rate, groups.tolist()))
        rejected[rate] = float(np.average(to_come > limit, weights=share))
        passed[rate] = float(np.mean(defects <= limit))
    return Realised(rejected, passed)


HEADER = """\
| set | groups (images) a half | asked | rejected, cross: mean (5 to 95 % of splits) | split: mean (5 to 95 %) \
| defects passed, cross | split |
|---|---|---|---|---|---|---|"""


def rows(name: str, found: Distances, splits: Sequence[tuple[Realised, Realised]]) -> list[str]:
    """Lines of the table of one set."""
    half = f"{len(np.unique(found.groups)) // 2} ({len(found.groups) // 2})"
    lines = []
    for rate in RATES:
        cells = [name, half, f"{100 * rate:g} %"]
        for which in (0, 1):
            shares = [100 * split[which].rejected[rate] for split in splits if rate in split[which].rejected]
            low, high = np.percentile(shares, (5, 95)) if shares else (0, 0)
            cells.append(f"{np.mean(shares):.1f} % ({low:.1f} to {high:.1f})" if shares else "cannot")
        for which in (0, 1):
            shares = [100 * split[which].passed[rate] for split in splits if rate in split[which].passed]
            cells.append(f"{np.mean(shares):.1f} %" if shares else "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks cross", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("panel", type=Path, help="folder of data sets in MVTec layout")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="WORK", help="folder of data and results")
    parser.add_argument("--tiles", type=Path, help="folder of the magnetic tiles, with lay_by_tile.py")
    parser.add_argument("--sets", default="", metavar="NAME,...", help="only these; tiles and line are two of them")
    parser.add_argument("--preset", default="default", help="of patchcore")
    parser.add_argument("--splits", type=int, default=200)
    options = parser.parse_args(arguments)
    only = [name for name in options.sets.split(",") if name]
    print(HEADER)
    for data in find_sets(options.panel, options.output, tiles=options.tiles, only=only):
        found = measure_distances(data, options.preset)
        splits = [split_at_random(found, seed) for seed in range(options.splits)]
        kept = [[{"rejected": one.rejected, "passed": one.passed} for one in split] for split in splits]
        (options.output / f"cross-{data.name}.json").write_text(json.dumps(kept), encoding="utf-8")
        print("\n".join(rows(data.name, found, splits)), flush=True)
