"""Comparison of images with the golden images of a model: proportions, size and order of colours."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.manifest import Golden
from edgead.detector.measurer import Measurer
from edgead.images.header import image_size
from edgead.images.likeness import Look, Misfit, Size, likeness_warnings, look_of, misfit

logger = logging.getLogger(__name__)

# Images of single parts that were cropped before may each have another size.
_MOST_WARNINGS = 10


class FormatCheck:
    """Check for images whose size differs from the golden ones; a repeated size costs only one comparison.

    `golden`: golden images; if none can be read, nothing is found.
    """

    def __init__(self, artifact: Artifact, golden: Sequence[Golden]):
        self._artifact, self._golden = artifact, golden
        self._newest: tuple[tuple[int, ...], Misfit | None] = (), None
        self._warned: set[tuple[int, ...]] = set()

    def misfit(self, shape: tuple[int, ...]) -> Misfit | None:
        """Compare the size of an image of shape (H, W) or (H, W, C); None if it fits."""
        shape = shape[:2]
        newest = self._newest
        if newest[0] != shape:
            newest = self._newest = shape, self._find(Size(*shape))
        return newest[1]

    def warn(self, shape: tuple[int, ...]) -> Misfit | None:
        """Compare as `misfit` does, and log a difference once for each size."""
        found = self.misfit(shape)
        if found is not None and shape[:2] not in self._warned and len(self._warned) < _MOST_WARNINGS:
            self._warned.add(shape[:2])
            logger.warning("%s: %s", self._artifact.path, found.text)
        return found

    @cached_property
    def known(self) -> tuple[Size, ...]:
        """Sizes of the golden images, read from their headers once."""
        try:
            headers = [image_size(self._artifact.optional_file(one.image) or b"") for one in self._golden]
        except ArtifactError:
            return ()
        return tuple(Size(*size) for size in headers if size is not None)

    def _find(self, size: Size) -> Misfit | None:
        if not self.known:
            return None
        spec = self._artifact.manifest.preprocessing
        return misfit(size, self.known, in_pixels=spec.roi is not None, stretched=spec.fill == "stretch")


def unlike_golden(detector: Measurer, looks: Mapping[str, Look], *, share: float = 0.0) -> list[str]:
    """List the ways in which more than this share of the images differ from the golden ones.

    See `edgead.images.likeness.likeness_warnings`; empty for a detector without golden images.
    """
    artifact = detector.artifact
    known = [look_of(artifact.image(golden.image)) for golden in detector.graph.golden]
    if not known:
        return []
    spec = artifact.manifest.preprocessing
    return likeness_warnings(
        looks,
        known,
        "the model's golden images",
        in_pixels=spec.roi is not None,
        stretched=spec.fill == "stretch",
        share=share,
    )
