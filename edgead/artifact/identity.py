"""What makes a score: two models that agree in it score every image alike, whatever their thresholds are."""

from __future__ import annotations

import hashlib
import json

from edgead.artifact.folder import Graph
from edgead.artifact.manifest import Manifest


def scorer_sha256(manifest: Manifest, graph: Graph) -> str:
    """Hash the files that scores are made by: the graph, whose properties say how images become its input, and arrays.

    Unlike the hash of the manifest it stays where thresholds are changed.
    """
    parts = {
        name: digest
        for name, digest in manifest.files.items()
        if name == graph.path.name or (name.endswith(".npy") and "/" not in name)
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
