"""Patches compared layer by layer, beside patches whose layers are compared together.

`python -m benchmarks by_layer PANEL_FOLDER --tiles MAGNETIC_TILES -o WORK [--draws 3] [--precision int8]` prints image
AUROC, and defects that pass where 5 % of the good test parts are rejected, for banks of as many rows from the same
features of `patchcore --preset default`. By layer, each layer has a space and a bank of its own; the distances of a
patch, each divided by its mean over learnt patches, are added. At most 260 images are learnt, 120 good and 160 bad ones
are judged.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from benchmarks.panel import read_names
from benchmarks.panel_sets import JUDGED, PanelSet, add_panel_arguments, find_sets
from edgead.adapt.frozen_backbone import each_raw
from edgead.adapt.memory_bank.coreset import BankRule
from edgead.adapt.memory_bank.learn import Space, learn_bank
from edgead.adapt.methods.patchcore import PatchCore
from edgead.adapt.training.good_images import GoodImages
from edgead.adapt.training.preset import preset_settings
from edgead.dataset.folders import find_test_images
from edgead.dataset.images import Images
from edgead.heads.nearest import BANK, NearestHead
from edgead.heads.patches import ImageScorer
from edgead.images.files import load_image
from edgead.images.likeness import look_of
from edgead.kernels import NearestPatches
from edgead.metrics import auroc

LEARNT, GOOD, BAD, PATCHES, RATE = 260, 120, 160, 150_000, 0.05
WINDOWS = (10, 20)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Features:
    """Raw features of images to learn, with their groups, and of images to judge, (n, h, w, d), with their labels."""

    learnt: np.ndarray
    groups: Sequence[int]
    judged: np.ndarray
    is_bad: np.ndarray
    channels: Sequence[int]
    head: NearestHead


def main(arguments: list[str]) -> None:
    """Measure each set."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks by_layer", description=__doc__)
    add_panel_arguments(parser, work="folder of data")
    parser.add_argument("--draws", type=int, default=3, help="banks of each kind")
    parser.add_argument("--precision", default="int8")
    options = parser.parse_args(arguments)
    found: dict[tuple[str, int], list[np.ndarray]] = {}
    for data in find_sets(options.panel, options.output, tiles=options.tiles, only=read_names(options.sets)):
        if data.name == "ped2":
            continue
        features = features_of(data, options.precision)
        for name, by_layer in (("together", False), ("by layer", True)):
            draws = np.array(
                [figures(features, seed, by_layer) for seed in range(options.draws)]
            )  # (draws, windows, 2)
            for windows, of_windows in zip(WINDOWS, draws.transpose(1, 0, 2), strict=True):
                shown = ", ".join(f"{auc:.3f} {100 * passed:.0f} %" for auc, passed in of_windows)
                print(f"{data.name}: {name}, {windows} windows: {shown}", flush=True)
                if data.name in JUDGED:
                    found.setdefault((name, windows), []).append(of_windows)
    for (name, windows), sets in found.items():
        auc, passed = np.mean(sets, axis=(0, 1))
        print(f"mean of {len(sets)}: {name}, {windows} windows: {auc:.4f} {100 * passed:.1f} %")


def features_of(data: PanelSet, precision: str) -> Features:
    """Run the backbone over images of a set."""
    good = GoodImages(data.folder, group=data.group)
    settings, _ = preset_settings(good, PatchCore.name, "default")
    method = good.build(PatchCore, settings, None)
    paths = good.find()
    method.choose_precision(precision, len(paths), cross_validates=False)
    spec = method.prepared(good.prepare(method, paths, [look_of(load_image(path)) for path in paths])[0])
    split, rng = good.split(paths, 0, leaves_out=True), np.random.default_rng(1)
    tests = find_test_images(data.folder)
    training = _some(split.training, LEARNT, rng)
    judged = _some([test for test in tests if not test.is_defective], GOOD, rng)
    judged += _some([test for test in tests if test.is_defective], BAD, rng)
    learnt = np.stack(list(each_raw(method.backbone, spec, Images(training, spec))))
    shown = np.stack(list(each_raw(method.backbone, spec, Images([test.path for test in judged], spec))))
    is_bad = np.array([test.is_defective for test in judged])
    return Features(learnt, split.groups.of(training), shown, is_bad, method.backbone.channels, method.head)


def _some(every: Sequence[_T], most: int, rng: np.random.Generator) -> list[_T]:
    chosen = np.sort(rng.permutation(len(every))[:most])
    return [every[number] for number in chosen.tolist()]


def figures(features: Features, seed: int, by_layer: bool) -> list[tuple[float, float]]:
    """Learn a bank; image AUROC and share of defects that pass, for each number of windows."""
    layers = np.split(np.arange(sum(features.channels)), np.cumsum(features.channels)[:-1])
    parts = [([count], layer) for count, layer in zip(features.channels, layers, strict=True)]
    maps = sum(
        distances(features, columns, channels, seed)
        for channels, columns in (parts if by_layer else [(features.channels, np.concatenate(layers))])
    )
    result = []
    for windows in WINDOWS:
        scorer = ImageScorer(features.head.model_copy(update={"top_patches": windows}), features.judged.shape[1:3])
        scores = np.array([scorer.image_score(one) for one in maps])
        limit = np.quantile(scores[~features.is_bad], 1 - RATE, method="higher")
        result.append((auroc(features.is_bad, scores), float((scores[features.is_bad] <= limit).mean())))
    return result


def distances(features: Features, columns: np.ndarray, channels: Sequence[int], seed: int) -> np.ndarray:
    """Distances (n, h, w) of the judged patches to a bank of some columns, over their mean for learnt patches."""
    count, height, width, _ = features.learnt.shape
    keep, rng = min(height * width, PATCHES // count), np.random.default_rng(seed)
    picks = np.stack([rng.permutation(height * width)[:keep] for _ in range(count)])
    flat = features.learnt.reshape(count, height * width, -1)
    learnt = [np.ascontiguousarray(one[chosen][:, columns]) for one, chosen in zip(flat, picks, strict=True)]
    patches = np.concatenate(learnt)
    rule = BankRule(1.0, PatchCore.config_class.memory_bank_size, 1, seed)
    bank = learn_bank(patches, features.groups, np.zeros(count, int), rule, Space(channels))
    search = NearestPatches(bank.arrays[BANK])

    def of(raw: np.ndarray) -> np.ndarray:
        rows = raw.copy()
        bank.scale.standardise(rows)
        return search.search(np.ascontiguousarray(rows @ bank.metric))[0][:, 0]

    usual = np.mean([of(rows).mean() for rows in learnt])
    judged = (np.ascontiguousarray(one[..., columns]).reshape(height * width, -1) for one in features.judged)
    return np.array([of(rows).reshape(height, width) for rows in judged]) / usual
