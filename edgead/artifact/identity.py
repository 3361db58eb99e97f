"""Identity of a model's scores: two models that agree in it score every image alike, whatever their thresholds."""

from __future__ import annotations

import hashlib
import json

from edgead.artifact.folder import Graph
from edgead.artifact.manifest import Manifest


def scorer_sha256(manifest: Manifest, graph: Graph) -> str:
    """Hash the files that scores are made by: the graph, whose properties say how images become its input, and arrays.

    Unlike the hash of the manifest it stays where thresholds are changed.
    """
    parts = {name: manifest.files[name] for name in (graph.path.name, *manifest.arrays.values())}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
