"""Hash of all that determines a model's scores: models with equal hashes give equal scores."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from edgead.artifact.earlier_versions import earlier_versions
from edgead.artifact.files import ArtifactError
from edgead.artifact.manifest import Manifest, read_manifest


def scorer_sha256(manifest: Manifest, precision: str) -> str:
    """Hash the files that determine scores: the graph, whose properties describe the preprocessing, and the arrays.

    Unlike the hash of the manifest it does not change with the thresholds.
    """
    parts = {name: manifest.files[name] for name in (manifest.graphs[precision].file, *manifest.arrays.values())}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def scored_alike(path: Path, manifest: Manifest, precision: str) -> list[str]:
    """List the manifest hashes of a model, and of the earlier versions that give the same scores."""
    alike, scorer = [manifest.manifest_sha256], scorer_sha256(manifest, precision)
    for version in earlier_versions(path):
        with suppress(ArtifactError, KeyError):  # unreadable, or without this precision
            earlier = read_manifest(version)
            if scorer_sha256(earlier, precision) == scorer:
                alike.append(earlier.manifest_sha256)
    return alike
