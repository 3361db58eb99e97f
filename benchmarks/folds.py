"""Do cross-validated thresholds keep their rate, which no proof says? On the built-in line, by fresh parts.

    python -m benchmarks folds

trains again and again on a few good parts, once with images held out and once with `--folds`, and counts what of a
thousand other good parts each rejects.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from edgead.detector import Detector
from edgead.images.files import write_image
from edgead.methods import find_preset
from edgead.synthetic.line import part_seed, render
from edgead.training.from_folder import train_from_folder
from edgead.training.good_images import GoodImages


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks folds", description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=60, help="to learn from and to calibrate on")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--parts", type=int, default=1000, help="fresh good parts")
    parser.add_argument("--trainings", type=int, default=20)
    options = parser.parse_args(arguments)
    fresh = [render(part_seed(78, index, on_conveyor=True))[0] for index in range(options.parts)]
    shares: dict[int, list[float]] = {0: [], options.folds: []}
    names = {0: "held out", options.folds: f"{options.folds} folds"}
    for number in range(options.trainings):
        with tempfile.TemporaryDirectory() as folder:
            good = Path(folder) / "good"
            good.mkdir()
            for index in range(options.images):
                part, _ = render(part_seed(1000 + number, index, on_conveyor=True))
                write_image(good / f"{index:03d}.png", part)
            for folds, found in shares.items():
                images = GoodImages(Path(folder), "good", false_reject_rate=options.rate, folds=folds)
                model = Path(folder) / f"folds{folds}"
                train_from_folder(images, model, find_preset("patchcore", "fast"))
                with Detector.load(model) as detector:
                    found.append(float(np.mean([detector.predict(part).decision == "reject" for part in fresh])))
        reported = ", ".join(f"{names[folds]} {100 * found[-1]:.1f} %" for folds, found in shares.items())
        print(f"training {number + 1}: {reported}", flush=True)
    for folds, found in shares.items():
        rejected = 100 * np.array(found)
        error = rejected.std(ddof=1) / len(found) ** 0.5
        print(
            f"{names[folds]}: {rejected.mean():.2f} % +- {error:.2f} of good parts rejected "
            f"(asked: {100 * options.rate:g} %), from {rejected.min():.1f} to {rejected.max():.1f} %"
        )
