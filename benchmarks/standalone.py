"""Verdicts in one file beside edgead's own: how far scores and maps are apart, and what both cost.

    python -m benchmarks standalone MODEL... --images FOLDER

FOLDER is a data set: so many of its good test images as of its defects, evenly over their names. They are brought to
the size of the most where they have several. Files and edgead take turns, image by image, on one thread each, first on
ONNX Runtime and then on OpenVINO. Times are the processor's: what else the machine does counts for
neither. Rows are printed as they stand in RESULTS.md.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from edgead.export import standalone

from edgead.artifact.folder import Artifact
from edgead.calibration.conformal import score_scale
from edgead.dataset.folders import find_test_images
from edgead.detector import Detector
from edgead.images.files import load_image


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks standalone", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=12, help="of the images")
    options = parser.parse_args(arguments)
    images = of_one_size([load_image(path) for path in chosen(options.images, options.count)])
    for path in options.models:
        artifact = Artifact.load(path)
        content = standalone.standalone_graph(artifact, "fp32", images[0].shape[:2]).SerializeToString()
        for runtime, open_run in RUNTIMES.items():
            with Detector(artifact, runtime=runtime, precision="fp32", threads=1) as detector:
                print(row(path, runtime, len(content), compared(open_run(content), detector, images)), flush=True)


RUNTIMES: dict[str, Callable[[bytes], standalone.Run]] = {
    "onnxruntime": standalone.run_by_onnxruntime,
    "openvino": standalone.run_by_openvino,
}


def chosen(data: Path, count: int) -> list[Path]:
    """Half good images and half defects of a data set, evenly over their names."""
    images = find_test_images(data)
    kinds = [[one.path for one in images if one.is_defective is defective] for defective in (False, True)]
    return [of_kind[round(at)] for of_kind in kinds for at in np.linspace(0, len(of_kind) - 1, count // 2)]


def of_one_size(images: list[np.ndarray]) -> list[np.ndarray]:
    """Images at the size of the most of them."""
    ((height, width), _), *_ = Counter(image.shape[:2] for image in images).most_common()
    return [image if image.shape[:2] == (height, width) else cv2.resize(image, (width, height)) for image in images]


def compared(run: standalone.Run, detector: Detector, images: list[np.ndarray]) -> dict[str, float]:
    """Largest errors, decisions that differ, and median milliseconds of processor time."""
    assert detector.graph.calibration is not None
    scores, maps, changed, of_file, of_edgead = [], [], 0, [], []
    for call in (run, detector.predict):
        call(images[0])  # a first call allocates
    for image in images:
        started = time.process_time()
        anomaly_map, score, decision = run(image)
        between = time.process_time()
        verdict = detector.predict(image)
        of_edgead.append(time.process_time() - between)
        of_file.append(between - started)
        scale = float(score_scale(verdict.image_score, detector.graph.calibration.scores))
        scores.append(abs(score - verdict.image_score) / scale)
        maps.append(np.abs(anomaly_map - verdict.anomaly_map).max() / np.abs(verdict.anomaly_map).max())
        changed += standalone.DECISIONS[decision] != verdict.decision
    return {
        "images": len(images),
        "score": max(scores),
        "map": float(max(maps)),
        "changed": changed,
        "file_ms": 1e3 * median(of_file),
        "edgead_ms": 1e3 * median(of_edgead),
    }


def row(path: Path, runtime: str, size: int, found: dict[str, float]) -> str:
    """A line of the table."""
    return (
        f"| {path.name} | {runtime} | {found['images']} | {found['score']:.1e} | {found['map']:.1e} "
        f"| {found['changed']} | {size / 2**20:.1f} | {found['file_ms']:.1f} | {found['edgead_ms']:.1f} |"
    )
