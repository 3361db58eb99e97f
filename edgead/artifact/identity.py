"""Hash of everything that determines a model's scores: models with the same hash give the same scores."""

from __future__ import annotations

import hashlib
import json

from edgead.artifact.folder import Graph
from edgead.artifact.manifest import Manifest


def scorer_sha256(manifest: Manifest, graph: Graph) -> str:
    """Hash the files that determine scores: the graph, whose properties describe the preprocessing, and the arrays.

    Unlike the hash of the manifest it does not change with the thresholds.
    """
    parts = {name: manifest.files[name] for name in (graph.path.name, *manifest.arrays.values())}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
