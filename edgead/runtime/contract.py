"""What every engine offers, and the check that a graph is the one that the manifest describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgead.artifact import ArtifactError
from edgead.manifest import Manifest


class Runtime(Protocol):
    """One network on one engine. Not for use from several threads at once."""

    input: np.ndarray
    """The input buffer, uint8 (1, h, w, 3) RGB: write the image here to spare a copy."""

    def run(self, images: np.ndarray) -> dict[str, Any]:
        """Run the network; the arrays returned are overwritten by the next call.

        They are ndarrays; what patches are scored by may be a DeviceArray if the runtime was opened with `on_device`.
        """
        ...

    def close(self) -> None: ...


def check_graph(path: Path, manifest: Manifest, graph_input: tuple[str, Sequence], outputs: Sequence[str]) -> None:
    """Raise ArtifactError unless input (name and shape) and names of outputs are those of the manifest."""
    name, shape = graph_input
    again = "write it anew with `edgead export`"
    if (name, tuple(outputs)) != (manifest.input, manifest.outputs):
        raise ArtifactError(
            f"{path} has input {name!r} and output {', '.join(map(repr, outputs))}, the manifest says "
            f"{manifest.input!r} and {', '.join(map(repr, manifest.outputs))}: {again}"
        )
    expected = [*manifest.preprocessing.image_size, 3]
    if list(shape[1:]) != expected:
        raise ArtifactError(f"{path} takes images of shape {list(shape[1:])}, the manifest says {expected}: {again}")
