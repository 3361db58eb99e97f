"""Where does the guard of `edgead teach` lie between good parts under another light, defects, and other products?

    python -m benchmarks guard MODEL [FOLDER ...]     # a model of the built-in line; folders of other products

prints for each kind of image how many the model rejects and how many would be refused, and the two ratios of
`edgead.adapt.teach.guard` (least, median, most).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from edgead.adapt.teach.guard import doubt_of, ratios
from edgead.detector import Detector
from edgead.images.files import list_images, load_image
from edgead.synthetic.demo_defects import DEFECTS
from edgead.synthetic.line import conveyor, part_seed, render
from edgead.workstation.trainer.pretraining_images import draw_texture

GOOD, DEFECTIVE, OTHERS = 40, 20, 10

Change = Callable[[np.ndarray], np.ndarray]


def exposed(factor: float, offset: float = 0) -> Change:
    return lambda image: cv2.convertScaleAbs(image, alpha=factor, beta=offset)


def scaled(factors: np.ndarray) -> Change:
    return lambda image: np.clip(image * factors, 0, 255).astype(np.uint8)


def spot(image: np.ndarray) -> np.ndarray:
    """A reflection on one place."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width]
    distance = ((x - 0.35 * width) ** 2 + (y - 0.4 * height) ** 2) / (2 * (0.12 * width) ** 2)
    return np.clip(image * (1 + 0.5 * np.exp(-distance))[..., None], 0, 255).astype(np.uint8)


LIGHTS: dict[str, Change] = {
    "as it was": np.copy,
    "12 % more light": exposed(1.12, 4),
    "25 % more light": exposed(1.25, 8),
    "50 % more light, clipped": exposed(1.5),
    "30 % less light": exposed(0.7),
    "half the light": exposed(0.5),
    "warmer": scaled(np.array([0.88, 1, 1.1])),
    "from the side": scaled(np.linspace(0.8, 1.2, 480)[None, :, None]),
    "out of focus": lambda image: cv2.GaussianBlur(image, (0, 0), 1.2),
    "a reflection": spot,
}


def kinds(folders: Sequence[Path]) -> Iterator[tuple[str, list[np.ndarray]]]:
    good = [image for image, _, _ in conveyor(177, GOOD, 0.0)]
    for name, change in LIGHTS.items():
        yield f"good, {name}", [change(image) for image in good]
    yield "good, batches", [image for image, _, _ in conveyor(31, GOOD, 0.0, parts_per_batch=4)]
    for defect in DEFECTS:
        flawed = [render(part_seed(55, number), defect)[0] for number in range(DEFECTIVE)]
        yield defect, flawed
        yield f"{defect}, 25 % more light", list(map(exposed(1.25, 8), flawed))
    for folder in folders:
        yield f"other: {folder.name}", [load_image(path) for path in list_images(folder)[:OTHERS]]
    rng = np.random.default_rng(3)
    yield "other: textures", [draw_texture(rng, 480) for _ in range(OTHERS)]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks guard", description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folders", nargs="*", type=Path)
    given = parser.parse_args(arguments)
    print(f"{'':32} images rejected refused   everywhere       one place")
    with Detector.load(given.model, runtime="onnxruntime", precision="fp32") as detector:
        limits = detector.graph.calibration
        for name, images in kinds(given.folders):
            measured = [detector.measure(image) for image in images]
            rejected = np.mean([one.image_score > limits.reject for one in measured])
            refused = np.mean([bool(doubt_of(one, limits)) for one in measured])
            columns = np.transpose([ratios(one, limits) for one in measured])
            spans = "   ".join(" ".join(f"{value:4.2f}" for value in np.quantile(row, [0, 0.5, 1])) for row in columns)
            print(f"{name:32} {len(images):6} {100 * rejected:6.0f} % {100 * refused:5.0f} %   {spans}")


if __name__ == "__main__":
    main()
