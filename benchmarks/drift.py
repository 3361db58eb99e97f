"""How soon is a drift of the built-in line reported, how often is one reported where there is none?

    python -m benchmarks drift MODEL                  # of the built-in line, such as out/demo/model
    python -m benchmarks drift MODEL --measured parts.npz --parts 100000

Every part is photographed, judged and measured once, without and with each change; parts then come in random orders,
with replacement. A ramp comes in its own order.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np

from edgead.artifact.camera_view import CameraView, ViewMeter
from edgead.detector import Detector
from edgead.images.files import load_image
from edgead.line.drift import DriftSection, DriftWatch
from edgead.line.drift.watch import map_level
from edgead.synthetic import camera
from edgead.synthetic.line import part_seed, render, transmit

UNDISTURBED, CHANGED, RAMP = 1000, 250, 250
BEFORE = (200, 1000, 10_000)  # undisturbed parts until the change
BEGINNINGS, ORDERS = 4, 10  # of those parts, and of the changed ones after each
RUNS = 5  # for the false alarms
PATIENCE = 1000  # parts with the change
RUN_LENGTHS = (10_000, 1_000_000)
STEP_PX = 2

Change = Callable[[np.ndarray], np.ndarray]


def dimmed(image: np.ndarray, gain: float) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=gain)


def moved(image: np.ndarray) -> np.ndarray:
    step = np.array([[1, 0, STEP_PX], [0, 1, 0]], np.float32)
    return cv2.warpAffine(image, step, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def blurred(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), 1.2)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks drift", description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "--parts", type=int, default=100_000, help=f"undisturbed ones, {RUNS} times, for the false alarms"
    )
    parser.add_argument("--measured", type=Path, help="a .npz file: read if it is there, else written")
    options = parser.parse_args(arguments)
    with Detector.load(options.model) as detector:
        golden = [load_image(detector.artifact.path / one.image) for one in detector.graph.golden]
        measured = _read(options.measured) or measure(detector, golden)
        calibration = detector.graph.calibration
    if options.measured:
        np.savez(options.measured, **measured)

    def watch(run_length: float, seed: int) -> DriftWatch:
        return DriftWatch(calibration, golden, DriftSection(average_run_length=run_length, seed=seed))

    print("| undisturbed parts | at most expected | false alarms |\n|---|---|---|")
    for run_length in RUN_LENGTHS:
        runs = [count_false_alarms(watch(run_length, run), measured, options.parts, run) for run in range(RUNS)]
        expected = RUNS * options.parts / run_length
        print(f"| {RUNS} x {options.parts:,} | {expected:g} | {sum(runs)} |", flush=True)
    print(
        "\n| change | parts before | alarm after, median | slowest | no alarm | said to be |\n|---|---|---|---|---|---|"
    )
    for before in BEFORE:
        begun = [begin(watch(RUN_LENGTHS[-1], seed), measured, before, seed) for seed in range(BEGINNINGS)]
        for change in [name for name in measured if name != "undisturbed"]:
            print(row(change, begun, measured), flush=True)


def measure(detector: Detector, golden: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Score, level of the map, and image of every part, undisturbed and changed; one row a part."""
    meter = ViewMeter(golden)

    def look(index: int, change: Change) -> list[float]:
        image = transmit(change(render(part_seed(700, index, on_conveyor=True))[0]))
        verdict, view = detector.predict(image), meter.measure(image)
        assert view is not None
        level = map_level(verdict.anomaly_map)
        return [verdict.image_score, level, view.brightness, view.sharpness, view.x_px, view.y_px]

    def batch(count: int, change: Change = lambda image: image) -> np.ndarray:
        return np.array([look(index, change) for index in range(count)])

    coarse = camera._casting_tile() * np.float32(1.4)
    with mock.patch.object(camera, "_casting_tile", lambda: coarse):
        casting = batch(CHANGED)
    return {
        "undisturbed": batch(UNDISTURBED),
        "light 10 % less": batch(CHANGED, lambda image: dimmed(image, 0.9)),
        "light fades by 0.1 % a part (ramp)": np.array(
            [look(UNDISTURBED + part, lambda image, part=part: dimmed(image, 1 - 0.001 * part)) for part in range(RAMP)]
        ),
        "out of focus by 1.2 px": batch(CHANGED, blurred),
        f"image {STEP_PX} px aside": batch(CHANGED, moved),
        "castings 1.4 times as rough": casting,
    }


def count_false_alarms(watch: DriftWatch, measured: dict[str, np.ndarray], parts: int, seed: int) -> int:
    alarms, rows = 0, measured["undisturbed"]
    for index in np.random.default_rng([1, seed]).integers(0, len(rows), parts):
        if _add(watch, rows[index]).state == "warning":
            alarms += 1
            watch.start_again()
    return alarms


def begin(watch: DriftWatch, measured: dict[str, np.ndarray], parts: int, seed: int) -> DriftWatch:
    """Let a watch see undisturbed parts."""
    rows = measured["undisturbed"]
    for index in np.random.default_rng([2, seed]).integers(0, len(rows), parts):
        if _add(watch, rows[index]).state == "warning":
            raise SystemExit(f"a false alarm among {parts} undisturbed parts: {watch.state.reason}")
    return watch


def row(change: str, begun: Sequence[DriftWatch], measured: dict[str, np.ndarray]) -> str:
    delays, causes = [], Counter[Any]()
    for order in range(ORDERS):
        for beginning, watch in enumerate(begun):
            delay, cause = find(deepcopy(watch), change, measured, np.random.default_rng([3, order, beginning]))
            delays.append(delay)
            causes[cause] += cause is not None
    reported = [delay for delay in delays if np.isfinite(delay)]
    words = ", ".join(f"{cause} {count}" for cause, count in causes.most_common() if count)
    slowest = f"{max(reported):.0f}" if reported else ""
    middle = float(np.median(delays))
    median = f"{middle:.0f}" if np.isfinite(middle) else f"above {PATIENCE}"
    missed = f"{len(delays) - len(reported)} of {len(delays)}"
    return f"| {change} | {begun[0].state.parts:,} | {median} | {slowest} | {missed} | {words} |"


def find(
    watch: DriftWatch, change: str, measured: dict[str, np.ndarray], rng: np.random.Generator
) -> tuple[float, str | None]:
    """Parts with the change until the alarm, infinite without one, and the cause that is reported 50 parts later."""
    rows, before = measured[change], watch.state.parts
    order = range(len(rows)) if "ramp" in change else rng.integers(0, len(rows), PATIENCE)
    for index in order:
        state = _add(watch, rows[index])
        if state.alarm_part and state.parts >= state.alarm_part + 50:
            break
    return (state.alarm_part - before if state.alarm_part else np.inf), state.cause


def _add(watch: DriftWatch, row: np.ndarray) -> Any:
    score, level, *view = map(float, row)
    return watch.add_measured(score, level, CameraView(*view))


def _read(path: Path | None) -> dict[str, np.ndarray] | None:
    if path is None or not path.exists():
        return None
    with np.load(path) as file:
        return {name: file[name] for name in file.files}
