"""Patch features of many images from an exported graph; memory banks are made from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgead.artifact.folder import Artifact
from edgead.dataset.folders import Progress
from edgead.runtime import open_runtime


def each_features(
    artifact: Artifact, images: Sequence[np.ndarray], progress: Progress | None = None
) -> Iterator[np.ndarray]:
    """Run the artifact's training graph over images; yield the patches of each image, float32 (patches, d)."""
    for features in each_grid(artifact, images, progress):
        yield features.reshape(-1, features.shape[-1])


def each_grid(
    artifact: Artifact, images: Sequence[np.ndarray], progress: Progress | None = None
) -> Iterator[np.ndarray]:
    """Run the artifact's training graph over images, as `each_outputs` does; yield its output `features`.

    Yields
    ------
    ndarray of shape (h, w, d), float32
        Patches of one image; the next step changes the array.
    """
    for outputs in each_outputs(artifact, images, progress):
        yield outputs[artifact.manifest.output][0]


def each_outputs(
    artifact: Artifact, images: Sequence[np.ndarray], progress: Progress | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Run the graph with which the artifact was trained over images.

    Parameters
    ----------
    artifact : Artifact
    images : sequence of ndarray of shape (h, w, 3), uint8, RGB
        Preprocessed.

    Yields
    ------
    dict of str to ndarray
        Outputs of the graph for a batch of one; the next step changes the arrays.
    """
    runtime = open_runtime(artifact, "onnxruntime", precision=artifact.manifest.learnt_in)
    try:
        for done, image in enumerate(images, 1):
            yield runtime.run(image[None])
            if progress:
                progress(done, len(images))
    finally:
        runtime.close()
