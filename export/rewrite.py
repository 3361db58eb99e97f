"""Rewrite of an artifact's ONNX graph from its torch weights, with a check that its guarantee still holds."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgead.export.graph import export_onnx
from edgead.export.verify import SCORE_TOLERANCE, replay_golden
from edgead.export.versions import export_versions

from edgead.artifact.folder import Artifact, new_artifact, write_manifest
from edgead.errors import EdgeadError, SettingsError
from edgead.workstation.methods.imported import IMPORTED
from edgead.workstation.methods.load import load_network


class ExportError(EdgeadError):
    """New graph whose scores differ from the scores that the thresholds were made from."""


class ToleranceError(ExportError):
    """Graph of another precision that changes the scores too much, or gains too little.

    `found`: finding, without advice.
    """

    def __init__(self, found: str, remedy: str):
        super().__init__(f"{found}: {remedy}; the model stays as it was")
        self.found = found


def rewrite_graph(path: Path, *, make_default: bool = False) -> Artifact:
    """Replace `model.onnx` of the artifact at `path`; nothing changes unless the golden scores are reproduced.

    With `make_default` the new graph is opened when no precision is requested.

    Raises ExportError: the new graph scores the golden images differently, so that the thresholds would no longer hold.
    Raises SettingsError: the model was imported.
    """
    artifact = Artifact.load(path)
    if artifact.manifest.detector == IMPORTED:
        raise SettingsError(
            f"{path} was imported, and has no torch weights that its graph could be written from: import it again with "
            "`edgead import`"
        )
    network = load_network(artifact)
    with new_artifact(path, keep=False) as draft:
        shutil.copytree(path, draft, dirs_exist_ok=True)
        export_onnx(network, draft / "model.onnx", artifact.manifest)
        default = "fp32" if make_default else artifact.manifest.precision
        changed = {"versions": export_versions(), "precision": default}
        manifest = write_manifest(draft, artifact.manifest.model_copy(update=changed))
        parity = replay_golden(Artifact(draft, manifest))
        if not parity.passed:
            raise ExportError(
                f"{path}: the new graph scores the golden images differently (relative error {parity.score_error:.2g}, "
                f"allowed {SCORE_TOLERANCE:g}), so its thresholds would not hold; the old graph stays. Retrain it"
            )
        artifact.check_unchanged()
    return Artifact.load(path)
