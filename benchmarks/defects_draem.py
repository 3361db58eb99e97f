"""Does draem learn more from made defects than from drawn textures? Half of the rejects are known, by tile.

Both learn for as many steps from the same good images with the `cpu` preset; one draws half of its samples from defects
made of the rejects of half of the tiles. Judged are the rejects of the other half, against good test images of tiles of
which no reject is known.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.panel_sets import PanelSet
from edgead.dataset.folders import GOOD
from edgead.dataset.made_sets import is_made
from edgead.detector import Detector
from edgead.files.atomic import write_whole
from edgead.images.files import load_image
from edgead.metrics import auroc
from edgead.synthetic.made_set import Recipe, make_defects
from edgead.synthetic.rejects import by_masks, find_rejects

FALSE_REJECT_RATE = 0.05
MADE_IMAGES = 1000
DRAWN, MADE = "drawn textures", "made defects"
_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Halves:
    """Rejects to make defects of, and images to judge, each with its kind."""

    known: list[tuple[Path, str]]
    judged: list[tuple[Path, str]]


def compare(data: PanelSet, tiles: Mapping[str, int], work: Path, steps: int, seeds: int) -> None:
    """Train both for each seed, and print the tables; what is there already is not done again.

    Parameters
    ----------
    data : PanelSet
    tiles : mapping of str to int
        Tile of each test image by its kind and name.
    work : Path
    steps, seeds : int
    """
    halves = _halve(data, tiles)
    groups = [tiles[f"{kind}/{path.name}"] for path, kind in halves.judged]
    made = work / "draem" / "made"
    if not is_made(made):
        good = sorted((data.folder / "train" / GOOD).iterdir())
        make_defects(good, by_masks(halves.known, data.folder / "ground_truth"), made, Recipe(count=MADE_IMAGES))
    for seed in range(seeds):
        scores = {}
        for name, more in ((DRAWN, {}), (MADE, {"defects": str(made)})):
            model = work / "draem" / f"{name.split()[0]}_{steps}_{seed}"
            _train(data, model, {"steps": steps, "seed": seed, **more})
            scores[name] = _scores(model, halves.judged)
        kinds = np.array([kind for _, kind in halves.judged])
        print("\n".join(_table(f"seed {seed}, {steps} steps", kinds, np.array(groups), scores)), flush=True)


def _halve(data: PanelSet, tiles: Mapping[str, int]) -> Halves:
    rejects = find_rejects(data.folder)
    groups = sorted({tiles[f"{kind}/{path.name}"] for path, kind in rejects})
    random.Random(0).shuffle(groups)
    half = set(groups[: len(groups) // 2])
    known = [(path, kind) for path, kind in rejects if tiles[f"{kind}/{path.name}"] in half]
    images = [*rejects, *((path, GOOD) for path in sorted((data.folder / "test" / GOOD).iterdir()))]
    return Halves(known, [(path, kind) for path, kind in images if tiles[f"{kind}/{path.name}"] not in half])


def _train(data: PanelSet, model: Path, settings: dict[str, Any]) -> None:
    from edgead.workstation.methods import find_preset
    from edgead.workstation.training.from_folder import train_from_folder
    from edgead.workstation.training.good_images import GoodImages

    if not model.is_dir():
        good = GoodImages(data.folder, false_reject_rate=FALSE_REJECT_RATE, group=data.group)
        train_from_folder(good, model, {**find_preset("draem", "cpu"), **settings}, detector="draem")


def _scores(model: Path, images: list[tuple[Path, str]]) -> np.ndarray:
    file = model.with_name(f"{model.name}.json")
    if not file.is_file():
        with Detector.load(model, runtime="onnxruntime") as detector:
            scores = [float(detector.predict(load_image(path)).image_score) for path, _ in images]
        write_whole(file, json.dumps(scores).encode())
    return np.array(json.loads(file.read_bytes()))


def _table(title: str, kinds: np.ndarray, groups: np.ndarray, scores: Mapping[str, np.ndarray]) -> Iterator[str]:
    """AUROC of all kinds and of each against the good images."""
    defective = kinds != GOOD
    counts = f"{np.count_nonzero(defective)} rejects and {np.count_nonzero(~defective)} good images"
    yield f"\n{title}: image AUROC, {counts}"
    yield f"| | {' | '.join(scores)} | difference, 95 % by tile |"
    yield "|---|---|---|---|"
    for kind in ("all", *sorted(set(kinds[defective]))):
        taken = (kind == "all") | (kinds == kind) | ~defective
        both = [one[taken] for one in scores.values()]
        values = [f"{auroc(defective[taken], one):.3f}" for one in both]
        yield f"| {kind} | {' | '.join(values)} | {_interval(defective[taken], groups[taken], *both)} |"


def _interval(defective: np.ndarray, groups: np.ndarray, drawn: np.ndarray, made: np.ndarray) -> str:
    """By how much `made` is better, with the percentiles over draws of tiles with replacement."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    found = []
    while len(found) < _DRAWS:
        chosen = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        if 0 < np.count_nonzero(defective[chosen]) < chosen.size:
            found.append(auroc(defective[chosen], made[chosen]) - auroc(defective[chosen], drawn[chosen]))
    low, high = np.percentile(found, (2.5, 97.5))
    return f"{auroc(defective, made) - auroc(defective, drawn):+.3f} ({low:+.3f} to {high:+.3f})"
