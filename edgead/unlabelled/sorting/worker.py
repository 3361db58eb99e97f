"""Process that sorts rejects beside a line: images in, heaps of images and what describes each out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from edgead.detector import Detector
from edgead.errors import EdgeadError
from edgead.unlabelled.sorting.sort import SortPlan, sort_images


def main() -> None:
    """Sort the images that the arguments name after a model; print the result, or the problem, as JSON."""
    model, *images = sys.argv[1:]
    try:
        print(json.dumps(_sort(model, [Path(image) for image in images])))
    except EdgeadError as error:
        print(json.dumps({"problem": str(error)}))


def _sort(model: str, images: list[Path]) -> dict[str, Any]:
    with Detector.load(model, runtime="onnxruntime") as detector:
        found = sort_images(detector, images, SortPlan())
    return {
        "heaps": [[str(one.path) for one in found.of_kind(number)] for number in range(found.clusters.count)],
        "examples": {
            str(one.path): {"part": part, "descriptor": one.descriptor.tolist()}
            for one, part in zip(found.images, found.parts, strict=True)
        },
        "left_out": len(found.ok) + len(found.problems),
    }
