"""The frozen backbones that the package carries for devices: `python -m edgead.export.backbone fast`."""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

from edgead.export.build import software_versions
from edgead.export.graph import export_onnx

from edgead.adapt.frozen_backbone import PACKAGED
from edgead.artifact.manifest import GraphRecord, Manifest
from edgead.artifact.onnx_file import with_properties
from edgead.workstation.methods import find_preset
from edgead.workstation.methods.patchcore.detector import PatchCore


def write_backbone(preset: str, folder: Path = PACKAGED) -> None:
    """Write `PRESET.onnx` and `PRESET.json`: the untrained graph of a patchcore preset, and how to use it."""
    detector = PatchCore.from_settings(find_preset("patchcore", preset))
    record = GraphRecord(arrays=tuple(detector.graph_arrays))
    manifest = Manifest.draft(detector.name, detector.preprocessing, detector.head, graphs={"fp32": record})
    with tempfile.TemporaryDirectory() as work:
        exported = Path(work) / "model.onnx"
        export_onnx(detector.network, exported, manifest)
        graph = with_properties(exported.read_bytes(), {})
    description = {
        "sha256": hashlib.sha256(graph).hexdigest(),
        "channels": detector.notes["channels"],
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
