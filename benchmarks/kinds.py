"""Kinds of defects: how well `edgead sort` finds them, and `edgead name` recognises them, beside the true ones.

    python -m benchmarks kinds MAGNETIC_TILES -o WORK
    python -m benchmarks kinds MAGNETIC_TILES -o WORK --bottle PANEL/bottle --boards PANEL/deeppcb --boxes FOLDER

Each set is laid out under names that say nothing, a model of the preset is trained on good images of other parts, and
the test images are described. The tiles are split by tile, the good ones again for each of the splits; good test
images are the sixth kind. Sorting is given no parts: it finds near-duplicates itself. Named and unknown kinds never
share a part with what is tested, which of the tiles is a whole capture; what parts are by looks stands beside it.
Descriptions stay in WORK: what is there is not made again. FOLDER holds DeepPCB's own boxes with their types, a text
file a board: crops around them are what is sorted.

With the control, the columns of the memory bank are shuffled, each for itself: what is sorted by then is not how
defects differ from good parts.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kinds_measures import NAMED, Described, named_accuracy, open_set, sort_quality
from benchmarks.kinds_sets import KindSet, board_crops, mvtec_kinds, tiles_by_tile
from edgead.artifact.folder import Artifact, write_arrays, write_manifest
from edgead.dataset.groups import group_images
from edgead.detector import Detector
from edgead.heads.nearest import BANK
from edgead.unlabelled.sorting.describe import ScoredImage, describe_images

GOOD = "good"


def main(arguments: list[str]) -> None:
    parser = make_parser("kinds", __doc__)
    options = parser.parse_args(arguments)
    if options.boards and not options.boxes:
        parser.error("--boards needs --boxes: the types of defects stand in DeepPCB's own files")
    work: Path = options.output
    for name, make in sets_of(options):
        data = make(work / "data" / name)
        model = trained(data, work / "models" / name, options.preset)
        described, names = describe_set(data, model, work / "described" / f"{name}.npz")
        result = measure(described, names)
        if options.control and name.startswith("tiles"):
            shuffled = _shuffled(model, work / "models" / f"{name}-shuffled")
            control, _ = describe_set(data, shuffled, work / "described" / f"{name}-shuffled.npz")
            result["control"] = sort_quality(control)
        (work / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(name, json.dumps(result), flush=True)
    tiles = [json.loads(path.read_text()) for path in sorted(work.glob("tiles*.json"))]
    if tiles:
        print("tiles, mean of splits", json.dumps(_mean(tiles)))


def measure(described: Described, names: list[str]) -> dict[str, Any]:
    """Sort all, the defects, and those that are rejected; name the defects, and meet kinds never seen."""
    is_good = np.array([names[kind] == GOOD for kind in described.kinds])
    defects = described.of(~is_good)
    report: dict[str, Any] = {"images": len(described.kinds), "defects": len(defects.kinds)}
    if is_good.any():
        report["sorted_with_good"] = sort_quality(described)
    report["sorted"] = sort_quality(defects)
    rejects = defects.of(np.array([one.decision != "ok" for one in defects.judged]))
    report["rejects"] = len(rejects.kinds)
    report["sorted_rejects"] = sort_quality(rejects)
    report["named"] = {str(named): named_accuracy(defects, named) for named in NAMED}
    report["open_set"] = open_set(defects)
    by_looks = replace(defects, parts=defects.looks)
    report["named_by_looks"] = {str(named): named_accuracy(by_looks, named) for named in NAMED}
    report["open_set_by_looks"] = open_set(by_looks)
    return report


def sets_of(options: argparse.Namespace) -> list[tuple[str, Callable[[Path], KindSet]]]:
    sets: list[tuple[str, Callable[[Path], KindSet]]] = [
        (f"tiles-{split}", lambda folder, split=split: tiles_by_tile(options.tiles, folder, split))
        for split in range(options.splits)
    ]
    if options.bottle:
        sets.append(("bottle", lambda folder: mvtec_kinds(options.bottle, folder)))
    if options.boards:
        sets.append(("boards", lambda folder: board_crops(options.boards, options.boxes, folder)))
    return sets


def trained(data: KindSet, model: Path, preset: str) -> Path:
    """A model of the good images of a set; one that is there is taken as it is."""
    from edgead.adapt.methods import find_preset
    from edgead.adapt.training.from_folder import train_from_folder
    from edgead.adapt.training.good_images import GoodImages

    if not model.exists():
        images = GoodImages(data.folder, data.good, group=str(data.groups))
        train_from_folder(images, model, find_preset("patchcore", preset))
    return model


def describe_set(data: KindSet, model: Path, file: Path) -> tuple[Described, list[str]]:
    names = sorted({image.kind for image in data.test})
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        paths = [image.path for image in data.test]
        with Detector.load(model, runtime="onnxruntime") as detector:
            judged, _ = describe_images(detector, paths)
        np.savez(
            file,
            descriptors=np.array([one.descriptor for one in judged]),
            scores=np.array([one.image_score for one in judged]),
            rejected=np.array([one.decision != "ok" for one in judged]),
            looks=np.array(group_images(paths).of(paths)),
        )
    with np.load(file, allow_pickle=False) as kept:
        rows = zip(data.test, kept["rejected"], kept["scores"], kept["descriptors"], strict=True)
        judged = [ScoredImage(image.path, "reject" if bad else "ok", float(s), row) for image, bad, s, row in rows]
        looks = kept["looks"]
    kinds = np.array([names.index(image.kind) for image in data.test])
    return Described(judged, kinds, np.array([image.part for image in data.test]), looks), names


def _shuffled(model: Path, target: Path) -> Path:
    """A copy of a model whose memory bank holds the same values of each feature, of other patches each."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(model, target)
    artifact = Artifact.load(target)
    bank = np.random.default_rng(0).permuted(artifact.array(BANK), axis=0)
    write_arrays(target, artifact.manifest, {BANK: bank})
    write_manifest(target, artifact.manifest)
    return target


def _mean(reports: list[Any]) -> Any:
    """The mean of each number."""
    if isinstance(reports[0], dict):
        return {key: _mean([report[key] for report in reports]) for key in reports[0]}
    return round(float(np.mean(reports)), 3)


def make_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tiles", type=Path, help="folder of the magnetic tiles, with groups.csv")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="WORK", help="folder of data and results")
    parser.add_argument("--splits", type=int, default=4, help="of the good tiles")
    parser.add_argument("--preset", default="default", help="of patchcore")
    parser.add_argument("--bottle", type=Path, help="a set in MVTec layout, whose kinds are sorted as well")
    parser.add_argument("--boards", type=Path, help="DeepPCB in MVTec layout")
    parser.add_argument("--boxes", type=Path, help="folder of DeepPCB's boxes with types, NAME.txt")
    parser.add_argument("--control", action="store_true", help="the tiles with shuffled memory banks as well")
    return parser
