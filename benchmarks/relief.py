"""Are dents found in heights that a image does not show? A milled plate under a height camera and under flat light.

    python -m benchmarks relief -o WORK
    python -m benchmarks relief -o WORK --sheet docs/relief.jpg

Plates are rendered (`edgead.synthetic.heights`). A model of heights and one of 8-bit images learn the same good
plates and judge the same dents. Then how far a tilt of the plate changes scores, and how far holes raise good ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import edgead
from edgead.images.files import write_image
from edgead.images.overlay import draw_overlay
from edgead.images.sheet import contact_sheet
from edgead.synthetic.heights import MM_PER_COUNT, SIZE, render_plate, write_plates

NO_DENT_MM = 1e-6  # a kind of its own, whose AUROC must be chance
DENTS_MM = (NO_DENT_MM, 0.05, 0.1, 0.3, 0.6, 1.0)
GOOD, TESTED, PLATES = 40, 20, 10
TILTS_MM = ((0.0, 0.0), (1.5, -1.5), (8.0, 4.0), (30.0, -20.0))
HOLES_PX = (4, 10, 20, 40)
SHOWN_MM = (0.0, 0.1, 0.3, 1.0)


def main(arguments: list[str]) -> None:
    """Write the plates and train what WORK does not have, and print what was found."""
    options = _parser().parse_args(arguments)
    plates = options.output / "plates"
    if not plates.is_dir():
        write_plates(plates, good=GOOD, tested=TESTED, dents_mm=DENTS_MM)
    models = {
        "heights": _model(plates / "heights", options.output / "heights", input="relief", mm_per_count=MM_PER_COUNT),
        "images": _model(plates / "images", options.output / "images"),
    }
    for camera, model in models.items():
        kinds = model.evaluate(plates / camera).to_dict()["defect_types"]
        print(camera, ", ".join(f"{kind} {row['image_AUROC']:.3f}" for kind, row in kinds.items()), flush=True)
    relief = models["heights"]
    for tilt in TILTS_MM[1:]:
        changes = [_change(relief, number, TILTS_MM[0], tilt) for number in range(PLATES)]
        print(f"tilt {tilt} mm: scores change by {100 * max(changes):.2f} % at most", flush=True)
    for side in HOLES_PX:
        rises = [_rise(relief, number, side) for number in range(PLATES)]
        print(f"hole {side} px: scores rise by {100 * np.mean(rises):.1f} %, {100 * max(rises):.1f} % at most")
    if options.sheet:
        write_image(options.sheet, _sheet(relief))


def _model(data: Path, model: Path, **settings: object) -> edgead.Model:
    if not model.is_dir():
        return edgead.train(data, model, image_size=list(SIZE), memory_bank_size=1000, **settings)
    return edgead.load(model)


def _change(model: edgead.Model, number: int, *tilts: tuple[float, float]) -> float:
    """Relative change of a dent's score; the same plate, and the same noise, lies otherwise."""
    plates = [render_plate(np.random.default_rng([9, number]), dent_mm=0.3, tilt_mm=tilt) for tilt in tilts]
    level, tilted = (model.measure(plate.heights).image_score for plate in plates)
    return abs(tilted / level - 1)


def _rise(model: edgead.Model, number: int, side: int) -> float:
    """Relative rise of a good plate's score by a square hole anywhere on it."""
    rng = np.random.default_rng([8, number])
    heights = render_plate(rng).heights
    whole = model.measure(heights).image_score
    y, x = (int(rng.integers(0, length - side)) for length in heights.shape)
    heights[y : y + side, x : x + side] = 0
    return model.measure(heights).image_score / whole - 1


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
