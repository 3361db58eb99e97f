"""How right are heights that two cameras give, and are dents found in them? Rendered plates before a stereo camera.

    python -m benchmarks stereo -o WORK
    python -m benchmarks stereo -o WORK --sheet docs/stereo.jpg

Plates are rendered; heights are those of `edgead_height` (`pip install ./plugins/edgead-height`). First their error
in mm, by how much texture the plates have. Then a model of the heights and one of the left images learn the same good
plates and judge the same dents.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import edgead
from benchmarks.rendered_pairs import BASELINE_MM, DISTANCE_MM, FOCAL_PX, SIZE, render_pair
from edgead.images.files import write_image
from edgead.images.overlay import draw_overlay
from edgead.images.sheet import contact_sheet
from edgead_height.stereo import Rectified, Search, StereoHeights

NO_DENT_MM = 1e-6  # a kind of its own, whose AUROC must be chance
DENTS_MM = (NO_DENT_MM, 0.25, 0.5, 1.0, 2.0)
GOOD, TESTED, PLATES = 24, 12, 8
TEXTURES = (1.0, 0.3, 0.1, 0.05, 0.0)
SEARCH = Search(min_disparity=96, disparities=96)
# What both cameras see, of 400 columns.
ROI = (150, 0, SIZE[1] - 150, SIZE[0])
SHOWN_MM = (0.0, 0.5, 1.0, 2.0)


def main(arguments: list[str]) -> None:
    """Print errors, write the plates and train what WORK does not have, and print what was found."""
    options = _parser().parse_args(arguments)
    stereo = StereoHeights(Rectified(FOCAL_PX, BASELINE_MM), SEARCH)
    step = DISTANCE_MM**2 / (FOCAL_PX * BASELINE_MM)
    print(f"a pixel of disparity is {step:.2f} mm at {DISTANCE_MM:g} mm, OpenCV's step {step / 16:.2f} mm")
    for texture in TEXTURES:
        print(f"texture {texture:g}:", _errors(stereo, texture), flush=True)
    plates = options.output / "plates"
    if not plates.is_dir():
        _write_plates(plates, stereo)
    models = {
        "heights": _model(plates / "heights", options.output / "heights", input="relief", mm_per_count=1.0),
        "images": _model(plates / "images", options.output / "images"),
    }
    for camera, model in models.items():
        kinds = model.evaluate(plates / camera).to_dict()["defect_types"]
        print(camera, ", ".join(f"{kind} {row['image_AUROC']:.3f}" for kind, row in kinds.items()), flush=True)
    if options.sheet:
        write_image(options.sheet, _sheet(stereo, models["heights"]))


def _errors(stereo: StereoHeights, texture: float) -> str:
    """Errors where both cameras look, and of dents of 1 mm, over some plates."""
    off, depths, known = [], [], []
    for number in range(PLATES):
        pair = render_pair(np.random.default_rng([7, number]), dent_mm=1.0, texture=texture)
        mm = stereo.of(pair.left, pair.right)[1][:, ROI[0] :]
        true = pair.mm[:, ROI[0] :]
        off.append((mm - true)[np.isfinite(mm)])
        known.append(np.isfinite(mm).mean())
        if np.isfinite(mm).mean() > 0.5:
            bottom, plane = true < true.max() - 0.9, true == true.max()
            depths.append(np.nanmedian(mm[plane]) - np.nanmedian(mm[bottom]))
    errors = np.concatenate(off)
    if not len(errors) or not depths:
        return f"{100 * np.mean(known):.1f} % of pixels known"
    far = 100 * float(np.mean(np.abs(errors) > 2))
    most, nearly_all = np.percentile(np.abs(errors), (68, 95))
    return (
        f"{100 * np.mean(known):.1f} % known, median {np.median(errors):+.3f} mm, 68 % within {most:.2f}, 95 % within "
        f"{nearly_all:.2f}, {far:.2f} % off by more than 2; a dent of 1 mm is {np.mean(depths):.2f} mm (spread "
        f"{np.std(depths):.2f})"
    )


def _write_plates(folder: Path, stereo: StereoHeights) -> None:
    kinds = [("train/good", 0.0, GOOD), ("test/good", 0.0, TESTED)]
    kinds += [(f"test/dent_{depth:g}mm", depth, TESTED) for depth in DENTS_MM]
    for part, (place, depth, count) in enumerate(kinds):
        for number in range(count):
            pair = render_pair(np.random.default_rng([part, number]), dent_mm=depth)
            image, mm = stereo.of(pair.left, pair.right)
            write_image(folder / "heights" / place / f"{number:03d}.tiff", mm)
            write_image(folder / "images" / place / f"{number:03d}.png", image)


def _model(data: Path, model: Path, **settings: object) -> edgead.Model:
    if model.is_dir():
        return edgead.load(model)
    settings |= {"image_size": [160, 160], "memory_bank_size": 1000, "roi": ROI, "precision": "fp32", "group": "none"}
    return edgead.train(data, model, **settings)  # type: ignore[arg-type]  # by their names


def _sheet(stereo: StereoHeights, model: edgead.Model) -> np.ndarray:
    """The left image, the heights and the verdict of plates with dents of several depths."""
    pairs = {depth: render_pair(np.random.default_rng(9), dent_mm=depth) for depth in SHOWN_MM}
    tiles = [(pair.left, f"left image, dent of {depth:g} mm") for depth, pair in pairs.items()]
    for pair in pairs.values():
        mm = stereo.of(pair.left, pair.right)[1]
        tiles.append((draw_overlay(model.visible(mm), model.predict(mm)), "heights of both"))
    return contact_sheet(tiles, columns=len(pairs), tile_px=240)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks stereo", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of plates and models")
    parser.add_argument("--sheet", type=Path, help="write an image of plates and what is found on them")
    return parser
