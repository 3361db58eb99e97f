"""Process that sorts rejects while a line runs: takes images, prints the kinds with their images and descriptors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edgead.detector import Detector
from edgead.errors import EdgeadError
from edgead.unlabelled.sorting.sort import SortPlan, sort_images


def main() -> None:
    """Sort images into kinds (arguments: model, images...); print a line for each, and then a result as JSON."""
    model, *images = sys.argv[1:]
    try:
        with Detector.load(model, runtime="onnxruntime") as detector:
            found = sort_images(detector, list(map(Path, images)), SortPlan(), progress=lambda *_: print(flush=True))
    except EdgeadError as error:
        print(json.dumps({"problem": str(error)}))
        return
    pairs = zip(found.images, found.parts, strict=True)
    examples = {str(one.path): {"part": part, "descriptor": one.descriptor.tolist()} for one, part in pairs}
    heaps = [[str(one.path) for one in found.of_kind(number)] for number in range(found.clusters.count)]
    said = {"heaps": heaps, "clear": found.clusters.clear, "left_out": len(found.ok) + len(found.problems)}
    print(json.dumps({**said, "examples": examples}))
