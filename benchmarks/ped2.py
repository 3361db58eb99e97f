"""Events among people who walk: `memoryout` on the clips of UCSD Ped2, beside `patchcore` on single frames.

    python -m benchmarks ped2 PED2 -o WORK

PED2 is the data set with all its frames (Mahadevan et al. 2010): `Train/Train001/*.tif` as published, or
`training/frames/01/*.jpg` as many repackage it. Frames with an event are those of the published list. `memoryout`
learns from the first 14 training clips; the last two say how well frames are predicted that it has not learnt from,
and nothing is chosen on the test clips. Scores are those of the exported graph. A frame has none before four others.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from scipy.ndimage import gaussian_filter1d

from benchmarks.panel_settings import read_pair
from edgead import kernels, metrics
from edgead.adapt.build import write_draft
from edgead.adapt.methods import METHODS, find_preset
from edgead.artifact.folder import Artifact
from edgead.artifact.preprocess import preprocess
from edgead.detector import Detector
from edgead.images.files import list_images, load_image, write_image
from edgead.images.sheet import strip
from edgead.workstation.trainer.checkpoint import Checkpoint
from edgead_video.memoryout.detector import MemoryOut
from edgead_video.sheet import draw_chart
from edgead_video.strips import FRAMES, GIVEN, strips

EVENTS = (
    (61, 180),
    (95, 180),
    (1, 146),
    (31, 180),
    (1, 129),
    (1, 159),
    (46, 180),
    (1, 180),
    (1, 120),
    (1, 150),
    (1, 180),
    (88, 180),
)
"""First and last frame with an event, from 1 on, of each test clip: UCSDped2.m of the data set."""
HELD_OUT = 2
SIGMA = 5.0
"""Frames; of the authors' smoothing over time, which looks ahead."""
EVERY = 10
"""Of the training frames that patchcore learns from."""
SETTINGS = {"image_size": (96, 144)}


Errors = list[np.ndarray]
"""One number a frame, of each clip."""


def main(arguments: list[str]) -> None:
    """Train both, print a row for each score."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    kernels.set_threads(1)
    training, testing = read_clips(options.ped2)
    numbers = [np.arange(1, len(clip) + 1) for clip in testing]
    labels = [(first <= at) & (at <= last) for at, (first, last) in zip(numbers, EVENTS, strict=True)]
    scores = score_memoryout(training, testing, dict(map(read_pair, options.set)), options.output)
    print("| score of a frame | as it is | smoothed | 0..1 in each clip | both | mean of clips, as it is |")
    print("|---|---|---|---|---|---|")
    for name, parts in scores.items():
        print_row(f"memoryout, {name}", [label[GIVEN:] for label in labels], parts)
    if options.sheet is not None:
        write_image(options.sheet, draw_scores(list(scores.values())[-1], labels))
    print_row("patchcore `fast`, single frames", labels, [(1.0, score_patchcore(training, testing, options.output))])


def read_clips(folder: Path) -> tuple[list[list[np.ndarray]], list[list[np.ndarray]]]:
    """Frames, uint8 BGR, of the training and the test clips."""
    published = list(folder.glob("Train"))
    parts = ("Train", "Test") if published else ("training/frames", "testing/frames")
    pattern = "*[0-9]" if published else "[0-9][0-9]"
    training, testing = (
        [[load_image(path) for path in list_images(clip)] for clip in sorted((folder / part).glob(pattern))]
        for part in parts
    )
    if len(training) <= HELD_OUT or len(testing) != len(EVENTS):
        sys.exit(f"{folder}: {len(training)} training and {len(testing)} test clips were found, Ped2 has 16 and 12")
    return training, testing


def score_memoryout(
    training: Sequence[Sequence[np.ndarray]],
    testing: Sequence[Sequence[np.ndarray]],
    settings: Mapping[str, Any],
    work: Path,
) -> dict[str, list[tuple[float, Errors]]]:
    """Learn, export, and score each test clip from its fifth frame on; errors and their weights, by score."""
    method = MemoryOut.from_settings({**SETTINGS, **settings})
    learnt = [preprocess(seen, method.preprocessing) for clip in training[:-HELD_OUT] for seen in strips(clip)]
    started = time.process_time()
    trained = method.fit(learnt, checkpoint=Checkpoint(work / "memoryout.checkpoint", {"settings": method.settings()}))
    spent = time.process_time() - started
    (work / "memoryout").mkdir(parents=True, exist_ok=True)
    manifest = write_draft(trained, work / "memoryout", trained.preprocessing)
    graph = onnxruntime.InferenceSession(work / "memoryout" / manifest.graphs["fp32"].file)
    rows, side = method.network.predictor.grid[0], method.config.window

    def errors(clip: Sequence[np.ndarray]) -> np.ndarray:
        """Of each frame: mean of the whole, largest window, semantic error; and of the last frame as a prediction."""
        found = []
        for seen in strips(clip):
            laid = preprocess(seen, method.preprocessing)
            patches, semantic = graph.run(None, {"image": laid[None]})
            windows = np.lib.stride_tricks.sliding_window_view(patches[0, -rows:], (side, side)).mean((2, 3))
            last, came = (method.network.normal(torch.from_numpy(part)) for part in np.split(laid, FRAMES)[-2:])
            still = float((last - came).square().mean()) / float(method.network.usual[0])
            found.append((patches[0, -rows:].mean(), windows.max(), semantic[0], still))
        return np.array(found)

    held_out = np.concatenate([errors(clip) for clip in training[-HELD_OUT:]]).mean(0)
    print(
        f"{len(learnt)} strips learnt in {spent:.0f} s of one core, {method.config.steps} steps. Squared error on the "
        f"clips held out: {held_out[0] / held_out[3]:.3f} of that of the last frame shown again\n",
        flush=True,
    )
    whole, largest, semantic, still = zip(*((errors(clip) / held_out).T for clip in testing), strict=True)
    share = method.config.semantic_weight
    return {
        "last frame shown again": [(1.0, list(still))],
        "whole frame": [(1.0, list(whole))],
        "semantics": [(1.0, list(semantic))],
        "whole frame and semantics": [(1 - share, list(whole)), (share, list(semantic))],
        f"largest window, {side} patches wide": [(1.0, list(largest))],
        "window and semantics, as shipped": [(1 - share, list(largest)), (share, list(semantic))],
    }


def score_patchcore(
    training: Sequence[Sequence[np.ndarray]], testing: Sequence[Sequence[np.ndarray]], work: Path
) -> Errors:
    """Learn from every tenth training frame, and score each test frame alone."""
    settings = {**find_preset("patchcore", "fast"), "image_size": (176, 272)}
    method = METHODS.find("patchcore").from_settings(settings)
    groups = [number for number, clip in enumerate(training) for _ in clip[::EVERY]]
    frames = [preprocess(frame, method.preprocessing) for clip in training for frame in clip[::EVERY]]
    trained = method.fit(frames, groups=groups)
    (work / "patchcore").mkdir(parents=True, exist_ok=True)
    manifest = write_draft(trained, work / "patchcore", trained.preprocessing)
    with Detector(Artifact(work / "patchcore", manifest), runtime="onnxruntime") as detector:
        return [np.array([detector.measure(frame).image_score for frame in clip]) for clip in testing]


def draw_scores(parts: Sequence[tuple[float, Errors]], labels: Sequence[np.ndarray]) -> np.ndarray:
    """Draw a weighted sum of errors over time, a chart a clip."""
    charts = []
    for number, clip in enumerate(zip(*(errors for _, errors in parts), strict=True)):
        scores = np.sum([weight * errors for (weight, _), errors in zip(parts, clip, strict=True)], axis=0)
        charts.append(strip(f"test clip {number + 1}", 1400, 30, (90, 80, 70)))
        charts.append(draw_chart(scores, None, labels[number][GIVEN:]))
    return np.vstack(charts)


def print_row(name: str, labels: Sequence[np.ndarray], parts: Sequence[tuple[float, Errors]]) -> None:
    """Frame AUROC of a weighted sum of errors: over all frames together, and at last the mean of each clip's own."""
    columns = []
    for smoothed, scaled in ((False, False), (True, False), (False, True), (True, True)):
        weighed = [[weight * _changed(clip, smoothed, scaled) for clip in errors] for weight, errors in parts]
        scores = [np.sum(clip, axis=0) for clip in zip(*weighed, strict=True)]
        columns.append(metrics.auroc(np.concatenate(labels), np.concatenate(scores)))
        if not smoothed and not scaled:
            of_clips = [
                metrics.auroc(label, clip) for label, clip in zip(labels, scores, strict=True) if not label.all()
            ]
    print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in (*columns, np.mean(of_clips))) + " |", flush=True)


def _changed(errors: np.ndarray, smoothed: bool, scaled: bool) -> np.ndarray:
    if scaled:
        errors = (errors - errors.min()) / (errors.max() - errors.min())
    return gaussian_filter1d(errors, SIGMA) if smoothed else errors


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks ped2",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ped2", type=Path, help="folder of the data set, with all its frames")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="folder for both models; a training goes on there"
    )
    parser.add_argument("--sheet", type=Path, help="file for an image of the scores over time, with events shaded")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings of memoryout")
    return parser
