"""Are lesions found in volumes? StRegA with and without classes of tissue beside patchcore, on drawn heads.

    python -m benchmarks volumes -o WORK
    python -m benchmarks volumes -o WORK --sheet docs/volumes.jpg

Heads are drawn (`benchmarks.heads`), of 16 bits. All learn the same volumes with `--input grey16` for a rate of 5 %:
patchcore from all of them, each scored by what the others have taught; StRegA from half, with the others held out.
Lesions are outlined by the map's own limit, and for StRegA by all of the authors' pipeline after the network, whose
threshold is one of the whole volume.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import edgead
from benchmarks.heads import write_heads
from edgead.artifact.preprocess import preprocess
from edgead.calibration.volumes import calibrate_volumes
from edgead.dataset.folders import find_test_images
from edgead.images.files import load_image, write_image
from edgead.images.overlay import draw_overlay, draw_truth
from edgead.images.sheet import contact_sheet
from edgead.images.volumes import by_volume, slice_path, slices_of, volume_of
from edgead.metrics import auroc
from edgead.report.evaluate import Evaluation
from edgead.workstation.methods.load import load_network
from edgead_reconstruction.strega.opening import find_lesions

LEARNT, GOOD, LESIONED, SIDE = 40, 24, 24, 64
AREA = 16  # pixels of 64 x 64: as much of a slice as the 64 of 128 x 128 that StRegA has by default
OF_STREGA: dict[str, Any] = {"area": AREA, "steps": 500}
STREGA: dict[str, Any] = {
    "detector": "strega",
    "image_size": [SIDE, SIDE],
    "settings": OF_STREGA,
    "guarantee": "split",
}
MODELS: dict[str, dict[str, Any]] = {
    "patchcore": {"image_size": [2 * SIDE, 2 * SIDE], "memory_bank_size": 1000},
    "strega": STREGA,
    "strega, segment=true": {**STREGA, "settings": {**OF_STREGA, "segment": True}},
}
RATES = (0.05, 0.1)  # of volumes; the first is the model's own
COLUMNS = (
    "model",
    "slice AUROC",
    "volume AUROC",
    "lesioned slices passed at 5 %",
    *(f"{what} at {100 * rate:.0f} %" for rate in RATES for what in ("lesioned volumes passed", "good ones rejected")),
    "Dice, map's limit",
    "Dice, authors' pipeline",
    "ms a slice",
)
RULES: dict[str, Callable[[np.ndarray], float]] = {
    "highest slice": np.max,
    "highest mean of 3": lambda scores: float(_windows(scores).mean(axis=1).max()),
    "highest of the lowest of 3": lambda scores: float(_windows(scores).min(axis=1).max()),
}
SHOWN = 4  # lesioned volumes of the sheet


def main(arguments: list[str]) -> None:
    """Draw the heads and train what WORK does not have, and print a row for each model."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    heads = options.output / "heads"
    if not heads.is_dir():
        write_heads(heads, learnt=LEARNT, good=GOOD, lesioned=LESIONED, seed=options.seed)
    print(f"| {' | '.join(COLUMNS)} |\n|" + "---|" * len(COLUMNS))
    models, rules = {}, []
    for name, settings in MODELS.items():
        folder = options.output / name.replace(", ", "_")
        trained = {"input": "grey16", "false_reject_rate": 0.05, **settings}
        models[name] = edgead.load(folder) if folder.is_dir() else edgead.train(heads, folder, **trained)
        started = time.process_time()
        found = models[name].evaluate(heads)
        took_ms = 1000 * (time.process_time() - started) / len(found.outcomes)
        print(f"| {name} | " + " | ".join([*_figures(models[name], found), f"{took_ms:.1f}"]) + " |", flush=True)
        rules.append(f"| {name} | " + " | ".join(_by_rules(found)) + " |")
    print(f"\n| volume AUROC by | {' | '.join(RULES)} |\n|" + "---|" * (1 + len(RULES)), *rules, sep="\n", flush=True)
    if options.sheet:
        write_image(options.sheet, _sheet(models, heads))


def _figures(model: edgead.Model, found: Evaluation) -> list[str]:
    report = found.to_dict()
    calibration = model.graph.calibration
    assert calibration is not None
    marked = [outcome.anomaly_map > calibration.map_threshold for outcome in found.outcomes]
    masks = [outcome.mask for outcome in found.outcomes]
    escapes = report["escape_rate"]
    of_pipeline = f"{_pipeline_dice(model, found):.2f}" if model.manifest.detector == "strega" else ""
    return [
        f"{report['image_AUROC']:.3f}",
        f"{report['volumes']['AUROC']:.3f}",
        f"{escapes['count']} of {escapes['total']}",
        *_counts(model, found),
        f"{dice(np.stack(masks), np.stack(marked)):.2f}",
        of_pipeline,
    ]


def _counts(model: edgead.Model, found: Evaluation) -> list[str]:
    """Volumes that are judged wrongly at each rate."""
    calibration = model.graph.calibration
    assert calibration is not None and calibration.volumes is not None
    scores = {bad: [one.score for is_bad, one in found.volumes() if is_bad == bad] for bad in (False, True)}
    cells = []
    for rate in RATES:
        limit = calibrate_volumes(calibration.volumes.scores, rate, rate).reject
        cells.append(f"{sum(score <= limit for score in scores[True])} of {len(scores[True])}")
        cells.append(f"{sum(score > limit for score in scores[False])} of {len(scores[False])}")
    return cells


def _by_rules(found: Evaluation) -> list[str]:
    """Volume AUROC where the scores of slices are joined otherwise; nothing was chosen by it."""
    scores: dict[Path, list[float]] = {}
    for outcome in found.outcomes:
        scores.setdefault(volume_of(outcome.image.path) or Path(), []).append(outcome.image_score)
    labels = np.array([volume.parent.name != "good" for volume in scores])
    return [
        f"{auroc(labels, np.array([rule(np.array(one)) for one in scores.values()])):.3f}" for rule in RULES.values()
    ]


def _windows(scores: np.ndarray) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(scores, 3)


def dice(true: np.ndarray, found: np.ndarray) -> float:
    """Return the Dice coefficient of two masks; 1 if both are empty, as in the authors' code."""
    both = int(true.sum()) + int(found.sum())
    return 1.0 if both == 0 else 2.0 * int((true & found).sum()) / both


def _pipeline_dice(model: edgead.Model, found: Evaluation) -> float:
    """Dice of all lesions by `find_lesions`, volume by volume."""
    network = load_network(model.artifact)
    paths = [outcome.image.path for outcome in found.outcomes]
    masks = {outcome.image.path: outcome.mask for outcome in found.outcomes}
    true, marked = [], []
    for slices in by_volume(paths).values():
        images = np.stack([preprocess(model.read_image(path), model.manifest.preprocessing) for path in slices])
        with torch.inference_mode():
            prepared = network.prepare(torch.from_numpy(images))
            rebuilt = network.vae.decode(network.vae.encode(prepared)[0])[:, 0].numpy()
        marked.append(find_lesions(prepared[:, 0].numpy(), rebuilt, area=AREA))
        true.append(np.stack([masks[path] for path in slices]))
    return dice(np.concatenate(true), np.concatenate(marked))


def _sheet(models: dict[str, edgead.Model], heads: Path) -> np.ndarray:
    """The slice of the largest lesion of some volumes, and what each model says of it."""
    volumes = by_volume(image.path for image in find_test_images(heads) if image.is_defective)
    tiles, rows = [], []
    for volume in list(volumes)[:SHOWN]:
        masks = heads / "ground_truth" / volume.parent.name / volume.name
        slices = [load_image(slice_path(masks, i)) > 0 for i in range(len(slices_of(masks)))]
        rows.append((volume, int(np.argmax([one.sum() for one in slices])), slices))
    for volume, number, slices in rows:
        values = load_image(slice_path(volume, number), keep_depth=True)
        truth = draw_truth(models["patchcore"].visible(values), slices[number][:, :, 0], f"slice {number}")
        tiles.append((truth, f"{volume.name}[{number:03d}]"))
    for name, model in models.items():
        for volume, number, _ in rows:
            values = load_image(slice_path(volume, number), keep_depth=True)
            tiles.append((draw_overlay(model.visible(values), model.predict(values)), name))
    return contact_sheet(tiles, columns=SHOWN, tile_px=240)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks volumes")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of heads and models")
    parser.add_argument("--sheet", type=Path, help="write an image of slices and what is found on them")
    parser.add_argument("--seed", type=int, default=1)
    return parser
