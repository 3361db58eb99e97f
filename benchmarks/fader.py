"""FADeR's gates: `fader` with and without them beside `patchcore`, on parts of the built-in line.

    python -m benchmarks fader --set image_size=[96,96] --set widths=[8,16,32] --set steps=300 --set gate_steps=150

One training of `fader` gives both: without its gates it is `ear`. All learn from the same good parts, at the same image
size, and are judged on other parts. Escapes are held at 20 %, and false rejects counted.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import nn

from benchmarks.panel_settings import read_pair
from edgead import kernels, metrics
from edgead.artifact.preprocess import preprocess
from edgead.synthetic import DEFECTS, render
from edgead.synthetic.line import part_seed
from edgead.workstation.methods.patchcore.detector import PatchCore
from edgead.workstation.methods.validation import score_images
from edgead_reconstruction.fader.detector import Fader

SEEDS = {"learnt": 0, "good": 7, "defective": 9}
ESCAPES = 0.2


def main(arguments: list[str]) -> None:
    """Train both, print a row for each."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    kernels.set_threads(1)
    fader = Fader.from_settings(dict(map(read_pair, options.set)))
    size = {"image_size": fader.config.image_size, "backbone": fader.config.backbone}
    learnt = [preprocess(_part("learnt", i), fader.preprocessing) for i in range(options.good)]
    images = [_part("good", i) for i in range(options.tests)]
    kinds = [DEFECTS[i % len(DEFECTS)] for i in range(options.tests)]
    images += [_part("defective", i, kind) for i, kind in enumerate(kinds)]
    labels = np.arange(2 * options.tests) >= options.tests
    started = time.process_time()
    gated = fader.fit(learnt)
    print(f"fader: learnt in {time.process_time() - started:.0f} s of one core\n", flush=True)
    print("| detector | image AUROC | false rejects at 20 % escapes | " + " | ".join(DEFECTS) + " |")
    print("|---|" + "---|" * (2 + len(DEFECTS)))
    _print_row("fader", score_images(gated, images), labels, kinds)
    gates, fader.network.gates = fader.network.gates, nn.ModuleList()
    _print_row("ear", score_images(gated, images), labels, kinds)
    fader.network.gates = gates
    _print_row("patchcore", score_images(PatchCore.from_settings(size).fit(learnt), images), labels, kinds)


def _part(of: str, index: int, defect: str | None = None) -> np.ndarray:
    return render(part_seed(SEEDS[of], index), defect)[0]


def _print_row(name: str, scores: np.ndarray, labels: np.ndarray, kinds: list[str]) -> None:
    limit = np.quantile(scores[labels], ESCAPES)
    row = [metrics.auroc(labels, scores), float((scores[~labels] > limit).mean())]
    good = scores[~labels]
    for kind in DEFECTS:
        bad = scores[labels][np.array(kinds) == kind]
        row.append(metrics.auroc(np.arange(len(good) + len(bad)) >= len(good), np.concatenate([good, bad])))
    print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in row) + " |", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks fader",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--good", type=int, default=80, help="good parts to learn from")
    parser.add_argument("--tests", type=int, default=60, help="good and defective parts to be judged, as many of each")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings of fader")
    return parser
