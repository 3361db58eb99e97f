"""Head of detectors with golden parts: compares each patch with golden patches at nearly the same place."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from edgead.heads.contract import Arrays, Describer, Output, Outputs, Scorer
from edgead.heads.describe import PatchDescriber
from edgead.heads.patches import USUAL, PatchHead, PatchScorer
from edgead.heads.placing import STAYS, Placer
from edgead.kernels import NearestPatches, WindowSearch

GOLDEN, LOOK = "golden_parts", "look"
GOLDEN_LOOK = "golden_look"
# Patches at the border of an image have special features, because the network pads with black.
RIM = 1


class LocalHead(PatchHead):
    """Head whose patch scores are Euclidean distances to the most similar golden patch within `reach`.

    Golden patches up to `reach` rows and columns away from the patch are compared. With `both_ways` the score is the
    larger of this distance and that of the golden patch at this place to the part's patches, which finds missing
    things. If `look_px` is not 0, a part is registered with the first golden one: the graph then has an output `look`,
    grey levels that each cover so many pixels a side, and the array `golden_look` holds the golden part's. In a shifted
    part, patches at the border or without a counterpart in the golden image score 0. The rows of `golden_parts` are the
    patches of each golden part in turn, row by row.
    """

    kind: Literal["local"] = "local"
    reach: Annotated[int, Field(ge=0, le=16)] = 2
    both_ways: bool = True
    look_px: Annotated[int, Field(ge=0, le=64)] = 4

    @property
    def patches(self) -> Output:
        return Output("features", 3)

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (*super().outputs, Output(LOOK, 2)) if self.look_px else super().outputs

    @property
    def arrays(self) -> tuple[str, ...]:
        return (GOLDEN, *((GOLDEN_LOOK,) if self.look_px else ()), *super().arrays)

    def check(self, outputs: Outputs, arrays: Arrays) -> None:
        (rows, columns), depth = self.grid(outputs), outputs[self.patches.name].shape[-1]
        golden = arrays[GOLDEN]
        if not len(golden) or len(golden) % (rows * columns) or golden.shape[1] != depth:
            raise ValueError(
                f"golden parts of {rows} x {columns} patches with {depth} numbers each are needed, the array "
                f"{GOLDEN} is {golden.shape}"
            )
        if self.look_px and arrays[GOLDEN_LOOK].shape != tuple(outputs[LOOK].shape[1:]):
            raise ValueError(
                f"the array {GOLDEN_LOOK} is {arrays[GOLDEN_LOOK].shape}, the network gives {outputs[LOOK].shape[1:]}"
            )
        super().check(outputs, arrays)

    def open(self, outputs: Outputs, arrays: Arrays, image_size: tuple[int, int]) -> Scorer:
        return LocalScorer(self, self.grid(outputs), image_size, arrays).less(arrays)

    def open_describer(self, outputs: Outputs, arrays: Arrays, scorer: Scorer) -> Describer:
        return PatchDescriber(self, outputs, arrays[GOLDEN], NearestPatches(arrays[GOLDEN]))

    def reference(self, outputs: Arrays, arrays: Arrays, image_size: tuple[int, int]) -> tuple[float, np.ndarray]:
        features = outputs[self.patches.name]
        rows, columns, depth = features.shape
        golden = arrays[GOLDEN].astype(np.float64).reshape(-1, rows, columns, depth)
        found, seen = GoldenPlaces(self, (rows, columns), image_size, arrays).of(outputs)
        places = found.reshape(rows, columns, 2)
        there = np.empty((rows, columns))
        back = np.full(golden.shape[:3], np.inf)
        for patch in np.ndindex(rows, columns):
            y, x = (slice(max(0, place - self.reach), place + self.reach + 1) for place in places[patch])
            distances = np.linalg.norm(golden[:, y, x] - features[patch], axis=-1)
            there[patch] = distances.min()
            back[:, y, x] = np.minimum(back[:, y, x], distances)
        scores = np.maximum(there, back.min(axis=0)[places[..., 0], places[..., 1]]) if self.both_ways else there
        scores = scores * seen.reshape(rows, columns) - arrays.get(USUAL, 0)
        return self.reference_of(scores, outputs, image_size)


class GoldenPlaces:
    """Positions of a part's patches on the golden part, found by registration.

    `head`, `arrays`: parameters of `LocalHead.open`.
    `grid`, `image_size`: height and width in patches and in pixels.
    """

    def __init__(self, head: LocalHead, grid: tuple[int, int], image_size: tuple[int, int], arrays: Arrays):
        self._placer = Placer(arrays[GOLDEN_LOOK]) if head.look_px else None
        self._most = np.array(grid) - 1
        self._own = np.moveaxis(np.indices(grid, np.int32), 0, -1).reshape(-1, 2)
        # Size of a patch in pixels of the look, y before x.
        self._pitch = np.array(image_size) / np.array(grid) / max(1, head.look_px)

    def of(self, outputs: Outputs) -> tuple[np.ndarray, np.ndarray]:
        """Find the golden row and column of every patch, int32 (h w, 2), and whether it can be judged, bool (h w,).

        `outputs` have no batch axis; rows and columns are clipped to the grid.
        """
        transform = self._placer.find(outputs[LOOK]) if self._placer else STAYS
        if transform is STAYS:
            return self._own, np.ones(len(self._own), bool)
        places = (self._own + 0.5) * self._pitch - 0.5
        moved = (places[:, ::-1] @ transform[:, :2].T + transform[:, 2])[:, ::-1]
        patches = np.rint((moved + 0.5) / self._pitch - 0.5)
        both = np.stack([self._own, patches])
        seen = np.logical_and.reduce((RIM <= both) & (both <= self._most - RIM), axis=(0, 2))
        return np.clip(patches, 0, self._most).astype(np.int32), seen


class LocalScorer(PatchScorer):
    """Scorer that compares patches with those of golden parts, on the CPU.

    `grid`, `image_size`: parameters of `PatchScorer`.
    `arrays`: the arrays that the head's `arrays` names.
    """

    head: LocalHead

    def __init__(self, head: LocalHead, grid: tuple[int, int], image_size: tuple[int, int], arrays: Arrays):
        super().__init__(head, grid, image_size)
        self._places = GoldenPlaces(head, grid, image_size, arrays)
        golden = arrays[GOLDEN].reshape(-1, *grid, arrays[GOLDEN].shape[1])
        self._windows = WindowSearch(golden, head.reach)

    def patch_scores(self, outputs: Outputs) -> np.ndarray:
        features = outputs[self.head.patches.name][0]
        places, seen = self._places.of({name: array[0] for name, array in outputs.items()})
        there, back = self._windows.search(features.reshape(len(places), -1), places)
        scores = (np.maximum(there, back) if self.head.both_ways else there) * seen
        return scores.reshape(self.grid) - self._usual
