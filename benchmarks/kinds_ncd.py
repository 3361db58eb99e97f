"""AnomalyNCD against the cheap way to sort rejects, on the same images, with the true number of kinds.

    python -m benchmarks kinds_ncd --tiles MAGNETIC_TILES -o WORK --weights dinov2_vits14_pretrain.pth
    python -m benchmarks kinds_ncd --mvtec PANEL/bottle -o WORK --weights FILE --epochs 50 --seeds 0 1

A model is trained on good images of other parts, as `python -m benchmarks kinds` does it (one in WORK is taken as it
is), and so many test images of each kind are drawn, of other parts first; good ones are a kind of the tiles. Beside the
two ways stands what learning adds: Ward's clustering of what the transformer says before it has learnt. Without
`--weights` the backbone is ours, see `edgead_foundation.anomaly_ncd.encoder.RegionAverage`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.kinds import trained
from benchmarks.kinds_measures import agreement
from benchmarks.kinds_sets import KindImage, mvtec_kinds, tiles_by_tile
from edgead.dataset.groups import group_images
from edgead.detector import Detector
from edgead.images.files import load_image
from edgead.unlabelled.sorting.clusters import find_clusters
from edgead.unlabelled.sorting.describe import ScoredImage
from edgead.unlabelled.sorting.sort import rows_of
from edgead_foundation.anomaly_ncd.sort import Sorting, build_encoder
from edgead_foundation.anomaly_ncd.training import Plan


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    work, name = options.output, "tiles-0" if options.tiles else options.mvtec.name
    folder = work / "data" / name
    data = tiles_by_tile(options.tiles, folder, 0) if options.tiles else mvtec_kinds(options.mvtec, folder)
    model = trained(data, work / "models" / name, options.preset)
    drawn = draw(data.test, options.each)
    images = [load_image(one.path) for one in drawn]
    with Detector.load(model, runtime="onnxruntime") as detector:
        described = [detector.describe(image) for image in images]
    kinds, truth = np.unique([one.kind for one in drawn], return_inverse=True)
    judged = [
        ScoredImage(one.path, verdict.decision, verdict.image_score, descriptor)
        for one, (verdict, descriptor) in zip(drawn, described, strict=True)
    ]
    looks = group_images([one.path for one in drawn]).of(one.path for one in drawn)
    cheap = find_clusters(rows_of(judged), looks, len(kinds)).labels
    report: dict[str, Any] = {"images": len(drawn), "kinds": kinds.tolist(), "residuals": agreement(truth, cheap)}
    maps = [verdict.anomaly_map for verdict, _ in described]
    for seed in options.seeds:
        plan = Plan(len(kinds), options.epochs, seed=seed)
        report[f"seed {seed}"] = by_anomaly_ncd(images, maps, plan, truth, options)
    print(json.dumps(report, indent=1))


def draw(test: list[KindImage], each: int) -> list[KindImage]:
    """So many images of each kind at random, one of each part before there are others."""
    order = np.random.default_rng(0).permutation(len(test))
    drawn = []
    for kind in sorted({one.kind for one in test}):
        members = [test[i] for i in order if test[i].kind == kind]
        _, first = np.unique([one.part for one in members], return_index=True)
        turns = [*sorted(first), *sorted(set(range(len(members))) - set(first))]
        drawn += [members[i] for i in turns[:each]]
    return drawn


def by_anomaly_ncd(
    images: list[np.ndarray], maps: list[np.ndarray], plan: Plan, truth: np.ndarray, options: argparse.Namespace
) -> dict[str, Any]:
    """Sort images before and after it has learnt."""
    encoder = build_encoder(options.weights)
    sorting = Sorting(images, maps, plan, encoder=encoder, device=options.device)
    before = find_clusters(untrained(sorting), range(len(images)), plan.kinds).labels
    start = time.process_time()
    found = sorting.run()
    return {
        "crops": sum(map(len, sorting.crops)),
        "CPU minutes": (time.process_time() - start) / 60,
        "untrained": agreement(truth, before),
        "anomaly_ncd": agreement(truth, found.labels),
    }


@torch.inference_mode()
def untrained(sorting: Sorting) -> np.ndarray:
    """What the encoder says of the largest crop of each image, float32 (images, d), of length 1."""
    firsts = np.cumsum([0, *map(len, sorting.crops)])[:-1]
    rows = torch.cat([sorting.features(int(first)) for first in firsts])
    return torch.nn.functional.normalize(rows, dim=1).cpu().numpy()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks kinds_ncd",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sets = parser.add_mutually_exclusive_group(required=True)
    sets.add_argument("--tiles", type=Path, help="folder of the magnetic tiles, with groups.csv")
    sets.add_argument("--mvtec", type=Path, help="a set in MVTec layout, whose good test images are left out")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="WORK", help="folder of data and models")
    parser.add_argument("--weights", type=Path, help="a transformer of DINO or DINOv2")
    parser.add_argument("--each", type=int, default=20, help="images of a kind")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--preset", default="default", help="of patchcore")
    parser.add_argument("--device", default="auto")
    return parser
