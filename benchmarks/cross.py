"""Do cross-conformal thresholds keep their rate, and what do they win? Many random splits of good parts, by group.

    python -m benchmarks cross PANEL --tiles MAGNETIC_TILES -o WORK --splits 200

Each split deals the groups of all good images to two halves. One is what a user has: everything is learnt from it as
`edgead train` does, and thresholds come from it, cross-conformal from all of its images, and split conformal from a
fifth that is held out of another training. The other half are parts to come, of which the rejected are counted; and so
are the defects of the test set that pass.

The backbone, which learns nothing, runs over each image once; all else is learnt again in each split. `gap` is how far
the mean of the left-out scores lies above that of parts to come, in standard deviations of these. Each split is written
to WORK when it ends, and a run goes on from what it finds there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.panel_sets import PanelSet, add_panel_arguments, find_sets
from benchmarks.panel_settings import build_settings
from edgead.adapt.memory_bank.folds import deal_folds
from edgead.calibration.conformal import conformal_threshold, images_needed, raised
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.dataset.groups import group_images
from edgead.dataset.images import Images
from edgead.heads.nearest import NearestScorer, in_metric, without_fold

RATES = (0.02, 0.05, 0.1)


class Features:
    """What the backbone says of the images of a set; `numbers` stand for them where a detector asks for images.

    Attributes
    ----------
    of_images : ndarray of shape (n, d, h, w), float32
    groups : ndarray of shape (good images,)
        The group of each good image; defects follow behind.
    """

    def __init__(self, data: PanelSet, preset: str):
        import torch

        from edgead.adapt.methods.patchcore import PatchCore
        from edgead.workstation.backbones.pyramid import each_batch
        from edgead.workstation.trainer.device import CPU, use_cores

        use_cores()
        (setting,) = build_settings([preset])
        self.settings: dict[str, Any] = setting.of(data)
        model = PatchCore.from_settings(self.settings)
        tests = find_test_images(data.folder)
        good = [*find_good_images(data.folder), *(one.path for one in tests if not one.is_defective)]
        self.groups = np.array(group_images(good, data.group, data.folder).of(good))
        images = Images([*good, *(one.path for one in tests if one.is_defective)], model.preprocessing)
        with torch.inference_mode():
            batches = each_batch(model.network, images, CPU, lambda done, total: None)
            self.of_images = np.concatenate([model.network.align(levels).numpy() for levels in batches])

    @property
    def defects(self) -> range:
        return range(len(self.groups), len(self.of_images))

    def learn(self, picks: Sequence[int], seed: int) -> Learnt:
        """Learn from some of the good images as `edgead train` does."""
        import torch

        from edgead.adapt.methods.patchcore import PatchCore
        from edgead.workstation.trainer.device import CPU

        model = PatchCore.from_settings({**self.settings, "seed": seed})
        folds = deal_folds(self.groups[picks], seed)

        def levels(images: torch.Tensor) -> list[torch.Tensor]:
            numbers = images.reshape(len(images), 3).long() @ torch.tensor([65536, 256, 1])
            return [torch.from_numpy(self.of_images[numbers.numpy()])]

        model.network.levels, model.network.align = levels, lambda found: found[0]  # type: ignore[method-assign]
        numbers = [np.array([[[pick >> 16, pick >> 8 & 255, pick & 255]]], np.uint8) for pick in picks]
        model.fit(numbers, groups=self.groups[picks].tolist(), folds=folds.tolist(), device=CPU)
        return Learnt(self, model, np.asarray(picks), folds)


@dataclass(frozen=True, slots=True)
class Learnt:
    """A detector that has learnt from some images (`picks`), each of a fold."""

    features: Features
    model: Any
    picks: np.ndarray
    folds: np.ndarray

    def scores(self, picks: Sequence[int]) -> np.ndarray:
        """Image scores of other images."""
        return self._scores(picks, self.model.memory_bank, None)

    def left_out(self) -> np.ndarray:
        """Image scores of the images that were learnt, each as if its fold had not been."""
        found = np.empty(len(self.picks))
        for fold in np.unique(self.folds).tolist():
            found[self.folds == fold] = self._scores(
                self.picks[self.folds == fold], *without_fold(self.model.arrays, fold)
            )
        return found

    def _scores(self, picks: Sequence[int], bank: np.ndarray, metric: np.ndarray | None) -> np.ndarray:
        import torch

        model = self.model
        scorer = NearestScorer(model.head, model.grid, model.config.image_size, bank)
        found = []
        for pick in picks:
            with torch.inference_mode():
                shown = model.network.describe(torch.from_numpy(self.features.of_images[[pick]])).numpy()
            found.append(scorer.image_score(scorer.patch_scores({model.head.patches.name: in_metric(shown, metric)})))
        return np.array(found)


@dataclass(frozen=True, slots=True)
class Realised:
    """What thresholds of one split do: shares of parts to come that are rejected, and of defects that pass, by rate."""

    rejected: dict[float, float]
    passed: dict[float, float]
    gap: float


def split_at_random(found: Features, seed: int) -> tuple[Realised, Realised]:
    """Cross-conformal and split conformal thresholds of one half of the groups, counted on the other."""
    groups = np.random.default_rng(seed).permutation(np.unique(found.groups))
    ours, theirs = groups[: len(groups) // 2], groups[len(groups) // 2 :]
    known, new = (np.flatnonzero(np.isin(found.groups, half)) for half in (ours, theirs))
    whole = found.learn(known.tolist(), seed)
    cross = _count(found, whole, whole.left_out(), found.groups[known], new)
    held_out = np.isin(found.groups[known], ours[: max(1, len(ours) // 5)])
    most = found.learn(known[~held_out].tolist(), seed)
    return cross, _count(found, most, most.scores(known[held_out].tolist()), found.groups[known[held_out]], new)


def _count(found: Features, learnt: Learnt, scores: np.ndarray, groups: np.ndarray, new: np.ndarray) -> Realised:
    """Make thresholds from scores of good images, and judge other good images and defects."""
    to_come, defects = learnt.scores(new.tolist()), learnt.scores(found.defects)
    share = np.array([1 / np.sum(found.groups[new] == group) for group in found.groups[new]])
    rejected, passed = {}, {}
    for rate in RATES:
        if len(np.unique(groups)) < images_needed(rate):
            continue
        limit = raised(conformal_threshold(scores, rate, groups.tolist()))
        rejected[rate] = float(np.average(to_come > limit, weights=share))
        passed[rate] = float(np.mean(defects <= limit))
    return Realised(rejected, passed, float((scores.mean() - to_come.mean()) / to_come.std()))


def read_splits(path: Path) -> list[tuple[Realised, Realised]]:
    """Splits that an earlier run has written, by seed from 0."""

    def by_rate(shares: dict[str, float]) -> dict[float, float]:
        return {float(rate): share for rate, share in shares.items()}

    def realised(one: dict[str, Any]) -> Realised:
        return Realised(by_rate(one["rejected"]), by_rate(one["passed"]), one["gap"])

    return [(realised(cross), realised(split)) for cross, split in json.loads(path.read_text(encoding="utf-8"))]


HEADER = """\
| set | groups (images) a half | asked | rejected, cross: mean (5 to 95 % of splits) | split: mean (5 to 95 %) \
| defects passed, cross | split | gap, cross | split |
|---|---|---|---|---|---|---|---|---|"""


def rows(name: str, groups: np.ndarray, splits: Sequence[tuple[Realised, Realised]]) -> list[str]:
    """Lines of the table of one set."""
    half = f"{len(np.unique(groups)) // 2} ({len(groups) // 2})"
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
        cells += [f"{np.mean([split[which].gap for split in splits]):+.2f}" for which in (0, 1)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks cross", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_panel_arguments(parser, work="folder of data and results")
    parser.add_argument("--preset", default="default", help="of patchcore")
    parser.add_argument("--splits", type=int, default=200)
    options = parser.parse_args(arguments)
    only = [name for name in options.sets.split(",") if name]
    print(HEADER)
    for data in find_sets(options.panel, options.output, tiles=options.tiles, only=only):
        found = Features(data, options.preset)
        kept = options.output / f"cross-{data.name}-{options.preset}.json"
        splits = read_splits(kept) if kept.exists() else []
        for seed in range(len(splits), options.splits):
            splits.append(split_at_random(found, seed))
            kept.write_text(json.dumps([[asdict(one) for one in split] for split in splits]), encoding="utf-8")
        print("\n".join(rows(data.name, found.groups, splits)), flush=True)
