"""Patch features of many images from an exported graph: what memory banks are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgead.artifact.folder import Artifact
from edgead.dataset.folders import Progress
from edgead.runtime import open_runtime


def each_features(
    artifact: Artifact, images: Sequence[np.ndarray], progress: Progress | None = None
) -> Iterator[np.ndarray]:
    """Run the graph that was learnt over over images; yields the patches of `each_grid`, float32 (patches, d)."""
    for features in each_grid(artifact, images, progress):
        yield features.reshape(-1, features.shape[-1])


def each_grid(
    artifact: Artifact, images: Sequence[np.ndarray], progress: Progress | None = None
) -> Iterator[np.ndarray]:
    """Run the graph that was learnt over over images, as `each_outputs`, of a graph whose output is `features`.

    Yields
    ------
    ndarray of shape (h, w, d), float32
        Overwritten by the next one.
    """
    for outputs in each_outputs(artifact, images, progress):
        yield outputs[artifact.manifest.output][0]


def each_outputs(
    artifact: Artifact, images: Sequence[np.ndarray], progress: Progress | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Run the graph that was learnt over over images.

    Parameters
    ----------
    artifact : Artifact
    images : sequence of ndarray of shape (h, w, 3), uint8, RGB
        Preprocessed.

    Yields
    ------
    dict of str to ndarray
        What the graph gives, with a batch of one; overwritten by the next one.
    """
    runtime = open_runtime(artifact, "onnxruntime", precision=artifact.manifest.learnt_in)
    try:
        for done, image in enumerate(images, 1):
            yield runtime.run(image[None])
            if progress:
                progress(done, len(images))
    finally:
        runtime.close()
