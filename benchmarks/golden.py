"""One golden part: how well it shows what differs on another one, as it lies, moved and turned.

    python -m benchmarks golden DEEPPCB --preset fine
    python -m benchmarks golden DEEPPCB --choose --preset fine --set reach=3

DEEPPCB holds pairs: `test/good/NAME_temp.png` is the golden part of `test/defective/NAME_test.png`. Pixel average
precision over the pixels of all pairs, against the boxes that the set has in place of masks. Beside it stands the
difference of grey levels, smoothed as the map. With `--choose` settings are compared without any image of the test
set: the golden part is every second good image of the training set, and the other one is the same with spots of copper
put on or taken off at its edges, as rough and as far off as the set's own images are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import yaml

from edgead import metrics
from edgead.adapt.methods import METHODS, find_preset
from edgead.artifact.preprocess import preprocess
from edgead.images.files import list_images, load_image
from edgead.workstation.methods.golden import GoldenMethod

# Pixels in x and y, degrees.
MOVES = {"as given": (0.0, 0.0), "moved 8 px": (8.0, 0.0), "turned 3 degrees": (0.0, 3.0)}
MEASURED_STEP = 2  # of the pixels every second in rows and columns: a quarter of the memory
SPOTS, SPOT_PX, BOX_PX = (3, 8), (3, 8), 6


class Pair(NamedTuple):
    """A golden image and another one, uint8 BGR (H, W, 3), and where that differs, bool (H, W)."""

    golden: np.ndarray
    other: np.ndarray
    mask: np.ndarray


def main(arguments: list[str]) -> None:
    """Print pixel average precision of both ways to compare."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    given = dict(pair.split("=", 1) for pair in options.set)
    settings = {**find_preset("golden", options.preset), **{key: yaml.safe_load(value) for key, value in given.items()}}
    pairs = (
        drawn_pairs(options.deeppcb, options.pairs) if options.choose else real_pairs(options.deeppcb, options.pairs)
    )
    scored = measure(pairs, METHODS["golden"].from_settings(settings))
    print(f"| {settings} | {' | '.join(MOVES)} |\n| --- |{' --- |' * len(MOVES)}")
    for name, precisions in scored.items():
        print(f"| {name} | {' | '.join(f'{precision:.3f}' for precision in precisions)} |")


def measure(pairs: Iterator[Pair], method: GoldenMethod) -> dict[str, list[float]]:
    """Pixel average precision by way of comparing, one for each of `MOVES`."""
    maps: dict[str, list[list[np.ndarray]]] = {name: [[] for _ in MOVES] for name in ("golden", "grey levels")}
    masks: list[list[np.ndarray]] = [[] for _ in MOVES]
    for pair in pairs:
        trained = method.fit([preprocess(pair.golden, method.preprocessing)])
        for number, (shift, degrees) in enumerate(MOVES.values()):
            other = moved(pair.other, shift, degrees)
            mask = moved(pair.mask.astype(np.uint8), shift, degrees, cv2.BORDER_CONSTANT) > 0
            found = {"golden": compare(method, trained.arrays, other), "grey levels": difference(pair.golden, other)}
            masks[number].append(mask[::MEASURED_STEP, ::MEASURED_STEP])
            for name, one in found.items():
                resized = cv2.resize(one, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
                maps[name][number].append(resized[::MEASURED_STEP, ::MEASURED_STEP])
    return {
        name: [metrics.Pixels(*both).average_precision() for both in zip(of_moves, masks, strict=True)]
        for name, of_moves in maps.items()
    }


def compare(method: GoldenMethod, arrays: dict[str, np.ndarray], image: np.ndarray) -> np.ndarray:
    """The anomaly map of an image, by the torch network and the head that ships."""
    spec, head = method.preprocessing, method.head
    with torch.inference_mode():
        given = method.network(torch.from_numpy(preprocess(image, spec))[None])
    tensors = given if isinstance(given, tuple) else (given,)
    outputs = {output.name: tensor.numpy() for output, tensor in zip(head.outputs, tensors, strict=True)}
    scorer = head.open(outputs, arrays, spec.image_size)
    scored = scorer.score(outputs)
    assert scored is not None
    return scorer.anomaly_map(scored.patch_scores)[0]


def difference(golden: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The difference of grey levels, smoothed over 4 pixels."""
    greys = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32) for image in (golden, other)]
    return cv2.GaussianBlur(np.abs(greys[0] - greys[1]), (0, 0), 4)


def moved(image: np.ndarray, shift: float, degrees: float, border: int = cv2.BORDER_REFLECT) -> np.ndarray:
    """The image shifted to the right and down, and turned about its centre."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    turn[:, 2] += shift
    return cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)


def real_pairs(folder: Path, count: int) -> Iterator[Pair]:
    """Pairs of the test set, evenly over all."""
    for path in _some(list_images(folder / "test" / "defective"), count):
        name = path.stem.removesuffix("_test")
        mask = load_image(folder / "ground_truth" / "defective" / f"{path.stem}_mask.png")
        golden = load_image(folder / "test" / "good" / f"{name}_temp.png")
        yield Pair(golden, load_image(path), mask[..., 0] > 0)


def drawn_pairs(folder: Path, count: int) -> Iterator[Pair]:
    """Pairs of one half of the training set and drawn defects."""
    rng = np.random.default_rng(0)
    for path in _some(list_images(folder / "train" / "good")[::2], count):
        golden = load_image(path)
        yield Pair(golden, *spotted(golden, rng))


def spotted(golden: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Put copper on a board, or take it off, at some of its edges; returns the image and the boxes around the spots."""
    board = golden[..., 0]
    mask = np.zeros(board.shape, bool)
    edges = np.argwhere(cv2.morphologyEx(board, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0)
    for y, x in edges[rng.integers(len(edges), size=rng.integers(*SPOTS, endpoint=True))]:
        axes = tuple(map(int, rng.integers(*SPOT_PX, size=2, endpoint=True)))
        colour = int(rng.choice([0, 255]))
        spot = cv2.ellipse(board.copy(), (int(x), int(y)), axes, float(rng.integers(180)), 0, 360, colour, -1)
        rows, columns = np.nonzero(spot != board)
        if len(rows):
            top, left = max(0, rows.min() - BOX_PX), max(0, columns.min() - BOX_PX)
            mask[top : rows.max() + BOX_PX, left : columns.max() + BOX_PX] = True
            board = spot
    off = moved(board, float(rng.uniform(-1, 1)), 0.0).astype(np.float32)
    rough = cv2.GaussianBlur(rng.normal(0, 180, board.shape).astype(np.float32), (0, 0), 2)
    binary = np.where(cv2.GaussianBlur(off + rough, (0, 0), 1) > 127, 255, 0).astype(np.uint8)
    return cv2.cvtColor(binary, cv2.COLOR_GRAY2BGR), mask


def _some(paths: Sequence[Path], count: int) -> list[Path]:
    picks = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return [paths[pick] for pick in picks]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks golden", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("deeppcb", type=Path, help="the set in MVTec layout")
    parser.add_argument("--preset", default="default", help="of golden")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another setting")
    parser.add_argument("--pairs", type=int, default=120, help="at most so many, evenly over all")
    parser.add_argument("--choose", action="store_true", help="on drawn defects of half of the training set")
    return parser
