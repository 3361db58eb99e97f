"""edgead's kernels beside what a user could pick instead: verified first, then timed, in one process.

    python -m benchmarks kernels DATA --json kernels.json --plot docs

DATA is a data set in MVTec layout. Every exact contender must agree with float64 before it is timed; all get the
same number of threads. How they are kept from disturbing each other: benchmarks/interleave.py.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.approximate import approximate_rows
from benchmarks.coreset_rows import coreset_row
from benchmarks.features import STRIDE, Features, load_features, open_cache, product_patches
from benchmarks.grouped_rows import grouped_row
from benchmarks.image_rows import image_rows
from benchmarks.machine import describe, disturbance, limit_threads, measure_peaks
from benchmarks.map_rows import map_rows
from benchmarks.nearest_rows import D, input_row, nearest_rows
from benchmarks.results import FP32, OURS, Row, markdown_table
from benchmarks.sizes import measure_sizes
from edgead import kernels
from edgead.profiling.contention import OtherLoad

GROUPS = ("nearest", "input", "grouped", "approximate", "maps", "images", "coreset", "sizes")
CORESET_SIDE, GROUPED_SIDE = 256, 224


def main(arguments: list[str]) -> None:
    """Print a table, and write the numbers and the plots where asked."""
    options = _parser().parse_args(arguments)
    groups = options.rows or [group for group in GROUPS if group != "sizes" or options.plot]
    limit_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = open_cache(options.data, options.cache or Path(temporary))
        features = load_features(options.data, folder)
        result: dict[str, Any] = {
            **describe(),
            "threads": options.threads,
            "started_utc": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
            "data": {"name": options.data.name, "hardness": {d: source.hardness() for d, source in features.items()}},
            "peaks": measure_peaks(options.threads),
        }
        _print_facts(result)
        rows, load = [], OtherLoad()
        for row in _rows(groups, features, options, folder):
            rows.append(_with_load(row, load))
            load = OtherLoad()
        if "sizes" in groups:
            result["sizes"] = measure_sizes(features[D], folder, options.threads, options.rounds)
    result["rows"] = [row.to_json() for row in rows]
    # What disturbed one of the two measurements lowered it.
    again = measure_peaks(options.threads)
    result["peaks"] = {name: max(rate, again[name]) for name, rate in result["peaks"].items()}
    print(f"\n{markdown_table(rows)}\n")
    _print_rates(rows, result["peaks"])
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.plot:
        options.plot.mkdir(parents=True, exist_ok=True)
        plots.write(rows, result, options.plot)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks kernels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="data set in MVTec layout")
    parser.add_argument("--threads", type=int, default=2, help="of every library; default 2")
    parser.add_argument("--rounds", type=int, default=21, help="samples of each contender; default 21")
    parser.add_argument("--rows", type=_groups, help=f"parts to run, of {','.join(GROUPS)}; default all")
    parser.add_argument("--cache", type=Path, help="folder that keeps features and indexes for the next run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers with the machine's facts")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="write the figures")
    parser.add_argument("--coreset-rounds", type=int, default=1, help="how often the coreset is chosen; default 1")
    parser.add_argument("--verify-coreset", action="store_true", help="replay all picks, which takes minutes")
    return parser


def _groups(text: str) -> list[str]:
    chosen = text.split(",")
    unknown = [group for group in chosen if group not in GROUPS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown part {', '.join(unknown)}: use some of {','.join(GROUPS)}")
    return chosen


def _rows(groups: list[str], features: dict[int, Features], options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    if "nearest" in groups:
        yield from nearest_rows(features, options.threads, options.rounds)
    if "input" in groups and (row := input_row(features[D], options.rounds)):
        yield row
    if "grouped" in groups:
        patches = product_patches(options.data, folder, GROUPED_SIDE)
        side = GROUPED_SIDE // STRIDE
        yield grouped_row(patches.reshape(-1, side * side, patches.shape[1]), options.rounds)
    if "approximate" in groups:
        yield from approximate_rows(features, folder, options.rounds)
    if "maps" in groups:
        source = features[D]
        scores = kernels.NearestPatches(source.coreset).search(source.defect)[0]
        side = round(len(scores) ** 0.5)
        yield from map_rows(scores.reshape(side, side), options.rounds)
    if "images" in groups:
        yield from image_rows(options.rounds)
    if "coreset" in groups:
        patches = product_patches(options.data, folder, CORESET_SIDE)
        yield coreset_row(patches, options.coreset_rounds, options.verify_coreset)


def _with_load(row: Row, load: OtherLoad) -> Row:
    """Report about the row, and how far to trust it."""
    use = load.use()
    print(f"  {row.work}: {row.timings[OURS].median_ms:.4g} ms{disturbance(use)}", flush=True)
    return replace(row, notes={**row.notes, "other_use": use and asdict(use)})


def _print_facts(result: dict[str, Any]) -> None:
    machine = result["machine"]
    versions = {name: version for name, version in result["libraries"].items() if isinstance(version, str)}
    print(f"{machine['cpu']}, {machine['isa']}, {result['threads']} threads")
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    for d, hardness in result["data"]["hardness"].items():
        shown = ", ".join(f"{name} {value:.2f}" for name, value in hardness.items())
        print(f"d = {d}: nearest distance / data rms: {shown}")


def _print_rates(rows: list[Row], peaks: dict[str, float]) -> None:
    """Say what share of the fp32 matrix peak a search reaches, counting 2 n m d operations."""
    print(f"matrix peak {peaks['fp32_gflop_s']:.0f} GFLOP/s fp32, {peaks['int8_gop_s']:.0f} GOP/s int8")
    for row in rows:
        rates = row.notes.get("equivalent_gflop_s", {})
        shares = [f"{name} {rates[name] / peaks['fp32_gflop_s']:.2f}" for name in (OURS, FP32) if name in rates]
        if shares:
            print(f"{row.work}: 2 n m d operations / fp32 matrix peak: {', '.join(shares)}")
