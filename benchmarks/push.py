"""Is the depth of a dent right in millimetres? Rendered plates before a detector of heights, and before patchcore.

    python -m benchmarks push -o WORK
    python -m benchmarks push -o WORK --sheet docs/height-detectors.jpg

Needs the plug-in edgead-height. Plates are those of `python -m benchmarks relief`; there are raised places too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import edgead
from benchmarks.plates import MM_PER_COUNT, render_plate, write_plates
from edgead.images.files import write_image
from edgead.images.overlay import draw_overlay
from edgead.images.sheet import contact_sheet
from edgead.metrics import auroc

NO_DENT_MM = 1e-6  # a kind of its own, whose AUROC must be chance
DEPTHS_MM = (NO_DENT_MM, 0.05, 0.1, 0.2, 0.3, 0.6, 1.0, -0.1, -0.3, -1.0)
GOOD, TESTED = 40, 30
IMAGE_SIZE = (128, 128)
SHOWN_MM = (0.1, 0.3, 1.0, -0.3)


def main(arguments: list[str]) -> None:
    """Write the plates and train what WORK does not have, and print what was found."""
    options = _parser().parse_args(arguments)
    plates = options.output / "plates"
    if not plates.is_dir():
        write_plates(plates, good=GOOD, tested=1, dents_mm=(1.0,))
    common = {"input": "relief", "mm_per_count": MM_PER_COUNT, "image_size": list(IMAGE_SIZE)}
    models = {
        "mc4ad": _model(plates, options.output / "mc4ad", detector="mc4ad", **common),
        "patchcore": _model(plates, options.output / "patchcore", memory_bank_size=1000, **common),
    }
    for name, model in models.items():
        good = [model.predict(heights) for heights in _plates(1, 0.0)]
        for depth in DEPTHS_MM:
            found = [model.predict(heights) for heights in _plates(2, depth)]
            area = auroc([False] * len(good) + [True] * len(found), [one.image_score for one in good + found])
            print(f"{name}, {_depth_text(depth)}: image AUROC {area:.3f}{_errors(found, depth)}", flush=True)
    if options.sheet:
        write_image(options.sheet, _sheet(models["mc4ad"]))


def _model(data: Path, model: Path, **settings: object) -> edgead.Model:
    return edgead.load(model) if model.is_dir() else edgead.train(data / "heights", model, **settings)


def _plates(seed: int, depth: float) -> list[np.ndarray]:
    return [render_plate(np.random.default_rng([77, seed, n]), dent_mm=depth).heights for n in range(TESTED)]


def _errors(found: list[edgead.Verdict], depth: float) -> str:
    """Of what measures: how far its pushes are off, and how many have the wrong sign."""
    if "push_mm" not in found[0].measured:
        return ""
    pushes = np.array([one.measured["push_mm"] for one in found])
    off = np.abs(pushes - depth)
    wrong = int((np.sign(pushes) != np.sign(depth)).sum())
    return (
        f", push {np.median(pushes):.3f} mm, off by {np.median(off):.3f} mm in the median, "
        f"{np.quantile(off, 0.9):.3f} in nine of ten, wrong sign {wrong} of {len(found)}"
    )


def _depth_text(depth: float) -> str:
    return "no dent" if depth == NO_DENT_MM else f"{abs(depth):g} mm too {'low' if depth > 0 else 'high'}"


def _sheet(model: edgead.Model) -> np.ndarray:
    """The relief with its heat map, and what the verdict says, of plates with dents and a bump."""
    tiles = []
    for depth in SHOWN_MM:
        heights = render_plate(np.random.default_rng(7), dent_mm=depth).heights
        verdict = model.predict(heights)
        image = draw_overlay(model.visible(heights), verdict)
        tiles.append((image, f"{_depth_text(depth)}: push {verdict.measured['push_mm']:+.2f} mm"))
    return contact_sheet(tiles, columns=len(tiles), tile_px=240)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks push")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of plates and models")
    parser.add_argument("--sheet", type=Path, help="write an image of plates and what is said of them")
    return parser
