"""Sequence of preprocessed images for training, read on access; a large image counts as several tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path

import numpy as np

from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import aligned, inputs_of, preprocess, read_frame
from edgead.images.files import ImageError


class Images(Sequence[np.ndarray]):
    """Sequence of preprocessed images, uint8 RGB (h, w, 3), or float32 if `spec` keeps their depth.

    It has one item for each image, or for each tile if `spec` has tiles.

    `paths`: with tiles, each image is read once to learn its size.
    `origins`: index of the path that each item comes from.
    """

    def __init__(self, paths: Sequence[Path], spec: Preprocessing):
        self.paths = list(paths)
        self.spec = spec
        self._last: tuple[Path | None, np.ndarray] = None, np.empty(0)
        inputs = [(number, one) for number, path in enumerate(self.paths) for one in self._inputs_of(path)]
        self.origins = [number for number, _ in inputs]
        self._specs = [one for _, one in inputs]

    def _inputs_of(self, path: Path) -> Sequence[Preprocessing]:
        if self.spec.tiles is None:
            return [self.spec]
        with _named(path):
            return inputs_of(self.spec, read_frame(path, self.spec).shape)

    def __len__(self) -> int:
        return len(self._specs)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        path = self.paths[self.origins[index]]
        with _named(path):
            return preprocess(self._load(path), self._specs[index])

    def like(self, index: int, image: np.ndarray) -> np.ndarray:
        """Transform a mask, uint8 BGR of the image's size, as the item of this index was; ignored areas are kept."""
        return preprocess(image, self._specs[index].model_copy(update={"ignored": None}))

    def _load(self, path: Path) -> np.ndarray:
        """Read an image; the last image is cached for its other tiles."""
        if self.spec.tiles is None:
            return read_frame(path, self.spec)
        last = self._last  # another thread may change it
        if last[0] != path:
            last = self._last = path, aligned(read_frame(path, self.spec), self.spec).image
        return last[1]

    def spread(self, groups: Sequence[int]) -> list[int]:
        """Extend the group of each path to all its items, so that tiles of one image stay together."""
        return [groups[number] for number in self.origins]

    def some(self, most: int, seed: int = 0) -> Images:
        """Draw at most `most` items at random, in their order, as equal steps would give the same tile of each image.

        Every image has at least one, if `most` allows it.
        """
        chosen = copy(self)
        order = np.random.default_rng(seed).permutation(len(self))
        first = np.zeros(len(order), bool)
        first[np.unique(np.asarray(self.origins)[order], return_index=True)[1]] = True
        picks = np.sort(np.concatenate([order[first], order[~first]])[:most]).tolist()
        chosen.origins, chosen._specs = ([values[i] for i in picks] for values in (self.origins, self._specs))
        return chosen


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Convert errors of an image to an ImageError that names it."""
    try:
        yield
    except ImageError:
        raise
    except ValueError as error:
        raise ImageError(f"{path}: {error}") from error
