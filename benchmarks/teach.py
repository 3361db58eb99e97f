"""Does a lesson lower false rejects without letting defects pass? On the built-in line, by parts of known truth.

    python -m benchmarks teach MODEL                  # of the built-in line, such as out/demo/model

teaches copies of the model, every time with other parts, and judges the same fresh parts before and after.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgead import metrics
from edgead.adapt.teach import TeachPlan, teach
from edgead.detector import Detector
from edgead.images.files import write_image
from edgead.synthetic.line import conveyor, part_seed, render

LESSON = 50  # parts

Light = Callable[[np.ndarray], np.ndarray]


def other_light(image: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=1.12, beta=4)


LIGHTS: dict[str, Light] = {"old": np.copy, "new": other_light}
# What is taught: under which light, and whether only what the model falsely rejects.
LESSONS = {"as they come": ("old", False), "false rejects": ("old", True), "false rejects, new light": ("new", True)}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of fresh parts: good ones rejected and defects passed, as shares, and how well the two are distinguished."""

    false_rejects: float
    escapes: float
    auroc: float


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks teach", description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--lessons", type=int, default=5, help="of each kind")
    parser.add_argument("--parts", type=int, default=1000, help="fresh ones, half of them with a defect")
    options = parser.parse_args(arguments)
    fresh = [(image, defect is not None) for image, _, defect in conveyor(22, options.parts, 0.5)]
    before = {name: judge(options.model, fresh, light) for name, light in LIGHTS.items()}
    print("| taught 50 | light | good parts rejected | defects passed | AUROC |\n|---|---|---|---|---|")
    for kind, (light, only_rejected) in LESSONS.items():
        after: dict[str, list[Outcome]] = {name: [] for name in LIGHTS}
        for number in range(options.lessons):
            with tempfile.TemporaryDirectory() as folder:
                model = Path(folder) / "model"
                shutil.copytree(options.model, model)
                images = photograph(model, number, LIGHTS[light], only_rejected, Path(folder) / "lesson")
                teach(model, TeachPlan(images, reason="measured"))
                for name in LIGHTS:
                    after[name].append(judge(model, fresh, LIGHTS[name]))
        for name in LIGHTS:
            print(row(kind, name, before[name], after[name]), flush=True)


def photograph(model: Path, number: int, light: Light, only_rejected: bool, folder: Path) -> list[Path]:
    """Write a lesson's good parts to files."""
    folder.mkdir()
    with Detector.load(model) as detector:
        index = 0
        while len(written := sorted(folder.iterdir())) < LESSON:
            image = light(render(part_seed(2000 + number, index, on_conveyor=True))[0])
            if not only_rejected or detector.predict(image).decision == "reject":
                write_image(folder / f"{index:05d}.png", image)
            index += 1
    return written


def judge(model: Path, parts: list[tuple[np.ndarray, bool]], light: Light) -> Outcome:
    flawed = np.array([is_flawed for _, is_flawed in parts])
    with Detector.load(model) as detector:
        verdicts = [detector.predict(light(image)) for image, _ in parts]
    rejected = np.array([verdict.decision == "reject" for verdict in verdicts])
    auroc = metrics.auroc(flawed, np.array([verdict.image_score for verdict in verdicts]))
    return Outcome(float(rejected[~flawed].mean()), float((~rejected[flawed]).mean()), auroc)


def row(kind: str, light: str, before: Outcome, after: list[Outcome]) -> str:
    """One row of the table: before, and the mean and each lesson after."""

    def change(name: str, scale: float, digits: int) -> str:
        old, *values = (scale * getattr(one, name) for one in (before, *after))
        each = ", ".join(f"{value:.{digits}f}" for value in sorted(values))
        return f"{old:.{digits}f} -> {np.mean(values):.{digits}f} ({each})"

    cells = [f"{change('false_rejects', 100, 1)} %", f"{change('escapes', 100, 1)} %", change("auroc", 1, 3)]
    return f"| {kind} | {light} | {' | '.join(cells)} |"
