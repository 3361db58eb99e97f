"""Head of detectors with a memory bank: a patch scores its distance to the nearest good patch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from edgead.heads.contract import Arrays, Describer, Head, Output, Outputs, Scored, Scorer
from edgead.heads.describe import PatchDescriber, on_host
from edgead.heads.known_defects import DEFECT_KINDS, DEFECTS, NO_KIND, KnownDefects, KnownScorer, reference_join
from edgead.heads.patches import USUAL, ImageScorer, PatchHead, PatchScorer, without_hidden
from edgead.kernels import NearestPatches
from edgead.kernels.backend import cuda_problem

BANK, ROW_FOLDS, STAND_INS, FOLD_METRICS = "memory_bank", "bank_folds", "stand_ins", "fold_metrics"
MAX_FOLDS = 100
OF_ROWS = (BANK, ROW_FOLDS, STAND_INS)  # arrays with one row for each row of the bank
_ROWS_AT_ONCE = 512  # of the reference: all of them would take gigabytes


class NearestHead(PatchHead):
    """Head whose patch scores are mean Euclidean distances to the `num_neighbors` nearest rows of the memory bank.

    `folds` is the number of folds of the good images (0: none); an image of a fold can be scored as if the fold had not
    been learnt. The array `bank_folds` has the fold of each row, or -1, and `stand_ins` the row that replaces it; see
    `edgead.adapt.memory_bank.folds`. With `own_metrics`, features and bank are then also multiplied by the fold's
    matrix; the array `fold_metrics` has these matrices, stacked; see
    `edgead.adapt.memory_bank.feature_space.FeatureMetric`.

    With `known`, marked defects raise the scores: arrays `known_defects` and `known_defect_kinds`; see
    `edgead.heads.known_defects`.
    """

    kind: Literal["nearest"] = "nearest"
    num_neighbors: Annotated[int, Field(ge=1, le=16)] = 1
    folds: Annotated[int, Field(ge=0, le=MAX_FOLDS)] = 0
    own_metrics: bool = False
    known: KnownDefects | None = None

    @property
    def patches(self) -> Output:
        return Output("features", 3)

    @property
    def arrays(self) -> tuple[str, ...]:
        of_folds = (ROW_FOLDS, STAND_INS, *((FOLD_METRICS,) if self.own_metrics else ())) if self.folds else ()
        return (BANK, *of_folds, *((DEFECTS, DEFECT_KINDS) if self.known else ()), *super().arrays)

    @property
    def takes_gpu_arrays(self) -> bool:
        """False for several neighbours (not averaged by CUDA kernels) and known defects (features on the host)."""
        return self.num_neighbors == 1 and not self.known and not self.by_place and not cuda_problem()

    @property
    def grows(self) -> bool:
        return True

    def leaves_out(self, fold: int) -> bool:
        return 0 <= fold < self.folds

    def check(self, outputs: Outputs, arrays: Arrays) -> None:
        bank, features = arrays[BANK], outputs[self.patches.name]
        if len(bank) < self.num_neighbors:
            raise ValueError(
                f"the memory bank has {len(bank)} rows, the manifest asks for {self.num_neighbors} neighbours"
            )
        if bank.shape[1:] != tuple(features.shape[-1:]):
            raise ValueError(
                f"the memory bank has rows of {bank.shape[1:]}, the network gives {tuple(features.shape[-1:])}"
            )
        if self.folds and (arrays[ROW_FOLDS].shape != (len(bank), 1) or arrays[STAND_INS].shape != bank.shape):
            raise ValueError(
                f"the memory bank is {bank.shape}, its folds {arrays[ROW_FOLDS].shape} and stand-ins "
                f"{arrays[STAND_INS].shape} do not fit"
            )
        if FOLD_METRICS in self.arrays and arrays[FOLD_METRICS].shape != (self.folds * bank.shape[1], bank.shape[1]):
            raise ValueError(
                f"the memory bank is {bank.shape} in {self.folds} folds, their metrics {arrays[FOLD_METRICS].shape} "
                "do not fit"
            )
        if self.known:
            defects, kinds = arrays[DEFECTS], arrays[DEFECT_KINDS]
            if not len(defects) or defects.shape[1:] != bank.shape[1:] or kinds.shape != (len(defects), 1):
                raise ValueError(
                    f"the memory bank is {bank.shape}, known defects {defects.shape} of kinds {kinds.shape} do not fit"
                )
            if (found := len(np.unique(kinds[kinds != NO_KIND]))) != len(self.known.start):
                raise ValueError(f"the known defects are of {found} kinds, the manifest has {len(self.known.start)}")
        super().check(outputs, arrays)

    def open(self, outputs: Outputs, arrays: Arrays, image_size: tuple[int, int]) -> Scorer:
        features = outputs[self.patches.name]
        grid = self.grid(outputs)
        if isinstance(features, np.ndarray):
            return NearestScorer(self, grid, image_size, arrays[BANK], self.open_known(grid, arrays)).less(arrays)
        from edgead.heads.gpu import GpuScorer

        return GpuScorer(ImageScorer(self, grid), image_size, features, arrays[BANK])

    def open_left_out(
        self, outputs: Outputs, arrays: Arrays, image_size: tuple[int, int], fold: int, whole: Scorer | None = None
    ) -> Scorer:
        if not self.leaves_out(fold):
            raise ValueError(f"the memory bank has {self.folds} folds, asked for number {fold}")
        bank, metric = without_fold(arrays, fold)
        grid = self.grid(outputs)
        known = self.open_known(grid, arrays, fold)
        like = whole.nearest if isinstance(whole, NearestScorer) else None
        scorer = NearestScorer(self, grid, image_size, bank, known, like).less(arrays)
        return LeftOutScorer(scorer, metric, on_host(outputs[self.patches.name]))

    def open_known(self, grid: tuple[int, int], arrays: Arrays, fold: int | None = None) -> KnownScorer | None:
        """Prepare scoring by known defects, leaving out a `fold` of good images if given; None without defects."""
        if self.known is None:
            return None
        bank, metric = (arrays[BANK], None) if fold is None else without_fold(arrays, fold)
        return KnownScorer(self, grid, bank, in_metric(arrays[DEFECTS], metric), arrays[DEFECT_KINDS])

    def open_describer(self, outputs: Outputs, arrays: Arrays, scorer: Scorer) -> Describer:
        if isinstance(scorer, NearestScorer):
            return PatchDescriber(self, outputs, scorer.bank, scorer.nearest)
        return PatchDescriber(self, outputs, arrays[BANK], NearestPatches(arrays[BANK]))

    def reference(self, outputs: Arrays, arrays: Arrays, image_size: tuple[int, int]) -> tuple[float, np.ndarray]:
        features, bank = outputs[self.patches.name], arrays[BANK].astype(np.float64)
        flat = features.reshape(-1, features.shape[-1])
        blocks = [flat[i : i + _ROWS_AT_ONCE] for i in range(0, len(flat), _ROWS_AT_ONCE)]
        nearest = [np.sort(_distances(block, bank), axis=1)[:, : self.num_neighbors].mean(axis=1) for block in blocks]
        scores = np.concatenate(nearest).reshape(features.shape[:2]) - arrays.get(USUAL, 0)
        scores = without_hidden(scores, outputs)
        unknown, anomaly_map = self.reference_of(scores, outputs, image_size)
        if self.known is None:
            return unknown, anomaly_map
        image_score, joined = reference_join(self.known, self, arrays, bank, features, (unknown, scores))
        return image_score, self.reference_of(joined, outputs, image_size)[1]


class NearestScorer(PatchScorer):
    """Scorer that searches the memory bank on the CPU.

    `grid`, `image_size`: parameters of `PatchScorer`.
    `bank`: ndarray of shape (m, d), float32.
    `known`: scorer of known defects, if the head has any.
    `like`: search in a similar bank, which saves time.
    """

    head: NearestHead

    def __init__(
        self,
        head: NearestHead,
        grid: tuple[int, int],
        image_size: tuple[int, int],
        bank: np.ndarray,
        known: KnownScorer | None = None,
        like: NearestPatches | None = None,
    ):
        super().__init__(head, grid, image_size)
        self.bank, self._known = bank, known
        self.nearest = NearestPatches(bank, like=like)

    def score(self, outputs: Outputs, state: Any = None) -> Scored:
        scored = super().score(outputs, state)
        if self._known is None or self.head.known is None:
            return scored
        return self._known.join(self.head.known, outputs[self.head.patches.name], scored)

    def patch_scores(self, outputs: Outputs) -> np.ndarray:
        features = outputs[self.head.patches.name]
        distance, _ = self.nearest.search(features.reshape(-1, features.shape[-1]), self.head.num_neighbors)
        return distance.mean(axis=1).reshape(self.grid) - self._usual


class LeftOutScorer:
    """Scorer of one fold's images, as if the fold had not been learnt.

    `scorer`: scorer with the bank from `without_fold`.
    `metric` (ndarray of shape (d, d), float32): metric from `without_fold`, if any.
    `fetch`: function that copies features of the runtime to the host.
    """

    def __init__(self, scorer: NearestScorer, metric: np.ndarray | None, fetch: Callable[[Any], np.ndarray]):
        self._scorer, self._metric, self._fetch = scorer, metric, fetch
        self.anomaly_map = scorer.anomaly_map

    def score(self, outputs: Outputs, state: Any = None) -> Scored:
        name = self._scorer.head.patches.name
        features = self._fetch(outputs[name])
        return self._scorer.score({**outputs, name: in_metric(features, self._metric)}, state)


def nearest_head(head: Head) -> NearestHead:
    """Return the head, typed as NearestHead; only for models that can be taught."""
    if not isinstance(head, NearestHead):
        raise TypeError(f"the head {head.kind!r} has no memory bank that grows")
    return head


def without_fold(arrays: Arrays, fold: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return bank and metric for scoring images of a fold as if the fold had not been learnt.

    Returns bank, ndarray of shape (m, d), float32: memory bank with stand-ins for the fold's rows, in the
        metric of the other folds.
    And metric, ndarray of shape (d, d), float32, or None: matrix to multiply features by first; None for none.
    """
    bank = np.where(arrays[ROW_FOLDS].reshape(-1, 1) == fold, arrays[STAND_INS], arrays[BANK])
    width = bank.shape[1]
    metric = arrays[FOLD_METRICS][fold * width : (fold + 1) * width] if FOLD_METRICS in arrays else None
    return in_metric(bank, metric), metric


def in_metric(rows: np.ndarray, metric: np.ndarray | None) -> np.ndarray:
    """Multiply rows (..., d) by a metric (d, d); None leaves them unchanged."""
    if metric is None:
        return rows
    return (rows.reshape(-1, rows.shape[-1]) @ metric).reshape(
        rows.shape
    )  # one product, not one for each row of a grid


def _distances(rows: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Compute Euclidean distances (n, m) in float64."""
    squares = np.square(rows).sum(axis=1)[:, None] + np.square(bank).sum(axis=1) - 2 * rows @ bank.T
    return np.sqrt(np.maximum(squares, 0))
