"""One model of several products: `inp_lite` beside one memory bank of `patchcore` of the same size, by image AUROC.

    python -m benchmarks inp_lite PANEL_FOLDER --tiles MAGNETIC_TILES -o WORK --sets tiles,deeppcb,bottle,line

Both learn from the good training images of all sets together, at the same image size, and are judged on the test
images of each set. The bank has as many numbers as what `inp_lite` trains. Frames are timed in torch, on one thread, by
process time. Settings are chosen on other sets than those that are reported on. A run that was stopped goes on in its
training.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.panel_sets import LABELS, PanelSet, add_panel_arguments, find_sets
from benchmarks.panel_settings import read_pair
from edgead import metrics
from edgead.adapt.methods.method import Method, Trained
from edgead.adapt.methods.patchcore import PatchCore
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.dataset.groups import group_images
from edgead.dataset.images import Images
from edgead.images.files import load_image
from edgead.workstation.methods.validation import score_images
from edgead.workstation.trainer.checkpoint import Checkpoint
from edgead_foundation.inp_lite import InpLite

SEED = 0


def main(arguments: list[str]) -> None:
    """Train both, judge set by set, print a row each."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    only = options.sets.split(",") if options.sets else []
    sets = find_sets(options.panel, options.output, tiles=options.tiles, only=only)
    settings = dict(map(read_pair, options.set))
    lite = InpLite.from_settings(settings)
    count = sum(parameter.numel() for parameter in lite.network.reconstruction.parameters())
    rows = count // sum(lite.network.features.channels)
    size = {"image_size": lite.config.image_size, "memory_bank_size": rows}
    models = {"inp_lite": lite, "patchcore": PatchCore.from_settings(size)}
    paths, groups = good_images(sets, options.good)
    print(f"{len(paths)} good images of {len(sets)} products; {count} numbers, a bank of {rows} rows", flush=True)
    state = Checkpoint(options.output / "state", {"settings": lite.settings(), "images": list(map(str, paths))})
    trained = {name: _fitted(name, model, paths, groups, state) for name, model in models.items()}
    print("\n| set | good, defective | " + " | ".join(trained) + " |\n|---|---|" + "---|" * len(trained))
    found: list[dict[str, float]] = []
    times: dict[str, float] = dict.fromkeys(trained, 0.0)
    for data in sets:
        counts, aurocs = judge(data, trained, options.tests, times)
        found.append(aurocs)
        _print_row(LABELS.get(data.name, data.name), f"{counts[0]}, {counts[1]}", aurocs)
    _print_row("mean", "", {name: float(np.mean([one[name] for one in found])) for name in trained})
    print(f"\na frame takes {times['inp_lite'] / times['patchcore']:.2f} of patchcore's time", flush=True)


def good_images(sets: Sequence[PanelSet], most: int) -> tuple[list[Path], list[int]]:
    """Good training images of all sets, at most `most` of each by whole groups, and the group of each image."""
    paths: list[Path] = []
    numbers: list[int] = []
    for data in sets:
        every = find_good_images(data.folder)
        groups = np.array(group_images(every, data.group, data.folder).of(every))
        order = np.random.default_rng(SEED).permutation(groups.max() + 1)
        kept = [index for group in order for index in np.flatnonzero(groups == group)][: most or None]
        first = max(numbers, default=-1) + 1
        paths += [every[index] for index in kept]
        numbers += [first + int(groups[index]) for index in kept]
    return paths, numbers


def judge(
    data: PanelSet, trained: dict[str, Trained], most: int, times: dict[str, float]
) -> tuple[tuple[int, int], dict[str, float]]:
    """Numbers of good and defective test images, and the AUROC of each model; adds the seconds of their frames."""
    tests = find_test_images(data.folder)
    rng = np.random.default_rng(SEED)
    both = [[one for one in tests if one.is_defective is kind] for kind in (False, True)]
    chosen = [[kind[i] for i in rng.permutation(len(kind))[: most or None]] for kind in both]
    labels = [one.is_defective for kind in chosen for one in kind]
    images = [load_image(one.path) for kind in chosen for one in kind]
    aurocs = {}
    for name, model in trained.items():
        started = time.process_time()
        aurocs[name] = metrics.auroc(labels, score_images(model, images))
        times[name] += time.process_time() - started
    return (len(chosen[0]), len(chosen[1])), aurocs


def _fitted(name: str, model: Method[Any], paths: Sequence[Path], groups: Sequence[int], state: Checkpoint) -> Trained:
    started = time.process_time()
    trained = model.fit(Images(paths, model.preprocessing), groups=groups, checkpoint=state)
    print(f"{name}: learnt in {time.process_time() - started:.0f} s of one core", flush=True)
    return trained


def _print_row(name: str, counts: str, aurocs: dict[str, float]) -> None:
    print(f"| {name} | {counts} | " + " | ".join(f"{auroc:.3f}" for auroc in aurocs.values()) + " |", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks inp_lite",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_panel_arguments(parser, work="folder of what is laid out")
    parser.add_argument("--good", type=int, default=0, help="most good images of each set; 0 for all")
    parser.add_argument("--tests", type=int, default=0, help="most good and most defective test images of each set")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings of inp_lite")
    return parser
