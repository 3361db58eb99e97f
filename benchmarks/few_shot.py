"""Few-shot curves: what 1 to 32 good images are worth.

    python -m benchmarks few_shot PANEL_FOLDER --tiles MAGNETIC_TILES -o WORK --preset fast

Each draw takes parts at random, one image of each; the first of them are the smaller draws. `patchcore` learns them,
and the whole test set is ranked. Features of the test images are extracted once a set. Every number is kept in WORK, so
that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.few import draw, grouped
from benchmarks.panel_sets import JUDGED, PanelSet, add_panel_arguments, find_sets
from edgead.adapt.methods import find_preset
from edgead.adapt.methods.patchcore import PatchCore
from edgead.dataset.folders import find_test_images
from edgead.dataset.images import Images
from edgead.files.atomic import write_whole
from edgead.heads.nearest import BANK, NearestHead, NearestScorer
from edgead.metrics.ranking import auroc


class Curves:
    """Image AUROC of each set, preset, number of good images and draw, kept in a file."""

    def __init__(self, file: Path):
        self._file = file
        self._rows: dict[str, float] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def find(self, *key: object) -> float | None:
        return self._rows.get("/".join(map(str, key)))

    def keep(self, value: float, *key: object) -> None:
        self._rows["/".join(map(str, key))] = round(value, 5)
        write_whole(self._file, json.dumps(self._rows, indent=0, sort_keys=True).encode(), durable=False)

    def draws(self, *key: object) -> list[float]:
        """What was measured of a set, preset and number, draw by draw."""
        start = "/".join(map(str, key)) + "/"
        return [value for name, value in self._rows.items() if name.startswith(start)]


def main(arguments: list[str]) -> None:
    """Measure what is missing, and print a row as it comes."""
    options = _parser().parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    curves = Curves(options.output / "few_shot.json")
    only = options.sets.split(",") if options.sets else [name for name in JUDGED if options.tiles or name != "tiles"]
    for data in find_sets(options.panel, options.output, tiles=options.tiles, only=only):
        measure(data, options, curves)


def measure(data: PanelSet, options: argparse.Namespace, curves: Curves) -> None:
    """Measure a set, and print the mean over the draws of each number of images."""
    test: tuple[np.ndarray, np.ndarray] | None = None
    most = len(set(grouped(data)[1]))
    row = []
    for count in (count for count in options.good if count <= most):
        for number in range(options.draws):
            key = (data.name, options.preset, count, number)
            if curves.find(*key) is None:
                test = test or test_features(data, options.preset, options.output)
                curves.keep(learn_and_rank(data, options.preset, count, number, test), *key)
        row.append(f"{np.mean(curves.draws(data.name, options.preset, count)):.3f}")
    print(f"| {data.name} | {options.preset} | {' | '.join(row)} |", flush=True)


def test_features(data: PanelSet, preset: str, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Raw features of all test images, float32 (n, d, h, w), on the disk, and which are defective."""
    tests = find_test_images(data.folder)
    file = work / f"few_shot_{data.name}_{preset}.npy"
    if not file.is_file():
        method = build_method(preset)
        images = Images([image.path for image in tests], method.preprocessing)
        shape = (len(images), sum(method.network.channels), *method.grid)
        unfinished = file.with_suffix(".part.npy")
        found = np.lib.format.open_memmap(unfinished, "w+", np.float32, shape)
        with torch.inference_mode():
            for index in range(len(images)):
                found[index] = method.network.raw_features(torch.from_numpy(images[index])[None])[0].numpy()
        unfinished.rename(file)
    return np.load(file, mmap_mode="r"), np.array([image.is_defective for image in tests])


def learn_and_rank(data: PanelSet, preset: str, count: int, number: int, test: tuple[np.ndarray, np.ndarray]) -> float:
    """Image AUROC of a model of so many good images."""
    raw, defective = test
    return auroc(defective, learnt_scores(build_method(preset), draw(data, count, number), raw))


def learnt_scores(method: PatchCore, good: Sequence[Path], raw: np.ndarray) -> np.ndarray:
    """Scores of images, given as raw features (n, d, h, w), by a model of good ones; float64 (n,)."""
    trained = method.fit(Images(good, method.preprocessing))
    assert isinstance(trained.head, NearestHead)
    scorer = NearestScorer(trained.head, method.grid, method.preprocessing.image_size, trained.arrays[BANK])
    scores = []
    with torch.inference_mode():
        for image in raw:
            features = method.network.describe(torch.from_numpy(image.copy())[None])[0].numpy()
            scores.append(scorer.score({trained.head.patches.name: features}).image_score)
    return np.array(scores)


def build_method(preset: str) -> PatchCore:
    return PatchCore.from_settings(find_preset("patchcore", preset))


def _numbers(text: str) -> Sequence[int]:
    return [int(number) for number in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks few_shot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_panel_arguments(parser, work="folder of features, numbers")
    parser.add_argument("--preset", default="fast", help="of patchcore")
    parser.add_argument(
        "--good", type=_numbers, default="1,2,4,8,16,32", metavar="N,...", help="numbers of good images"
    )
    parser.add_argument("--draws", type=int, default=5, help="choices of images")
    return parser
