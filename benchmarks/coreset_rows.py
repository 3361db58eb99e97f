"""The row of the greedy coreset: all patches of a data set, and the proof that the picks are the plain greedy's."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.features import Array
from benchmarks.interleave import Timing, wait_until_quiet
from benchmarks.results import OURS, Row, Target
from edgead import kernels

PICKS = 10_000
CHECKED_PICKS = 300  # without --verify-coreset
SUBSET_ROWS, SUBSET_PICKS = 20_000, 300
PLAIN_PICKS = 60  # of the plain greedy, which takes equally long for each
ROW_BLOCK, PICK_BLOCK = 32_768, 100

# Squared distances by float32 products are wrong by this share of the largest squared length.
ROUNDING = 4e-6


def coreset_row(patches: Array, rounds: int, verify_all: bool) -> Row:
    """Time the choice, and verify it: on a subset against the plain greedy, and by replaying picks."""
    count = min(PICKS, len(patches))
    work = f"greedy coreset, {len(patches):,} x {patches.shape[1]} -> {count:,}"
    _verify_subset(work, patches)
    samples, picks = [], np.empty(0, np.int64)
    for _ in range(rounds):
        wait_until_quiet()
        start = time.perf_counter()
        picks = kernels.greedy_coreset(patches, count)
        samples.append((time.perf_counter() - start) * 1e3)
    if len(np.unique(picks)) < count:
        raise SystemExit(f"{work}: a row was chosen twice")
    replayed = count if verify_all else min(CHECKED_PICKS, count)
    notes: dict[str, Any] = {"picks_replayed": replayed, **replay(work, patches, picks[:replayed])}
    plain = _plain_ms_per_pick(patches) * count
    notes["plain greedy"] = f"numpy, matrix-vector products, {PLAIN_PICKS} picks measured and multiplied"
    timings = {OURS: Timing.of(samples), "plain greedy (extrapolated)": Timing.of([plain])}
    return Row("coreset", work, timings, (Target(None, 30, 10),), notes)


def _verify_subset(work: str, patches: Array) -> None:
    """Compare all picks of some rows with the plain greedy's in float64."""
    rows = np.sort(np.random.default_rng(0).permutation(len(patches))[:SUBSET_ROWS])
    subset = patches[rows]
    count = min(SUBSET_PICKS, len(subset))
    picks = kernels.greedy_coreset(subset, count)
    exact = torch.from_numpy(subset).double()
    squared = torch.full((len(exact),), float("inf"), dtype=torch.float64)
    for done in range(1, count):
        torch.minimum(squared, (exact - exact[picks[done - 1]]).square().sum(dim=1), out=squared)
        farthest, found = squared.max(), squared[picks[done]]
        # edgead measures in float32: rows that are equally far up to its rounding may change places.
        if found < farthest * (1 - 1e-5):
            raise SystemExit(f"{work}: on a subset, pick {done} is at {found:.8g}, the farthest row at {farthest:.8g}")


def replay(work: str, patches: Array, picks: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Check that each pick is a farthest row from the picks before it, up to the rounding of float32 products.

    Returns
    -------
    dict
        How many picks are the farthest row even in this rounding, how many only within it, and the largest gap.
    """
    rows = torch.from_numpy(patches)
    norms = torch.cat([block.square().sum(dim=1) for block in rows.split(ROW_BLOCK)])
    slack = ROUNDING * float(norms.max())
    squared = torch.full((len(rows),), float("inf"))
    gaps = []
    for start in range(0, len(picks), PICK_BLOCK):
        block = torch.from_numpy(picks[start : start + PICK_BLOCK])
        # farthest[j]: of all rows, before pick j of this block; found[j]: of pick j itself.
        farthest = torch.full((len(block),), -float("inf"))
        found = torch.empty(len(block))
        for first in range(0, len(rows), ROW_BLOCK):
            part = slice(first, first + ROW_BLOCK)
            running = torch.addmm(norms[part], rows[block], rows[part].T, alpha=-2).add_(norms[block][:, None])
            before = torch.cat([squared[part][None], running]).cummin(dim=0).values
            torch.maximum(farthest, before[:-1].max(dim=1).values, out=farthest)
            inside = ((block >= first) & (block < first + ROW_BLOCK)).nonzero()[:, 0]
            found[inside] = before[inside, block[inside] - first]
            squared[part] = before[-1]
        gaps.append(farthest - found)
    gap = torch.cat(gaps)[1:]  # before the first pick all rows are infinitely far
    worst = float(gap.max()) if len(gap) else 0.0
    if worst > slack:
        raise SystemExit(f"{work}: pick {int(gap.argmax()) + 1} is {worst:.3g} nearer (squared) than the farthest row")
    exact = int((gap <= 0).sum())
    return {"farthest": exact + 1, "farthest_within_rounding": len(gap) - exact, "largest_gap": worst, "slack": slack}


def _plain_ms_per_pick(patches: Array) -> float:
    """Time the plain greedy; NumPy's matrix-vector product was faster than torch's."""
    norms = np.einsum("ij,ij->i", patches, patches)
    squared = np.full(len(patches), np.inf, np.float32)
    pick = 0
    wait_until_quiet()
    start = time.perf_counter()
    for _ in range(PLAIN_PICKS):
        found = patches @ (-2 * patches[pick])
        found += norms
        found += norms[pick]
        np.minimum(squared, found, out=squared)
        pick = int(squared.argmax())
    return (time.perf_counter() - start) * 1e3 / PLAIN_PICKS
