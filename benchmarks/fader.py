"""FADeR's gates: `fader` with and without them beside `patchcore`, on the built-in line or on sets of real parts.

    python -m benchmarks fader --set image_size=[96,96] --set widths=[8,16,32] --set steps=300 --set gate_steps=150
    python -m benchmarks fader PANEL/bottle PANEL/brick --set steps=300

One training of `fader` gives both: without its gates it is `obscure`. All learn from the same good parts, at the same
image size, and are judged on other parts. Counted are defects that pass where 5 % of the good test parts are rejected,
and good parts that are rejected where 20 % of the defects pass.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import nn

from benchmarks.panel_measures import escapes_at
from benchmarks.panel_settings import read_pair
from edgead import kernels, metrics
from edgead.adapt.methods.patchcore import PatchCore
from edgead.artifact.preprocess import preprocess
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.images.files import load_image, write_image
from edgead.synthetic import DEFECTS, render
from edgead.synthetic.line import part_seed
from edgead.workstation.methods.validation import score_images
from edgead_reconstruction.fader.detector import Fader

SEEDS = {"learnt": 0, "good": 7, "defective": 9}
ESCAPES, REJECTS = 0.2, 0.05
LINE = "the built-in line"
SHOWN = 4


class Parts(NamedTuple):
    """Images to learn from, images to judge, and the kind of each of those, "good" of good ones."""

    name: str
    learnt: list[np.ndarray]
    images: list[np.ndarray]
    kinds: np.ndarray


def main(arguments: list[str]) -> None:
    """Train both on each set, print a row for each."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    kernels.set_threads(1)
    print("| set | detector | image AUROC | escapes at 5 % false rejects | false rejects at 20 % escapes | by kind |")
    print("|---|---|---|---|---|---|")
    for parts in [_folder(path, options.good) for path in options.data] or [_line(options.good, options.tests)]:
        fader = Fader.from_settings(dict(map(read_pair, options.set)))
        size = {"image_size": fader.config.image_size, "backbone": fader.config.backbone}
        learnt = [preprocess(image, fader.preprocessing) for image in parts.learnt]
        started = time.process_time()
        gated = fader.fit(learnt)
        spent_s = time.process_time() - started
        _print_row(parts, f"fader, {spent_s:.0f} s of one core", score_images(gated, parts.images))
        if options.sheet:
            _write_sheet(options.sheet, fader, parts)
        gates, fader.network.gates = fader.network.gates, nn.ModuleList()
        _print_row(parts, "obscure", score_images(gated, parts.images))
        fader.network.gates = gates
        _print_row(parts, "patchcore", score_images(PatchCore.from_settings(size).fit(learnt), parts.images))


def _line(good: int, tests: int) -> Parts:
    kinds = [DEFECTS[i % len(DEFECTS)] for i in range(tests)]
    images = [_part("good", i) for i in range(tests)] + [_part("defective", i, kind) for i, kind in enumerate(kinds)]
    return Parts(LINE, [_part("learnt", i) for i in range(good)], images, np.array(["good"] * tests + kinds))


def _folder(path: Path, good: int) -> Parts:
    tests = find_test_images(path)
    learnt = [load_image(image) for image in find_good_images(path)[:good]]
    return Parts(
        path.name, learnt, [load_image(test.path) for test in tests], np.array([test.defect for test in tests])
    )


def _part(of: str, index: int, defect: str | None = None) -> np.ndarray:
    return render(part_seed(SEEDS[of], index), defect)[0]


def _print_row(parts: Parts, detector: str, scores: np.ndarray) -> None:
    labels = parts.kinds != "good"
    limit = np.quantile(scores[labels], ESCAPES)
    of_kinds = []
    for kind in dict.fromkeys(parts.kinds[labels].tolist()):
        these = ~labels | (parts.kinds == kind)
        of_kinds.append(f"{kind} {metrics.auroc(labels[these], scores[these]):.3f}")
    row = [parts.name, detector, f"{metrics.auroc(labels, scores):.3f}", f"{escapes_at(labels, scores, REJECTS):.0%}"]
    row += [f"{(scores[~labels] > limit).mean():.0%}", ", ".join(of_kinds)]
    print(f"| {' | '.join(row)} |", flush=True)


@torch.inference_mode()
def _write_sheet(path: Path, fader: Fader, parts: Parts) -> None:
    """Draw some defective parts: image, hint in the place of what is suspicious, image made again, map."""
    chosen = np.flatnonzero(parts.kinds != "good")[:SHOWN]
    rows, network = [], fader.network
    for index in chosen:
        image = torch.from_numpy(preprocess(parts.images[index], fader.preprocessing))[None]
        hint = network.hint(image)
        again, _ = network.unet(hint, list(network.gates))
        pixels = [image[0].numpy(), *(_bytes(one[0].permute(1, 2, 0)) for one in (hint, again))]
        scores = network(image)[0].numpy()
        shown = cv2.resize(_bytes(torch.from_numpy(scores / scores.max())), pixels[0].shape[1::-1])
        rows.append(np.hstack([*(one[..., ::-1] for one in pixels), cv2.applyColorMap(shown, cv2.COLORMAP_INFERNO)]))
    write_image(path, np.vstack(rows))


def _bytes(values: torch.Tensor) -> np.ndarray:
    return (values.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks fader",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, nargs="*", help="folders in MVTec layout; without one, the built-in line")
    parser.add_argument("--good", type=int, default=80, help="good parts to learn from, at most")
    parser.add_argument("--tests", type=int, default=60, help="of the line: good and defective parts, as many of each")
    parser.add_argument("--sheet", type=Path, help="image to write: parts, hints, what was made again, maps")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings of fader")
    return parser
