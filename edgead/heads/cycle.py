"""The head of a repeated motion: a frame is as anomalous as it is far from what the cycle shows at that moment.

Ours. Which moment it is follows from the frames before: of all ways through the learnt cycle at its speed, the one
whose frames were nearest to those that came.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from edgead.heads.contract import Arrays, Output, Outputs, Scored, Scorer
from edgead.heads.nearest import BANK
from edgead.heads.patches import ImageScorer, PatchHead
from edgead.kernels import Smoother

PHASES = "phases"
# The cycle has so many moments a frame. The motion goes on by 3 to 5 of them: at 0.75 to 1.25 of the learnt speed.
MOMENTS = 4
STEPS = (3, 4, 5)
SHORTEST, LONGEST = 4, 5000  # frames of a cycle
_ROUNDING = 1e-9  # of phases


class CycleHead(PatchHead):
    """The score of a patch is its distance to the nearest row of the bank that shows the same place at that moment.

    A row of the array `memory_bank` has the patches of one frame, one after the other; `phases` says where in the cycle
    it was, from 0 to 1. A moment is compared with the rows within `reach` frames of it. The image score is the lowest
    of the last `in_a_row` frames: what one frame alone shows is no alarm.
    """

    kind: Literal["cycle"] = "cycle"
    period: Annotated[float, Field(ge=SHORTEST, le=LONGEST, description="Frames of a cycle.")] = 25.0
    reach: Annotated[float, Field(ge=0, le=100)] = 1.0
    in_a_row: Annotated[int, Field(ge=1, le=100)] = 3

    @property
    def patches(self) -> Output:
        return Output("features", 3)

    @property
    def arrays(self) -> tuple[str, ...]:
        return (BANK, PHASES, *super().arrays)

    @property
    def in_order(self) -> bool:
        return True

    @property
    def frames(self) -> int:
        return self.in_a_row

    def new_state(self) -> CycleState:
        return CycleState(deque(maxlen=self.in_a_row))

    def score_still(self, scorer: Scorer, outputs: Outputs) -> Scored:
        """Score an image that nothing came before: by whatever moment of the cycle it is most like."""
        scored = scorer.score(outputs)
        assert scored is not None  # only a stream has to wait
        return scored

    def check(self, outputs: Outputs, arrays: Arrays) -> None:
        bank, phases = arrays[BANK], arrays[PHASES]
        numbers = math.prod(outputs[self.patches.name].shape[1:])
        if not len(bank) or bank.shape[1] != numbers:
            raise ValueError(f"the memory bank is {bank.shape}, a frame has {numbers} numbers")
        if phases.shape != (len(bank), 1) or not ((phases >= 0) & (phases < 1)).all():
            raise ValueError(
                f"the memory bank has {len(bank)} rows, their phases are {phases.shape}, or not from 0 to 1"
            )
        super().check(outputs, arrays)

    def open(self, outputs: Outputs, arrays: Arrays, image_size: tuple[int, int]) -> CycleScorer:
        return CycleScorer(self, self.grid(outputs), image_size, arrays[BANK], arrays[PHASES])

    def reference(self, outputs: Arrays, arrays: Arrays, image_size: tuple[int, int]) -> tuple[float, np.ndarray]:
        features = outputs[self.patches.name]
        rows = arrays[BANK].astype(np.float64).reshape(-1, *features.shape)
        near = Moments(self.period, self.reach, arrays[PHASES]).at_moments(np.linalg.norm(rows - features, axis=-1))
        best = near.reshape(len(near), -1).sum(axis=1).argmin()
        return self.reference_of(near[best], outputs, image_size)


@dataclass(slots=True)
class CycleState:
    """What is known of a stream: the last image scores, and what each moment's cheapest way there costs (moments,)."""

    recent: deque[float]
    costs: np.ndarray | None = None


class Moments:
    """The moments of a cycle, which rows of a bank each of them is compared with, and the ways through it.

    Parameters
    ----------
    period, reach : float
        Frames; see `CycleHead`.
    phases : ndarray of shape (m, 1) or (m,)
        Of the rows, from 0 to 1.
    """

    def __init__(self, period: float, reach: float, phases: np.ndarray):
        self.count = max(1, round(MOMENTS * period))
        # What came a cycle ago counts for a third: long enough that a machine at rest cannot stay there unnoticed.
        self.keeps = math.exp(-1 / period)
        phases = phases.reshape(-1).astype(np.float64)
        order = np.argsort(phases, kind="stable")
        # The end of a cycle is near the beginning of the next.
        rows, places = np.tile(order, 3), (phases[order] + [[-1], [0], [1]]).ravel()
        moments, reached = np.arange(self.count) / self.count, reach / period + _ROUNDING
        first, last = (np.searchsorted(places, moments + aside) for aside in (-reached, reached))
        after = np.searchsorted(places, moments)
        nearest = np.where(places[after] - moments < moments - places[after - 1], after, after - 1)
        # Where none is within reach, the nearest.
        first, last = np.minimum(first, nearest), np.maximum(last, nearest + 1)
        last = np.minimum(last, first + len(phases))
        # Where fewer rows are near than elsewhere, the last comes again.
        self._rows = rows[np.minimum(first[:, None] + np.arange((last - first).max()), last[:, None] - 1)]

    def at_moments(self, distances: np.ndarray) -> np.ndarray:
        """Distances to every row (m, ...) -> to the nearest of the rows of every moment (moments, ...)."""
        nearest: np.ndarray = distances[self._rows].min(axis=1)
        return nearest

    def go_on(self, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cheapest way to every moment from those of the frame before: costs and steps, both (moments,)."""
        ways = np.stack([np.roll(costs, step) for step in STEPS])
        chosen = ways.argmin(axis=0)
        return np.take_along_axis(ways, chosen[None], axis=0)[0], chosen


class CycleScorer(ImageScorer):
    """Follows a motion, on the CPU; what it knows of a stream is in the stream's state.

    Parameters
    ----------
    head : CycleHead
    grid, image_size : (int, int)
        Height and width in patches and in pixels.
    bank : ndarray of shape (m, h w d), float32
    phases : ndarray of shape (m, 1), float32
    """

    head: CycleHead

    def __init__(
        self, head: CycleHead, grid: tuple[int, int], image_size: tuple[int, int], bank: np.ndarray, phases: np.ndarray
    ):
        super().__init__(head, grid)
        self._smoother = Smoother(grid, image_size, head.sigma_px, border=head.border)
        self._moments = Moments(head.period, head.reach, phases)
        self._bank = PlacedRows(bank, grid)

    def score(self, outputs: Outputs, state: Any = None) -> Scored | None:
        """Score a frame; without a state, one that nothing came before."""
        near = self._moments.at_moments(self._bank.distances(outputs[self.head.patches.name][0]))
        costs = near.sum(axis=1)
        if state is not None and state.costs is not None:
            costs = costs + np.float32(self._moments.keeps) * self._moments.go_on(state.costs)[0]
        patch_scores = self.of_scores(near[costs.argmin()])
        score = self.image_score(patch_scores, outputs)
        if state is None:
            return Scored(patch_scores, score)
        state.costs = costs
        state.recent.append(score)
        return Scored(patch_scores, min(state.recent)) if len(state.recent) == self.head.in_a_row else None

    def anomaly_map(self, patch_scores: np.ndarray) -> tuple[np.ndarray, float]:
        """Upsample and smooth; see `edgead.heads.contract.Scorer`."""
        return self._smoother(patch_scores)


class PlacedRows:
    """Rows of a bank, to which the patches of a frame are compared place by place.

    Parameters
    ----------
    bank : ndarray of shape (m, h w d), float32
    grid : (int, int)
    """

    def __init__(self, bank: np.ndarray, grid: tuple[int, int]):
        rows = bank.reshape(len(bank), grid[0] * grid[1], -1)
        self._rows = np.ascontiguousarray(rows.transpose(1, 0, 2))
        self._squares = np.square(rows).sum(axis=2)

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Patches (h, w, d) -> Euclidean distances to every row, float32 (m, h w)."""
        patches = features.reshape(len(self._rows), -1)
        products = np.matmul(self._rows, patches[:, :, None])[..., 0].T
        return np.sqrt(np.maximum(self._squares + np.square(patches).sum(axis=1) - 2 * products, 0))
