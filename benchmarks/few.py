"""What few good images are worth: 5, 10 and 20 parts of each set of the panel, thresholds from all of them.

    python -m benchmarks few PANEL_FOLDER --tiles MAGNETIC_TILES -o WORK --good 5,10,20 --draws 3

Each draw takes that many parts at random, one image of each, and trains `patchcore --preset default` on them. The
rate is the default for so many images, and what came of it on the test images stands beside it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.panel_measures import measure_outcomes
from benchmarks.panel_sets import JUDGED, LABELS, PanelSet, add_panel_arguments, find_sets
from benchmarks.panel_settings import build_settings
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.dataset.groups import group_images
from edgead.detector import Detector
from edgead.report.evaluate import evaluate


def main(arguments: list[str]) -> None:
    """Measure and print a row as it comes, a set and a number of images each."""
    options = _parser().parse_args(arguments)
    only = options.sets.split(",") if options.sets else [name for name in JUDGED if options.tiles or name != "tiles"]
    print("| set | good images | image AUROC | asked for | good rejected | defects passed |")
    print("| --- | --- | --- | --- | --- | --- |")
    for data in find_sets(options.panel, options.output, tiles=options.tiles, only=only):
        for count in map(int, options.good.split(",")):
            draws = [measure(data, count, seed) for seed in range(options.draws)]
            asked, auroc, rejected, passed = np.array(draws).T
            name = LABELS.get(data.name, data.name)
            spread = f" ({auroc.min():.3f} to {auroc.max():.3f})"
            print(
                f"| {name} | {count} | {auroc.mean():.3f}{spread} | {asked[0]:.0%} | {rejected.mean():.1%} "
                f"({rejected.max():.0%} at most) | {passed.mean():.0%} |",
                flush=True,
            )


def measure(data: PanelSet, count: int, seed: int) -> tuple[float, float, float, float]:
    """Rate asked for, image AUROC, share of good images rejected and of defects passed, of one draw."""
    from edgead.adapt.training.from_folder import train_from_folder
    from edgead.adapt.training.good_images import GoodImages

    with tempfile.TemporaryDirectory() as work:
        good = Path(work) / "good"
        good.mkdir()
        for path in draw(data, count, seed):
            (good / path.name).symlink_to(path.resolve())
        (setting,) = build_settings(["default"])
        plan = GoodImages(Path(work), "good", group="none")
        artifact, _ = train_from_folder(plan, Path(work) / "model", setting.of(data))
        with Detector(artifact, runtime="onnxruntime") as detector:
            evaluation = evaluate(detector, find_test_images(data.folder))
        limits = artifact.graph("fp32").calibration
        assert limits is not None
        measures = measure_outcomes(evaluation.outcomes, evaluation.threshold)
        return limits.false_reject_rate, measures["image_AUROC"], measures["false_rejects"], measures["escapes"]


def draw(data: PanelSet, count: int, seed: int) -> Sequence[Path]:
    """One image of each of so many parts, chosen at random."""
    paths, groups = grouped(data)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(paths))
    first = {groups[i]: i for i in reversed(order.tolist())}
    if len(first) < count:
        raise SystemExit(f"{data.name} has {len(first)} parts, {count} are asked for")
    chosen = rng.permutation(sorted(first.values()))[:count]
    return [paths[i] for i in sorted(chosen.tolist())]


@cache
def grouped(data: PanelSet) -> tuple[list[Path], list[int]]:
    """The good images of a set, and which of them show the same part."""
    paths = find_good_images(data.folder)
    return paths, group_images(paths, data.group, data.folder).of(paths)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks few", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_panel_arguments(parser, work="folder of the tiles' layout")
    parser.add_argument("--good", default="5,10,20", metavar="N,...", help="numbers of good images")
    parser.add_argument("--draws", type=int, default=3, help="choices of images for each number")
    return parser
