"""Finished artifact from a trained detector: written, calibrated on what ships, with golden images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgead.adapt.finalize import CalibrationPlan, complete_artifact
from edgead.adapt.methods.method import Trained
from edgead.artifact.folder import Artifact, new_artifact, write_arrays
from edgead.artifact.manifest import GraphRecord, Manifest, Preprocessing
from edgead.artifact.training_hashes import keep_learnt
from edgead.dataset.folders import Progress

# Of scores and maps, between engines, by the precision that was learnt in: they round otherwise.
_TOLERANCES = {"fp16": (0.006, 0.06), "int8": (0.02, 0.2), "int8_symmetric": (0.02, 0.2)}


def build_artifact(
    trained: Trained,
    destination: Path,
    plan: CalibrationPlan,
    *,
    preprocessing: Preprocessing | None = None,
    provenance: dict[str, Any] | None = None,
    learnt: Sequence[Path] = (),
    folds: Sequence[int] = (),
    progress: Progress | None = None,
) -> Artifact:
    """Write a detector, calibrate it as it runs, add golden images, and put the artifact in its place.

    Parameters
    ----------
    trained : Trained
    destination : Path
        A new directory, or an artifact that is replaced once the new one is complete.
    plan : CalibrationPlan
    preprocessing : Preprocessing, optional
        What training used when it differs from `trained.preprocessing` (a region of interest).
    provenance : dict, optional
        Facts for the manifest's `training` section.
    learnt : sequence of Path
        Images that it has learnt from, for the record.
    folds : sequence of int, optional
        The fold of each of those.
    progress : callable, optional
        Called with (done, total) calibration images.
    """
    with new_artifact(destination) as draft:
        manifest = write_draft(trained, draft, preprocessing, provenance)
        # Images that a page or a camera keeps as other files are known by their pixels too.
        kept_as_others = "commissioned" in manifest.training
        keep_learnt(draft, learnt, folds, pixels_of=manifest.preprocessing if kept_as_others else None)
        complete_artifact(draft, manifest, plan, progress=progress)
    return Artifact.load(destination)


def write_draft(
    trained: Trained, draft: Path, preprocessing: Preprocessing | None = None, provenance: dict[str, Any] | None = None
) -> Manifest:
    """Write what a detector needs to run, without thresholds; see `build_artifact`."""
    arrays = tuple(trained.graph_arrays)
    score_tolerance, map_tolerance = _TOLERANCES.get(trained.precision, (1e-4, 1e-3))
    record = GraphRecord(arrays=arrays, score_tolerance=score_tolerance, map_tolerance=map_tolerance)
    manifest = Manifest.draft(
        trained.name,
        preprocessing or trained.preprocessing,
        trained.head,
        learns_from=trained.learns_from,
        learnt_in=trained.precision,
        graphs={trained.precision: record},
        training={"settings": trained.settings, **trained.notes, **(provenance or {})},
        versions=dict(trained.versions),
    )
    trained.write_graph(draft, manifest)
    learnt = {**trained.arrays, **trained.graph_arrays}
    write_arrays(draft, manifest, {name: learnt[name] for name in manifest.arrays if name in learnt})
    return manifest
