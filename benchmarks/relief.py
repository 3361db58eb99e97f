"""Are dents and stains found in heights, in colours, and in both? A milled plate under a height camera and a dome.

    python -m benchmarks relief -o WORK
    python -m benchmarks relief -o WORK --sheet docs/relief.jpg

Plates are rendered (`benchmarks.plates`). A model of heights, one of 8-bit images and one of both learn the same
good plates and judge the same dents, which have no colour, and stains, which have no height. Then how far a tilt of the
plate changes scores, how much of that is the rounding to counts, and how far holes raise good ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import edgead
from benchmarks.plates import MM_PER_COUNT, SIZE, Plate, render_plate, write_plates
from edgead.images.files import write_image
from edgead.images.overlay import draw_overlay
from edgead.images.pairs import joined
from edgead.images.sheet import contact_sheet

NOTHING = 1e-6  # a kind of its own, whose AUROC must be chance
DENTS_MM = (NOTHING, 0.05, 0.1, 0.3, 0.6, 1.0)
STAINS = (0.05, 0.1, 0.15, 0.2, 0.3)
GOOD, TESTED, PLATES = 40, 20, 10
TILTS_MM = ((1.5, -1.5), (8.0, 4.0), (30.0, -20.0))
COUNTS = (1.0, 0.2)  # of `MM_PER_COUNT`
HOLES_PX = (4, 10, 20, 40, 80)
SHOWN_MM = (0.0, 0.1, 0.3, 1.0)
INPUTS = {"heights": "relief", "images": "rgb", "pairs": "rgb_relief"}


def main(arguments: list[str]) -> None:
    """Write the plates and train what WORK does not have, and print what was found."""
    options = _parser().parse_args(arguments)
    plates = options.output / "plates"
    if not plates.is_dir():
        write_plates(plates, good=GOOD, tested=TESTED, dents_mm=DENTS_MM, stains=STAINS)
    models = {}
    for camera, name in INPUTS.items():
        heights = {} if name == "rgb" else {"mm_per_count": MM_PER_COUNT}
        models[camera] = _model(plates / camera, options.output / camera, input=name, **heights)
        kinds = models[camera].evaluate(plates / camera).to_dict()["defect_types"]
        print(name, ", ".join(f"{kind} {row['image_AUROC']:.3f}" for kind, row in kinds.items()), flush=True)
    _print_tilts(models["heights"])
    for camera in ("heights", "pairs"):
        for side in HOLES_PX:
            rises = [_rise(models[camera], camera, number, side) for number in range(PLATES)]
            print(
                f"{camera}, hole {side} px: scores rise by {100 * np.mean(rises):.1f} %, {100 * max(rises):.1f} at most"
            )
    if options.sheet:
        write_image(options.sheet, _sheet(models["heights"]))


def _model(data: Path, model: Path, **settings: object) -> edgead.Model:
    if not model.is_dir():
        return edgead.train(data, model, image_size=list(SIZE), memory_bank_size=1000, **settings)
    return edgead.load(model)


def _print_tilts(model: edgead.Model) -> None:
    """How far scores of dents change where the same surface lies otherwise, and where it only begins between counts."""
    for count in COUNTS:
        changes = [_change(model, number, count, offset=0.37) for number in range(PLATES)]
        print(f"counts of {count * MM_PER_COUNT:g} mm, 0.37 counts higher: {100 * max(changes):.2f} % at most")
    for tilt in TILTS_MM:
        for count in (*COUNTS, 0.0):
            changes = [_change(model, number, count, tilt_mm=tilt) for number in range(PLATES)]
            what = f"counts of {count * MM_PER_COUNT:g} mm" if count else "floats"
            print(f"{what}, tilt {tilt} mm: scores change by {100 * max(changes):.2f} % at most", flush=True)


def _change(
    model: edgead.Model, number: int, count: float, *, offset: float = 0, tilt_mm: tuple[float, float] = (0, 0)
) -> float:
    """Relative change of a dent's score; the same surface, with its noise, is rounded to counts once it is moved."""
    rng = np.random.default_rng([9, number])
    counts = render_plate(rng, dent_mm=0.3, tilt_mm=(0, 0)).heights.astype(np.float64)
    surface = np.where(counts > 0, counts + rng.uniform(-0.5, 0.5, counts.shape), np.nan)  # between counts
    down, across = (np.arange(side) / side - 0.5 for side in counts.shape)
    moved = surface + offset * count + (tilt_mm[0] * across + tilt_mm[1] * down[:, None]) / MM_PER_COUNT

    def score(values: np.ndarray) -> float:
        rounded = np.rint(values / count) * count if count else values
        return model.measure(rounded.astype(np.float32)).image_score

    return abs(score(moved) / score(surface) - 1)


def _rise(model: edgead.Model, camera: str, number: int, side: int) -> float:
    """Relative rise of a good plate's score by a square hole anywhere on it."""
    rng = np.random.default_rng([8, number])
    plate = render_plate(rng)
    whole = model.measure(_of_camera(plate, camera)).image_score
    y, x = (int(rng.integers(0, length - side)) for length in plate.heights.shape)
    plate.heights[y : y + side, x : x + side] = 0
    return model.measure(_of_camera(plate, camera)).image_score / whole - 1


def _of_camera(plate: Plate, camera: str) -> np.ndarray:
    return plate.heights if camera == "heights" else joined(plate.image, plate.heights)


def _sheet(model: edgead.Model) -> np.ndarray:
    """The image, the relief and the verdict of plates with dents of several depths."""
    plates = {depth: render_plate(np.random.default_rng(7), dent_mm=depth) for depth in SHOWN_MM}
    tiles = [(plate.image, f"image, dent of {depth:g} mm") for depth, plate in plates.items()]
    for plate in plates.values():
        tiles.append((draw_overlay(model.visible(plate.heights), model.predict(plate.heights)), "heights"))
    return contact_sheet(tiles, columns=len(plates), tile_px=240)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks relief")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of plates and models")
    parser.add_argument("--sheet", type=Path, help="write an image of plates and what is found on them")
    return parser
