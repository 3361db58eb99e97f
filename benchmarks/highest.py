"""Defects among good images: how many of those are defects that `edgead train` names as the highest.

    python -m benchmarks highest PANEL_FOLDER --tiles MAGNETIC_TILES -o WORK --sets brick,bottle --draws 3

Each draw takes 60 good images to learn from, all where there are fewer, and trains `patchcore --preset fast` twice: on
them alone, and with 5 defects of the test set among them. `named` are defects among the five highest; `warned` and `of
these` are the images that stand apart, and the defects among them.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.panel_sets import PanelSet, add_panel_arguments, find_sets
from edgead.dataset.folders import LabelledImage, find_good_images, find_test_images

GOOD, DEFECTS, LOOKED_AT = 60, 5, 5
_MARK = "zz_"


def main(arguments: list[str]) -> None:
    """Measure and print two rows for each draw, as they come."""
    options = _parser().parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    only = options.sets.split(",") if options.sets else []
    print("| set, draw | good and defects | named | warned | of these |\n|---|---|---|---|---|")
    for data in find_sets(options.panel, options.output, tiles=options.tiles, only=only):
        for draw in range(options.first, options.first + options.draws):
            for count in (DEFECTS, 0):
                print(measure(data, draw, count), flush=True)


def measure(data: PanelSet, draw: int, count: int) -> str:
    """Train on good images with so many defects among them; the row of what is named."""
    from edgead.adapt.training.from_folder import train_from_folder
    from edgead.adapt.training.good_images import GoodImages
    from edgead.adapt.training.preset import preset_settings

    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "good"
        mix(folder, find_good_images(data.folder), find_test_images(data.folder), f"{data.name}{draw}", count)
        good = GoodImages(folder)
        settings, _ = preset_settings(good, "patchcore", "fast")
        artifact, _ = train_from_folder(good, Path(work) / "model", settings, precision="fp32")
        training = artifact.manifest.training
        images = len(list(folder.iterdir()))
    apart = training["images_apart"]
    cells = [
        f"{data.name}, {draw}",
        f"{images - count} and {count}",
        *(_defects(training["highest_images"][:LOOKED_AT]), apart, _defects(training["highest_images"][:apart])),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def mix(folder: Path, good: Sequence[Path], tests: Sequence[LabelledImage], seed: str, count: int) -> None:
    """Copy good images and defects into a new folder; names of defects begin with a mark."""
    rng = random.Random(seed)
    folder.mkdir()
    for path in rng.sample(sorted(good), min(GOOD, len(good))):
        shutil.copy(path, folder / path.name)
    for path in rng.sample(sorted(test.path for test in tests if test.is_defective), count):
        shutil.copy(path, folder / f"{_MARK}{path.parent.name}_{path.name}")


def _defects(names: Sequence[str]) -> int:
    return sum(name.startswith(_MARK) for name in names)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks highest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_panel_arguments(parser, work="folder of what sets need")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first draw")
    return parser
