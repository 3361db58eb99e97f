"""Rows of the nearest-patch search: real features, Gaussian ones, and inputs that a pre-scan cannot prune."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.features import Array, Features
from benchmarks.interleave import interleave
from benchmarks.opponents import Search, has_fp32_switch, other_searches, our_searches
from benchmarks.results import FP32, OURS, Row, Target
from benchmarks.truth import DisagreementError, NearestTruth

D = 384  # of the rows that are not about d
ROWS = 10_000


@dataclass(frozen=True)
class Work:
    """One search to time: image is "good" or "defect"."""

    d: int
    rows: int
    targets: tuple[Target, ...]
    k: int = 1
    image: str = "good"

    def text(self, queries: int) -> str:
        return f"nearest, {queries} x {self.d} against {self.rows:,}, k={self.k}, {self.image} image"


WORKS = (
    Work(D, ROWS, (Target("faiss", 7, 10),)),
    Work(D, ROWS, (Target("faiss", 6, 10),), image="defect"),
    Work(D, 50_000, (Target("faiss", 9, 13),)),
    Work(1024, ROWS, (Target("faiss", 7.5, 11),)),
    Work(1536, ROWS, (Target("faiss", 7.5, 11),)),
    Work(152, ROWS, (Target("faiss", 12, 20), Target("faiss BLAS", 6, 9))),
    Work(D, ROWS, (Target("faiss", 4, 6),), k=9),
    Work(D, 1000, (Target("faiss", 3.3, 4),)),
)


def nearest_rows(features: dict[int, Features], threads: int, rounds: int) -> Iterator[Row]:
    """Verify and time edgead beside exact searches of other libraries."""
    for work in WORKS:
        source = features[work.d]
        queries: Array = getattr(source, work.image)
        yield _row(work.text(len(queries)), queries, source.bank(work.rows), work, threads, rounds)
    rng = np.random.default_rng(0)
    bank = rng.standard_normal((ROWS, D), dtype=np.float32)
    queries = rng.standard_normal((len(features[D].good), D), dtype=np.float32)
    gaussian = Work(D, ROWS, (Target("faiss", 3.5, 4),))
    yield _row(
        f"nearest, Gaussian data {len(queries)} x {D} against {ROWS:,}", queries, bank, gaussian, threads, rounds
    )


def input_row(features: Features, rounds: int) -> Row | None:
    """Time edgead on inputs of all kinds against its own fp32 kernel; the row is the worst of them."""
    timings = {}
    for name, (queries, bank) in _inputs(features).items():
        searches = our_searches(bank, 1)
        _verify(f"any input, {name}", searches, queries, NearestTruth(queries, bank, 1))
        if has_fp32_switch():
            timings[name] = interleave({key: _call(search, queries) for key, search in searches.items()}, rounds)
    if not timings:
        print("any input: this edgead has no prescan=False, so there is no fp32 kernel to compare with; row left out")
        return None
    ratios = {name: both[FP32].median_ms / both[OURS].median_ms for name, both in timings.items()}
    worst = min(ratios, key=ratios.__getitem__)
    milliseconds = {name: {key: timing.median_ms for key, timing in both.items()} for name, both in timings.items()}
    return Row(
        "input",
        f"any input, worst of {len(ratios)}: {worst}",
        timings[worst],
        (Target(FP32, 0.9),),
        {"ratios": ratios, "median_ms": milliseconds},
    )


def _row(text: str, queries: Array, bank: Array, work: Work, threads: int, rounds: int) -> Row:
    start = time.perf_counter()
    searches = our_searches(bank, work.k)
    build_s = time.perf_counter() - start
    searches |= other_searches(bank, work.k, threads)
    _verify(text, searches, queries, NearestTruth(queries, bank, work.k))
    timings = interleave({name: _call(search, queries) for name, search in searches.items()}, rounds)
    operations = 2 * len(queries) * len(bank) * work.d
    rates = {name: operations / timing.median_ms / 1e6 for name, timing in timings.items()}
    return Row("nearest", text, timings, work.targets, {"build_edgead_s": build_s, "equivalent_gflop_s": rates})


def _verify(text: str, searches: dict[str, Search], queries: Array, truth: NearestTruth) -> None:
    for name, search in searches.items():
        values, index = search(queries)
        try:
            if name in (OURS, FP32):
                truth.check_exact(name, values, index)
            else:
                truth.check_rounded(name, index)
        except DisagreementError as error:
            raise SystemExit(f"{text}: {error}; nothing wrong is timed") from None


def _call(search: Search, queries: Array):
    return lambda: search(queries)


def _inputs(features: Features) -> dict[str, tuple[Array, Array]]:
    """Queries and bank by name: what breaks int8 scales, principal directions, bounds and early exits."""
    rng = np.random.default_rng(0)
    good, bank = features.good, features.coreset
    n, (m, d) = len(good), bank.shape

    def noise(rows: int) -> Array:
        return rng.random((rows, d), dtype=np.float32) - np.float32(0.5)

    half = good.copy()
    half[::2] *= 100
    heavy_bank, heavy_good = bank.copy(), good.copy()
    heavy_bank[:, 0] = 100 * rng.standard_normal(m)
    heavy_good[:, 0] = 100 * rng.standard_normal(n)
    spike = bank.copy()
    spike[m // 2, d // 2] = 1e4
    grey = bank[0]
    near = grey + np.float32(1e-3) * noise(n + m)
    far = np.zeros(d, np.float32)
    far[: d // 2] = 30
    return {
        "real, good image": (good, bank),
        "real, defect image": (features.defect, bank),
        "uniform noise": (noise(n), noise(m)),
        "uniform noise as queries": (4 * noise(n), bank),
        "queries 100 x out of range": (100 * good, bank),
        "half of the queries out of range": (half, bank),
        "queries with an offset": (good + far, bank),
        "every row twice": (good, np.concatenate([bank[: m // 2]] * 2)),
        "constant features": (np.tile(grey, (n, 1)), np.tile(grey, (m, 1))),
        "nearly equal rows": (near[:n], near[n:]),
        "one heavy dimension": (heavy_good, heavy_bank),
        "one row with a spike": (good, spike),
        "queries that are rows": (bank[:n].copy(), bank),
    }
