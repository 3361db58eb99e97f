"""Head for repeated motions: a frame's score is its distance to the frames learnt for the same moment of the cycle.

Ours. The moment is tracked over frames by dynamic programming: of all paths through the learnt cycle at about its
speed, the one whose frames were nearest to those of the stream.
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
# Moments per frame. From frame to frame the motion advances by 3 to 5 of them: 0.75 to 1.25 of the learnt speed.
MOMENTS = 4
STEPS = (3, 4, 5)
SHORTEST, LONGEST = 4, 5000  # frames of a cycle
_ROUNDING = 1e-9  # of phases


class CycleHead(PatchHead):
    """Head whose patch scores are distances to the nearest row of the bank for the same place and moment.

    A row of the array `memory_bank` holds all patches of one frame, row by row; `phases` is its position in the cycle,
    from 0 to 1. A moment is compared with the rows within `reach` frames of it. The image score is the lowest of the
    last `in_a_row` frames, so that a single frame raises no alarm.
    """

    kind: Literal["cycle"] = "cycle"
    period: Annotated[float, Field(ge=SHORTEST, le=LONGEST, description="Length of a cycle in frames.")] = 25.0
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
        """Score a single image, without a stream: by the moment of the cycle that it is most like."""
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
    """State of a stream: its last image scores, and the cost of the cheapest path to each moment (moments,)."""

    recent: deque[float]
    costs: np.ndarray | None = None


class Moments:
    """Moments of a cycle: the rows of the bank that belong to each, and the cheapest paths through them.

    `period`, `reach`: frames; see `CycleHead`.
    `phases` (ndarray of shape (m, 1) or (m,)): position of each row in the cycle, from 0 to 1.
    """

    def __init__(self, period: float, reach: float, phases: np.ndarray):
        self.count = max(1, round(MOMENTS * period))
        # Costs of a cycle ago count for a third: a memory long enough that a machine at rest cannot stay unnoticed.
        self.keeps = math.exp(-1 / period)
        phases = phases.reshape(-1).astype(np.float64)
        order = np.argsort(phases, kind="stable")
        # Phases wrap around: the end of a cycle is near the beginning of the next.
        rows, places = np.tile(order, 3), (phases[order] + [[-1], [0], [1]]).ravel()
        moments, reached = np.arange(self.count) / self.count, reach / period + _ROUNDING
        first, last = (np.searchsorted(places, moments + aside) for aside in (-reached, reached))
        after = np.searchsorted(places, moments)
        nearest = np.where(places[after] - moments < moments - places[after - 1], after, after - 1)
        # A moment without rows within reach gets the nearest row.
        first, last = np.minimum(first, nearest), np.maximum(last, nearest + 1)
        last = np.minimum(last, first + len(phases))
        # Moments with fewer rows than others repeat their last row.
        self._rows = rows[np.minimum(first[:, None] + np.arange((last - first).max()), last[:, None] - 1)]

    def at_moments(self, distances: np.ndarray) -> np.ndarray:
        """Reduce distances to every row (m, ...) to the least of the rows of each moment (moments, ...)."""
        nearest: np.ndarray = distances[self._rows].min(axis=1)
        return nearest

    def go_on(self, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Extend the paths by one frame: the least cost of reaching each moment and its step, both (moments,)."""
        ways = np.stack([np.roll(costs, step) for step in STEPS])
        chosen = ways.argmin(axis=0)
        return np.take_along_axis(ways, chosen[None], axis=0)[0], chosen


class CycleScorer(ImageScorer):
    """Scorer that tracks a motion, on the CPU; all that it knows of a stream is in the stream's `CycleState`.

    `grid`, `image_size`: height and width in patches and in pixels.
    `bank`: ndarray of shape (m, h w d), float32.
    `phases`: ndarray of shape (m, 1), float32.
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
        """Score a frame; without a state, as a single image. None until `in_a_row` frames have come."""
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
    """Memory bank whose rows are whole frames, compared with a frame patch by patch at the same place.

    `bank`: ndarray of shape (m, h w d), float32.
    """

    def __init__(self, bank: np.ndarray, grid: tuple[int, int]):
        rows = bank.reshape(len(bank), grid[0] * grid[1], -1)
        self._rows = np.ascontiguousarray(rows.transpose(1, 0, 2))
        self._squares = np.square(rows).sum(axis=2)

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Euclidean distances of the patches (h, w, d) to those of every row at their place, float32 (m, h w)."""
        patches = features.reshape(len(self._rows), -1)
        products = np.matmul(self._rows, patches[:, :, None])[..., 0].T
        return np.sqrt(np.maximum(self._squares + np.square(patches).sum(axis=1) - 2 * products, 0))
