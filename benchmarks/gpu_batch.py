"""Frames on an NVIDIA card at once against frames one by one: milliseconds of a frame, by one engine.

    edgead engine MODEL --precision fp16 --batch 4
    python -m benchmarks gpu_batch MODEL --precision fp16

Prints JSON: medians over rounds that take turns, and the largest difference of an image score, as a share of it. What
the engine's kernels for a batch round otherwise is all that may differ.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgead import Detector
from edgead.errors import EdgeadError
from edgead.images.files import load_image

ROUNDS = 41


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu_batch", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--precision", default=None)
    parser.add_argument("--image", help="by default noise of 1280 x 1024 pixels")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO)  # how frames are launched, and of a board which memory is the fast one
    try:
        with Detector.load(options.model, runtime="tensorrt", precision=options.precision) as detector:
            if detector.at_once == 1:
                sys.exit(f"the engine of {options.model} takes one image at a time: build it with --batch")
            print(json.dumps(compare(detector, _images(detector.at_once, options.image))))
    except EdgeadError as error:
        sys.exit(str(error))


def compare(detector: Detector, images: list[np.ndarray], rounds: int = ROUNDS) -> dict[str, float]:
    """Time as many images as go at once, and the same one by one."""
    alone = [detector.predict(image).image_score for image in images]
    together = [verdict.image_score for verdict in detector.predict(images)]
    times: dict[str, list[float]] = {"alone": [], "at once": []}
    for _ in range(rounds):
        times["alone"].append(_ms(lambda: [detector.predict(image) for image in images]))
        times["at once"].append(_ms(lambda: list(detector.predict(images))))
    found = {f"frame {name} ms": statistics.median(each) / len(images) for name, each in times.items()}
    share = max(abs(one / other - 1) for one, other in zip(together, alone, strict=True))
    return {"images at once": len(images), **found, "score difference": share}


def _images(count: int, path: str | None) -> list[np.ndarray]:
    if path:
        return [load_image(path)] * count
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (1024, 1280, 3), np.uint8) for _ in range(count)]


def _ms(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - begin)
