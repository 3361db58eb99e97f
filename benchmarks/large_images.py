"""Are small defects found in large images? Dark dots on a panel, squeezed to the network's size and cut into tiles.

    python -m benchmarks large_images -o WORK --size 4096,3000 --good 60 --settings 'squeezed;tiles:tiles=auto'
    python -m benchmarks large_images -o WORK --settings 'fast:preset=fast,tiles=448;int8:tiles=auto,precision=int8'

The panel is a grid of pads on rough ground, shifted by up to 6 pixels. A dot of 10, 40 or 120 pixels lies anywhere on
it. For each setting: image AUROC of each size of dot, dots that pass and good panels that are rejected as shipped,
what a frame takes on this machine, and the largest memory of the process that trained.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgead import metrics
from edgead.detector import Detector
from edgead.files.atomic import write_whole
from edgead.images.files import list_images, load_image, write_image

DOTS_PX = (10, 40, 120)
PITCH_PX = 200  # of the pads
SHIFT_PX = 6
TEST_GOOD, PER_DOT = 12, 10
GROUND, PAD, DARK = 90, 190, 40
QUALITY = "jpg"


def draw_panel(size: tuple[int, int], rng: np.random.Generator, dot_px: int = 0) -> np.ndarray:
    """Draw a panel of (height, width) pixels, grey, and a dark dot of a diameter on it where one is asked for."""
    height, width = size
    coarse = cv2.resize(rng.normal(0, 10, (height // 8, width // 8)).astype(np.float32), (width, height))
    image = GROUND + coarse + 8 * rng.standard_normal(size, np.float32)
    shift_y, shift_x = rng.integers(-SHIFT_PX, SHIFT_PX + 1, 2)
    for y in range(PITCH_PX // 2, height - PITCH_PX // 2 + 1, PITCH_PX):
        for x in range(PITCH_PX // 2, width - PITCH_PX // 2 + 1, PITCH_PX):
            top, left = y + shift_y - 50, x + shift_x - 50
            image[top : top + 100, left : left + 100] += PAD - GROUND
    if dot_px:
        top, left = rng.integers(0, height - 2 * dot_px), rng.integers(0, width - 2 * dot_px)
        around = image[top : top + 2 * dot_px, left : left + 2 * dot_px]
        y, x = (np.arange(2 * dot_px) - dot_px + rng.uniform() for _ in range(2))
        around += np.clip(dot_px / 2 + 0.5 - np.hypot(y[:, None], x), 0, 1) * (DARK - around)
    return np.clip(np.round(cv2.GaussianBlur(image, (0, 0), 0.7)), 0, 255).astype(np.uint8)


def write_panels(folder: Path, size: tuple[int, int], good: int) -> Path:
    """Write a data set in MVTec layout, once; returns its folder."""
    data = folder / f"panel_{size[1]}x{size[0]}_{good}"
    if data.is_dir():
        return data
    draft = data.with_name(f".{data.name}")
    shutil.rmtree(draft, ignore_errors=True)
    counts = {"train/good": (good, 0), "test/good": (TEST_GOOD, 0)}
    counts |= {f"test/dot_{dot:03d}": (PER_DOT, dot) for dot in DOTS_PX}
    for part, (name, (count, dot_px)) in enumerate(counts.items()):
        for number in range(count):
            image = draw_panel(size, np.random.default_rng([part, number]), dot_px)
            write_image(draft / name / f"{number:03d}.{QUALITY}", image)
    draft.rename(data)
    return data


def main(arguments: list[str]) -> None:
    """Measure each setting that WORK has no row of yet, and print all rows."""
    options = _parser().parse_args(arguments)
    width, height = (int(side) for side in options.size.split(","))
    data = write_panels(options.output, (height, width), options.good)
    for name, settings in read_settings(options.settings):
        file = data / f"{name}.json"
        if not file.is_file():
            # A process of its own, whose largest memory is that of this training alone.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                row = pool.submit(measure, data, data / f"{name}.model", settings).result()
            write_whole(file, json.dumps(row, indent=1).encode(), durable=False)
        row = json.loads(file.read_text(encoding="utf-8"))
        auroc = ", ".join(f"{dot} px {value:.3f}" for dot, value in row["auroc"].items())
        print(
            f"{name}: image AUROC {auroc}; pass {row['pass']}; {row['false_rejects']} of {TEST_GOOD} good rejected; "
            f"a frame {row['frame_ms']:.0f} ms ({row['stages_ms']}), trained in {row['train_s']:.0f} s, "
            f"{row['peak_mib']:.0f} MiB",
            flush=True,
        )


def measure(data: Path, model: Path, settings: dict[str, str]) -> dict[str, Any]:
    """Train as a user does, and judge the test images.

    `preset`, `precision` and `tiles` are options; any other setting is one of the method.
    """
    started = time.perf_counter()
    if not model.is_dir():
        _train(data, model, settings)
    trained_s, peak_kib = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    precision = settings.get("precision", "fp32")
    scores: dict[str, list[float]] = {}
    times = []
    with Detector.load(model, runtime="onnxruntime", precision=precision) as detector:
        for folder in sorted((data / "test").iterdir()):
            for path in list_images(folder):
                verdict = detector.predict(load_image(path))
                scores.setdefault(folder.name, []).append(verdict.image_score)
                times.append(verdict.stage_times)
        limit = detector.threshold
    assert limit is not None
    good = scores.pop("good")
    stages = ("preprocess_ms", "infer_ms", "score_ms", "smooth_ms")
    medians = {stage: round(float(np.median([getattr(one, stage) for one in times])), 1) for stage in stages}
    return {
        "auroc": {dot: _auroc(good, scores[f"dot_{dot:03d}"]) for dot in DOTS_PX},
        "pass": {dot: sum(score <= limit for score in scores[f"dot_{dot:03d}"]) for dot in DOTS_PX},
        "false_rejects": sum(score > limit for score in good),
        "frame_ms": sum(medians.values()),
        "stages_ms": medians,
        "train_s": trained_s,
        "peak_mib": peak_kib / 1024,
        "scores": {"good": good, **scores},
    }


def _train(data: Path, model: Path, settings: dict[str, str]) -> None:
    from typer.testing import CliRunner

    from edgead.cli import app

    own = ("preset", "tiles")
    options = [f"--{name}={settings[name]}" for name in own if name in settings]
    others = {name: value for name, value in settings.items() if name not in (*own, "precision")}
    options += [f"--set={name}={value}" for name, value in others.items()]
    commands = [["train", str(data), "-o", str(model), "--device=cpu", "--false-reject-rate=0.1", *options]]
    if "precision" in settings:
        commands.append(["export", str(model), str(data), "--precision", settings["precision"]])
    for command in commands:
        done = CliRunner().invoke(app, command, catch_exceptions=False)
        if done.exit_code:
            sys.exit(f"edgead {' '.join(command)}: {done.output}")


def _auroc(good: list[float], flawed: list[float]) -> float:
    labels = np.array([False] * len(good) + [True] * len(flawed))
    return round(float(metrics.auroc(labels, np.array([*good, *flawed]))), 4)


def read_settings(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Read NAME:KEY=VALUE,...;NAME:... ."""
    for one in text.split(";"):
        name, _, given = one.partition(":")
        yield name.strip(), dict(pair.split("=", 1) for pair in given.split(",") if pair)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks large_images")
    parser.add_argument("-o", "--output", type=Path, required=True, help="Folder for panels and rows.")
    parser.add_argument("--size", default="4096,3000", help="WIDTH,HEIGHT of a panel.")
    parser.add_argument("--good", type=int, default=60, help="Good panels to train with.")
    parser.add_argument("--settings", default="squeezed;tiles:tiles=auto", help="NAME:KEY=VALUE,...;NAME:...")
    return parser
