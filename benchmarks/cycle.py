"""How soon is a machine's wrong motion found, and how often is a right one taken for wrong? On the rendered machine.

    python -m benchmarks cycle -o WORK
    python -m benchmarks cycle -o WORK --sheet docs/cycles.jpg

A model of each period learns undisturbed cycles of `edgead.synthetic.machine`. Then the machine stops, runs at double
speed or backwards, or something foreign lies in it, from moments all over the cycle on: frames until the first reject.
Undisturbed machines with other light, noise and unevenness show the false alarms.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from edgead.detector import Detector
from edgead.images.files import write_image
from edgead.synthetic.machine import FAULTS, Fault, Happening, machine
from edgead.types import Frame, Verdict
from edgead.workstation.training.cycle import train_cycle

PERIODS, CYCLES = (24, 48, 120), 20
SETTINGS = {"image_size": (128, 128), "pool": 2}  # twice as fine would be 256 x 256, for frames that are larger
LEAD, LASTS = 30, 20  # frames before a fault, and of it
ONSETS = 8
UNDISTURBED, STREAMS = 10_000, 5  # frames of one period, and as many streams that they are in
SHOWN_PERIOD = 48
_STRIP, _HEIGHT, _EVERY = 12, 90, 3  # of the sheet: frames side by side, the curve's height in pixels, frames apart


def main(arguments: list[str]) -> None:
    """Train what WORK does not have, and print what was found."""
    options = _parser().parse_args(arguments)
    for period in PERIODS:
        folder = options.output / f"period_{period}"
        if not folder.is_dir():
            train_cycle([partial(_frames, 1, period, CYCLES * period)], folder, SETTINGS)
        with Detector.load(folder, runtime="onnxruntime") as detector:
            training = detector.manifest.training
            print(f"period {period}: found {training['period_frames']}, {training['cycles']} cycles", flush=True)
            for fault in FAULTS:
                delays = [_delay(detector, period, fault, onset) for onset in range(ONSETS)]
                print(f"  {fault}: {_account(delays)}", flush=True)
            if period == SHOWN_PERIOD:
                _undisturbed(detector, period)
            if period == SHOWN_PERIOD and options.sheet:
                write_image(options.sheet, np.vstack([_strip(detector, period, fault) for fault in FAULTS]))


def _frames(seed: int, period: float, count: int, script: Sequence[Happening] = ()) -> Iterator[np.ndarray]:
    return (image for image, _fault in machine(seed, period, count, script))


def _verdicts(detector: Detector, images: Iterable[np.ndarray]) -> list[Verdict | None]:
    session, now = detector.session(), datetime.now(timezone.utc)
    return [session.step(Frame(image, number, 0, now, "machine")) for number, image in enumerate(images)]


def _delay(detector: Detector, period: float, fault: Fault, onset: int) -> int | None:
    """Frames of a fault up to the first reject, that one included; None where there is none in time."""
    at = LEAD + round(onset * period / ONSETS)
    found = _verdicts(detector, _frames(100 + onset, period, at + LASTS, [Happening(fault, at, LASTS)]))
    return next(
        (n for n, verdict in enumerate(found[at:], 1) if verdict is not None and (verdict.decision == "reject")), None
    )


def _account(delays: Sequence[int | None]) -> str:
    found = [delay for delay in delays if delay is not None]
    missed = f", {len(delays) - len(found)} not found in {LASTS}" if len(found) < len(delays) else ""
    return f"after {statistics.median(found):g} frames, {max(found)} at most{missed}" if found else "never found"


def _undisturbed(detector: Detector, period: float) -> None:
    alarms, highest = 0, 0.0
    for stream in range(STREAMS):
        for verdict in _verdicts(detector, _frames(200 + stream, period, UNDISTURBED // STREAMS)):
            if verdict is not None:
                alarms += verdict.decision == "reject"
                highest = max(highest, verdict.image_score / verdict.threshold)
    print(f"  undisturbed: {alarms} rejects in {UNDISTURBED} frames, highest score {highest:.3f} of the limit")


def _strip(detector: Detector, period: float, fault: Fault) -> np.ndarray:
    """Frames around the beginning of a fault, and the score of every frame below them."""
    shown = _STRIP * _EVERY
    at, first = LEAD + shown // 3, LEAD
    images = list(_frames(300, period, first + shown, [Happening(fault, at, shown)]))
    scored = [0.0 if one is None else one.image_score / one.threshold for one in _verdicts(detector, images)]
    strip = np.hstack(images[first::_EVERY])
    width = strip.shape[1]
    curve = np.full((_HEIGHT, width, 3), 255, np.uint8)
    step = width / shown
    points = [
        ((n + 0.5) * step, _HEIGHT - 8 - min(score, 2.5) * (_HEIGHT - 16) / 2.5)
        for n, score in enumerate(scored[first:])
    ]
    limit = round(_HEIGHT - 8 - (_HEIGHT - 16) / 2.5)
    cv2.line(curve, (0, limit), (width, limit), (60, 60, 200), 1)
    cv2.line(curve, (round((at - first) * step), 0), (round((at - first) * step), _HEIGHT), (160, 160, 160), 1)
    cv2.polylines(curve, [np.rint(points).astype(np.int32)], False, (120, 80, 20), 2, cv2.LINE_AA)
    cv2.putText(curve, fault, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
    return np.vstack([strip, curve])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks cycle")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of models")
    parser.add_argument("--sheet", type=Path, help="write frames of each fault, and the scores over time")
    return parser
