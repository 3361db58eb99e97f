"""Search time against the size of the bank."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.approximate import hnsw_settings
from benchmarks.features import Features
from benchmarks.interleave import interleave
from benchmarks.machine import disturbance
from benchmarks.opponents import other_searches, our_searches
from benchmarks.truth import NearestTruth
from edgead.profiling.contention import OtherLoad

SIZES = (500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
HNSW = "faiss HNSW, recall 0.99"


def measure_sizes(features: Features, cache: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Time searches of random banks by size; a good image, k = 1.

    Returns
    -------
    dict
        `rows`, the sizes, and `median_ms` by contender, one a size; `hnsw`, the setting and recall at each size.
    """
    queries = features.good
    medians: dict[str, list[float]] = {}
    chosen = []
    for rows in SIZES:
        bank = features.random_bank(rows)
        searches = our_searches(bank, 1)
        searches["faiss"] = other_searches(bank, 1, threads)["faiss"]
        calls: dict[str, Callable[[], Any]] = {
            name: lambda search=search: search(queries) for name, search in searches.items()
        }
        truth = NearestTruth(queries, bank, 1)
        file = cache / f"hnsw_{bank.shape[1]}_random_{rows}.faiss"
        *_, setting = hnsw_settings(bank, queries, truth, file)
        calls[HNSW] = setting.search
        chosen.append({"rows": rows, "setting": setting.name, "recall": setting.recall})
        load = OtherLoad()
        for name, timing in interleave(calls, rounds).items():
            medians.setdefault(name, []).append(timing.median_ms)
        shown = ", ".join(f"{name} {values[-1]:.2f} ms" for name, values in medians.items())
        print(f"  {rows:,} rows: {shown}{disturbance(load.use())}", flush=True)
    return {"rows": list(SIZES), "queries": len(queries), "d": queries.shape[1], "median_ms": medians, "hnsw": chosen}
