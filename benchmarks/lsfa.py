"""Do adapted features of colour and height find more? LSFA beside patchcore, on rendered dents and stains.

    python -m benchmarks lsfa -o WORK

Needs the plug-in edgead-height. Plates are those of `python -m benchmarks relief`, images of 128 x 128 pixels.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import edgead
from benchmarks.plates import MM_PER_COUNT, write_plates

NOTHING = 1e-6  # a kind of its own, whose AUROC must be chance
DENTS_MM = (NOTHING, 0.01, 0.02, 0.03, 0.05)
STAINS = (0.03, 0.05, 0.1, 0.15)
GOOD, TESTED = 40, 20
COMMON = {
    "input": "rgb_relief",
    "mm_per_count": MM_PER_COUNT,
    "image_size": [128, 128],
    "backbone": "efficientnet_lite0",
    "memory_bank_size": 1000,
}
DETECTORS = ("patchcore", "lsfa")


def main(arguments: list[str]) -> None:
    """Write the plates and train what WORK does not have, and print what was found."""
    options = _parser().parse_args(arguments)
    plates = options.output / "plates"
    if not plates.is_dir():
        write_plates(plates, good=GOOD, tested=TESTED, dents_mm=DENTS_MM, stains=STAINS, seed=options.seed)
    for detector in DETECTORS:
        model, started = options.output / detector, time.perf_counter()
        if not model.is_dir():
            edgead.train(plates / "pairs", model, detector=detector, seed=options.seed, **COMMON).close()
            print(f"{detector}: trained in {time.perf_counter() - started:.0f} s", flush=True)
        found = edgead.load(model).evaluate(plates / "pairs").to_dict()
        kinds = ", ".join(f"{kind} {row['image_AUROC']:.3f}" for kind, row in found["defect_types"].items())
        print(f"{detector}: image AUROC {kinds}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks lsfa")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of plates and models")
    parser.add_argument("--seed", type=int, default=0, help="of plates and models")
    return parser
