"""A small valid artifact, and how it is changed so that its hashes are right again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from small_graph import SIZE, small_graph, small_images

from edgead.adapt.finalize import write_golden
from edgead.adapt.patch_features import each_features
from edgead.artifact.folder import Artifact, new_artifact, write_manifest
from edgead.artifact.manifest import Calibration, GraphRecord, Manifest, Preprocessing
from edgead.detector import Detector
from edgead.heads.nearest import NearestHead

ROWS, COLUMNS = 6, 5
Change = Callable[[Path], object]


def write_valid(path: Path, *, learnt: Sequence[np.ndarray] = ()) -> Path:
    """Write a whole artifact of 16 x 16 pixels: graph, memory bank, thresholds and two golden images.

    The memory bank is random, or has every patch of the images that were learnt.
    """
    scores = [0.1 * number for number in range(1, 21)]
    limits = {"reject": 2.2, "review": 2.1, "map_threshold": 3.0, "map_typical": 1.0, "scores": scores}
    calibration = Calibration(false_reject_rate=0.05, review_rate=0.1, **limits)
    manifest = Manifest.draft(
        "patchcore",
        Preprocessing(image_size=(SIZE, SIZE)),
        NearestHead(),
        graphs={"fp32": GraphRecord(calibration=calibration)},
    )
    with new_artifact(path) as draft:
        small_graph(draft / "model.onnx")
        bank = np.random.default_rng(2).random((ROWS, COLUMNS), np.float32)
        if learnt:
            bank = np.concatenate([each.copy() for each in each_features(Artifact(draft, manifest), learnt)])
        np.save(draft / "memory_bank.npy", bank, allow_pickle=False)
        (draft / "golden").mkdir()
        for number, image in enumerate(small_images(2)):
            cv2.imwrite(str(draft / f"golden/{number}.png"), image)
        with Detector(Artifact(draft, manifest), runtime="onnxruntime") as detector:
            golden = [write_golden(detector, draft, f"golden/{n}.png", f"golden/{n}.npy") for n in range(2)]
        write_manifest(draft, manifest.with_graph("fp32", golden=golden))
    return path


def read_manifest(path: Path) -> dict[str, Any]:
    return json.loads((path / "manifest.json").read_text())


def stamp(path: Path, content: dict[str, Any] | None = None) -> None:
    """Make the hashes right: of every file that the manifest names and that is there, and of the manifest."""
    content = content or read_manifest(path)
    content.pop("manifest_sha256", None)
    files = content.get("files")
    for name in files if isinstance(files, dict) else ():
        if os.path.isfile(path / name):
            content["files"][name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps({**content, "manifest_sha256": digest}))


def make(valid: Path, path: Path, change: Change) -> Path:
    """Copy the valid artifact and change the copy."""
    shutil.copytree(valid, path)
    change(path)
    return path


def in_manifest(*keys: str | int, value: Any) -> Change:
    """A change of one value, by its place."""

    def change(path: Path) -> None:
        content = read_manifest(path)
        place: Any = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        stamp(path, content)

    return change
