"""The frozen backbones that the package carries for devices: `python -m edgead.export.backbone fast`."""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import torch

from edgead.artifact.manifest import Manifest
from edgead.artifact.onnx_constants import with_properties
from edgead.export.build import software_versions
from edgead.export.graph import export_onnx
from edgead.learning.commission.backbone import PACKAGED, neutral
from edgead.methods import find_preset
from edgead.methods.patchcore import PatchCore


def write_backbone(preset: str, folder: Path = PACKAGED) -> None:
    """Write `PRESET.onnx` and `PRESET.json`: the untrained graph of a patchcore preset, and how to use it."""
    detector = PatchCore.from_settings(find_preset("patchcore", preset))
    manifest = Manifest.draft(detector.name, detector.preprocessing, detector.head)
    # Zeros and ones would be taken out of the graph as operations that do nothing.
    for name, buffer in detector.network.named_buffers(recurse=False):
        buffer.copy_(torch.rand(buffer.shape, generator=torch.Generator().manual_seed(len(name))) + 1)
    with tempfile.TemporaryDirectory() as work:
        exported = Path(work) / "model.onnx"
        export_onnx(detector.network, exported, manifest)
        graph = with_properties(neutral(exported.read_bytes()), {})
    description = {
        "sha256": hashlib.sha256(graph).hexdigest(),
        "settings": detector.settings(),
        "preprocessing": detector.preprocessing.model_dump(mode="json"),
        "head": detector.head.model_dump(mode="json"),
        "versions": software_versions(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{preset}.onnx").write_bytes(graph)
    (folder / f"{preset}.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m edgead.export.backbone", description=__doc__)
    parser.add_argument("preset", help="a preset of patchcore")
    parser.add_argument("--folder", type=Path, default=PACKAGED, help="by default that of the package")
    options = parser.parse_args()
    write_backbone(options.preset, options.folder)
