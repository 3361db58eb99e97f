"""What approximate indexes of faiss give up, and what they take when they give up little."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np

from benchmarks.features import Array, Features
from benchmarks.interleave import interleave
from benchmarks.opponents import our_searches
from benchmarks.results import OURS, Row
from benchmarks.truth import NearestTruth

WANTED_RECALL = 0.99
HNSW_M = 32
EF_CONSTRUCTION = 200
EF_SEARCH = (16, 32, 64, 96, 128, 192, 256, 512, 1024)
D, ROWS = 384, 10_000


class Setting(NamedTuple):
    """A search setting and what it finds: share of true nearest rows, and the worst score in units of the true one."""

    name: str
    recall: float
    worst_ratio: float
    search: Callable[[], Any]


def approximate_rows(features: dict[int, Features], cache: Path, rounds: int) -> Iterator[Row]:
    """Time edgead's exact search beside HNSW and IVF at the first setting that reaches the wanted recall."""
    source = features[D]
    bank = source.bank(ROWS)
    for image in ("good", "defect"):
        queries: Array = getattr(source, image)
        truth = NearestTruth(queries, bank, 1)
        exact = our_searches(bank, 1)[OURS]
        calls: dict[str, Callable[[], Any]] = {OURS: lambda exact=exact, queries=queries: exact(queries)}
        notes: dict[str, Any] = {}
        hnsw = hnsw_settings(bank, queries, truth, cache / f"hnsw_{D}_coreset.faiss")
        for settings in (hnsw, ivf_settings(bank, queries, truth)):
            tried = list(settings)
            chosen = tried[-1]
            calls[f"{chosen.name} (recall {chosen.recall:.3f})"] = chosen.search
            notes |= {setting.name: {"recall": setting.recall, "worst_ratio": setting.worst_ratio} for setting in tried}
        work = f"approximate, {len(queries)} x {D} against {ROWS:,}, k=1, {image} image"
        yield Row("approximate", work, interleave(calls, rounds), notes=notes)


def hnsw_settings(bank: Array, queries: Array, truth: NearestTruth, file: Path) -> Iterator[Setting]:
    """Yield HNSW settings, faster ones first, up to the first with the wanted recall; `file` keeps the graph."""
    if file.is_file():
        index = faiss.read_index(str(file))
    else:
        index = faiss.IndexHNSWFlat(bank.shape[1], HNSW_M)
        index.hnsw.efConstruction = EF_CONSTRUCTION
        index.add(bank)
        faiss.write_index(index, str(file))
    for ef in EF_SEARCH:
        parameters = faiss.SearchParametersHNSW(efSearch=ef)
        setting = _measure(f"HNSW ef={ef}", index, parameters, queries, truth)
        yield setting
        if setting.recall >= WANTED_RECALL:
            return


def ivf_settings(bank: Array, queries: Array, truth: NearestTruth) -> Iterator[Setting]:
    """The same for IVF-Flat with about sqrt(m) lists."""
    d = bank.shape[1]
    lists = round(math.sqrt(len(bank)))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(d), d, lists)
    index.train(bank)
    index.add(bank)
    for probes in sorted({min(lists, 2**i) for i in range(math.ceil(math.log2(lists)) + 1)}):
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        setting = _measure(f"IVF nprobe={probes} of {lists}", index, parameters, queries, truth)
        yield setting
        if setting.recall >= WANTED_RECALL:
            return


def _measure(name: str, index: Any, parameters: Any, queries: Array, truth: NearestTruth) -> Setting:
    def search() -> tuple[np.ndarray, np.ndarray]:
        return index.search(queries, 1, params=parameters)

    found = search()[1]
    return Setting(name, truth.recall(found), truth.worst_ratio(found), search)
