"""Finished artifact from a trained detector: written, calibrated with the graph that ships, with golden images."""

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

# Largest mean relative difference of the image scores that another precision may have from those of fp32. Good parts
# differ among themselves by some percent; the error of int8 must be small compared with that.
TOLERANCES = {"fp16": 0.003, "int8": 0.01, "int8_symmetric": 0.01}
# Factors on it for the tolerances of `edgead verify`, as other images and engines round differently. The largest
# difference of a pixel is larger than that of a score, which is a mean over many.
VERIFY_FACTOR, _MAP_FACTOR = 2, 20


def graph_record(precision: str, tolerance: float | None = None, **record: Any) -> GraphRecord:
    """Describe a graph, with the differences that `edgead verify` allows; `tolerance` replaces their default."""
    allowed = TOLERANCES.get(precision) if tolerance is None else tolerance
    if allowed is not None:
        record |= {"score_tolerance": VERIFY_FACTOR * allowed, "map_tolerance": _MAP_FACTOR * allowed}
    return GraphRecord(**record)


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
    """Write a detector, calibrate it on the runtime, add golden images, and move the artifact to its destination.

    `destination`: a new directory, or an artifact that is replaced once the new one is complete.
    `preprocessing`: preprocessing of the training, if it differs from `trained.preprocessing` (by a region of
        interest).
    `provenance`: facts for the manifest's `training` section.
    `learnt`: images that the detector has learnt from, for the record.
    `folds`: fold of each learnt image.
    `progress`: called with (done, total) calibration images.
    """
    with new_artifact(destination) as draft:
        manifest = write_draft(trained, draft, preprocessing, provenance)
        keep_learnt(draft, learnt, manifest.preprocessing, folds)
        complete_artifact(draft, manifest, plan, progress=progress)
    return Artifact.load(destination)


def write_draft(
    trained: Trained, draft: Path, preprocessing: Preprocessing | None = None, provenance: dict[str, Any] | None = None
) -> Manifest:
    """Write all files that a detector needs to run, without thresholds; see `build_artifact`."""
    record = graph_record(trained.precision, arrays=tuple(trained.graph_arrays))
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
