"""Realised false-reject rates on the panel: small trainings drawn from many good images, judged on the others.

    python -m benchmarks rates PANEL_FOLDER --tiles MAGNETIC_TILES -o WORK [--draws 40] [--sets ...]

Features of all good images of a set (of training and test) are computed once with the preset `fast` in fp32. Each draw
takes 20, 60 or 200 of them at random, learns bank, folds and limits by the code of a training, and judges good parts
of other groups. A row: the rate that was asked, what calibration alone would realise with so many exchangeable images,
and the mean over the draws. Where a set has groups of several images, rows of whole groups follow: a new part is of a
new group, and groups weigh the same.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.panel import read_names
from benchmarks.panel_sets import JUDGED, PanelSet, add_panel_arguments, find_sets
from edgead.adapt.frozen_backbone import each_raw
from edgead.adapt.memory_bank.coreset import BankRule
from edgead.adapt.memory_bank.folds import deal_folds
from edgead.adapt.memory_bank.learn import Space, learn_bank
from edgead.adapt.methods.patchcore import PatchCore
from edgead.adapt.training.good_images import GoodImages
from edgead.adapt.training.preset import preset_settings
from edgead.calibration.conformal import calibrate, conformal_rank, images_needed
from edgead.calibration.group_conformal import dense
from edgead.dataset.groups import group_images
from edgead.dataset.images import Images
from edgead.heads.nearest import NearestHead
from edgead.images.files import list_images, load_image
from edgead.images.likeness import look_of

SIZES, RATES = (20, 60, 200), (0.05, 0.1)
# Of the others so many are judged, and a draw is left out where fewer are left.
MOST_JUDGED, FEWEST_JUDGED = 200, 20
ROWS = 1000


@dataclass(frozen=True)
class GoodParts:
    """Raw features (n, h, w, d) of good images, with the group of each, and how they are compared."""

    features: np.ndarray
    groups: np.ndarray
    space: Space
    head: NearestHead
    image_size: tuple[int, int]

    @classmethod
    def of(cls, data: PanelSet) -> GoodParts:
        """Run the backbone over the good images of a set."""
        good = GoodImages(data.folder, group=data.group)
        settings, _ = preset_settings(good, PatchCore.name, "fast", {})
        method = good.build(PatchCore, {**settings, "damp_length": True}, None)
        paths = [path for part in ("train", "test") for path in list_images(data.folder / part / "good")]
        looks = [look_of(load_image(path)) for path in paths]
        spec = method.prepared(good.prepare(method, paths, looks)[0])
        images = Images(paths, spec)
        features = np.stack(list(each_raw(method.backbone, spec, images)))
        space = Space(method.backbone.channels)
        groups = np.array(group_images(paths, data.group, data.folder).of(paths))
        return cls(features, groups, space, method.head, spec.image_size)

    def realised(self, learnt: np.ndarray, judged: np.ndarray, groups: Sequence[int], seed: int) -> list[float]:
        """Learn from some images; the share of the judged ones above the limit of each of `RATES`, or NaN."""
        folds = deal_folds(groups, seed)
        patches = self.features[learnt].reshape(-1, self.features.shape[-1]).copy()
        bank = learn_bank(patches, groups, folds, BankRule(1.0, ROWS, 1, seed), self.space)
        head = self.head.model_copy(update={"folds": bank.folds, "own_metrics": True})

        def outputs(numbers: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
            for number in numbers.tolist():
                rows = self.features[number].reshape(-1, self.features.shape[-1]).copy()
                bank.scale.standardise(rows)
                yield {"features": (rows @ bank.metric).reshape(1, *self.features[number].shape)}

        like = next(outputs(learnt[:1]))
        whole = head.open(like, bank.arrays, self.image_size)
        left_out = np.empty(len(learnt))
        for fold in range(bank.folds):
            own = np.flatnonzero(folds == fold)
            scorer = head.open_left_out(like, bank.arrays, self.image_size, fold, whole)
            left_out[own] = [scorer.score(one).image_score for one in outputs(learnt[own])]
        scores = np.array([whole.score(one).image_score for one in outputs(judged)])
        found, weights = [], 1 / np.bincount(self.groups[judged])[self.groups[judged]]
        for rate in RATES:
            if len(set(groups)) < images_needed(rate):
                found.append(math.nan)
                continue
            several = groups if len(set(groups)) < len(groups) else None
            limits = calibrate(left_out, left_out, left_out, false_reject_rate=rate, groups=several)
            found.append(float(np.average(scores > limits.reject, weights=weights)))
        return found


def draw(parts: GoodParts, size: int, rng: np.random.Generator, *, whole_groups: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draw images to learn, one of each group or whole groups, and those of other groups that are judged."""
    order = rng.permutation(len(parts.groups))
    by_group = list(dict.fromkeys(parts.groups[order].tolist()))
    if whole_groups:
        sizes = np.bincount(parts.groups)
        count = int(np.searchsorted(np.cumsum(sizes[by_group]), size)) + 1
        learnt = np.flatnonzero(np.isin(parts.groups, by_group[:count]))
        rest = by_group[count:]
    else:
        first = [next(i for i in order.tolist() if parts.groups[i] == group) for group in by_group]
        learnt, rest = np.array(first[:size]), by_group[size:]
    judged = np.array([i for i in order.tolist() if parts.groups[i] in set(rest)][:MOST_JUDGED], int)
    return learnt, judged


def measure(parts: GoodParts, size: int, draws: int, *, whole_groups: bool) -> str:
    """Give the cells of a row, or '' where too few images are left to judge."""
    found, learnt_groups = [], []
    for seed in range(draws):
        learnt, judged = draw(parts, size, np.random.default_rng((seed, size)), whole_groups=whole_groups)
        if len(learnt) < size or len(judged) < FEWEST_JUDGED:
            return ""
        groups = dense(parts.groups[learnt].tolist())
        learnt_groups.append(len(set(groups)))
        found.append(parts.realised(learnt, judged, groups, seed))
    shares = np.array(found)
    count = round(float(np.mean(learnt_groups)))
    cells = [f"{size}", f"{count}"]
    for rate, column in zip(RATES, shares.T, strict=True):
        kept = column[~np.isnan(column)]
        if not len(kept):
            cells.append("refused")
            continue
        possible = 1 - conformal_rank(count, rate) / (count + 1)
        error = kept.std(ddof=1) / math.sqrt(len(kept)) if len(kept) > 1 else math.nan
        alone = "" if whole_groups else f" ({100 * possible:.1f} %)"
        cells.append(f"{100 * rate:g} %{alone}: {100 * kept.mean():.1f} +- {100 * error:.1f} %")
    return " | ".join(cells)


def main(arguments: list[str]) -> None:
    """Measure each set."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks rates", description=__doc__)
    add_panel_arguments(parser, work="folder of data")
    parser.add_argument("--draws", type=int, default=40)
    options = parser.parse_args(arguments)
    print("| set | images | groups | asked (by calibration alone): realised | |", flush=True)
    only = read_names(options.sets) or JUDGED
    for data in find_sets(options.panel, options.output, tiles=options.tiles, only=only):
        parts = GoodParts.of(data)
        grouped = len(set(parts.groups.tolist())) < len(parts.groups)
        for whole_groups in (False, True) if grouped else (False,):
            for size in SIZES:
                if cells := measure(parts, size, options.draws, whole_groups=whole_groups):
                    print(f"| {data.name}{', whole groups' * whole_groups} | {cells} |", flush=True)
