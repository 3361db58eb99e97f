"""What the defaults of a detector were chosen by: good training images held out, with defects drawn on them.

    python -m benchmarks defaults DATA --detector simplenet

prints the image AUROC of several settings. Only DATA/train/good is read, never a test set.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from edgead.adapt.methods import METHODS, find_preset
from edgead.dataset.folders import find_good_images
from edgead.dataset.images import Images
from edgead.workstation.methods.validation import DrawnTest, score_images

DEEP = {"layers": ("stride16", "stride32")}
PLAIN = {"damp_length": False, "whiten": False, "margin": 0, "window": 1}
DEEPEST = {"layers": ("stride8", "stride16", "stride32a", "stride32")}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "patchcore": {
        "the defaults": {},
        "the paper's features and score": {**PLAIN, "top_patches": 1},
        "  mean of 20 patches": {**PLAIN, "top_patches": 20},
        "  the same, stride 16 and 32": {**PLAIN, **DEEP, "top_patches": 20},
        "damped, in the metric, mean of 20 patches": {"window": 1, "top_patches": 20},
        "  length damped, stride 16 and 32": {**DEEP, "window": 1, "top_patches": 20},
        "damped, in the metric, ten windows of 3 x 3": {"window": 3, "top_patches": 10},
        "damped, in the metric, window of 5 x 5": {"window": 5, "top_patches": 1},
        "  stride 16 alone, 20,000 rows, window of 3 x 3": {
            "layers": ("stride16",),
            "memory_bank_size": 20000,
            "window": 3,
        },
    },
    "mvg": {
        "mvg, every level, all components": {"reduction": "none"},
        "mvg, every level, PCA": {"reduction": "pca"},
        "mvg, every level, NPCA": {"reduction": "npca"},
        "mvg, four levels from stride 8, NPCA": {**DEEPEST, "reduction": "npca"},
    },
    "simplenet": {
        "the defaults": {},
        "  the maximum of all patches": {"window": 1, "top_patches": 1, "rings": 0},
        "  noise of 0.03 alone": {"noise_std": 0.03, "noise_spread": 1.0},
        "  not whitened": {"whiten": False},
        "  hidden layer of 256": {"hidden": 256},
        "  twice the steps": {"steps": 600},
        "  the last weights": {"averaging": 0.0},
        "  to the end, from all images": {"held_out": 0.0},
    },
}


def main(arguments: list[str]) -> None:
    """Print a table of image AUROCs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks defaults", description=__doc__)
    parser.add_argument("data", type=Path, help="data set in MVTec layout; only train/good is read")
    parser.add_argument("--detector", default="patchcore", choices=VARIANTS)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--train", type=int, default=400, help="images to learn from; the others are judged")
    parser.add_argument("--only", default="", metavar="TEXT", help="only variants with this in their name")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(arguments)

    paths = np.random.default_rng(options.seed).permutation(np.array(find_good_images(options.data), dtype=object))
    test = DrawnTest.of(list(paths[options.train :]), options.seed)
    print(f"{options.train} images to learn from, {len(test.good)} good and {len(test.flawed)} drawn defects to judge")
    for name, settings in VARIANTS[options.detector].items():
        if options.only not in name:
            continue
        model = METHODS[options.detector].from_settings({**find_preset(options.detector, options.preset), **settings})
        trained = model.fit(Images(list(paths[: options.train]), model.preprocessing))
        print(f"{name:40s} image AUROC {test.auroc(score_images(trained, test.images)):.3f}", flush=True)
