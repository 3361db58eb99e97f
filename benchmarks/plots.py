"""The figures of the kernel benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.ticker import FuncFormatter  # noqa: E402

from benchmarks.results import FP32, OURS, Row  # noqa: E402

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "legend.frameon": False,
    "svg.hashsalt": "edgead",  # the same numbers give the same file
}
# Okabe and Ito's colours, which differ for the colour-blind too; a shape of its own for each.
MARKS = {
    "faiss": ("#0072B2", "o"),
    "faiss BLAS": ("#56B4E9", "o"),
    "torch": ("#D55E00", "s"),
    "ONNX Runtime": ("#009E73", "^"),
    "numpy": ("#CC79A7", "D"),
    FP32: ("#999999", "x"),
    "HNSW": ("#E69F00", "v"),
    "IVF": ("#B8860B", "P"),
    "cv2": ("#0072B2", "*"),
    "scipy": ("#444444", "<"),
    "plain greedy": ("#444444", "p"),
}
LINES = {OURS: ("#000000", "o"), FP32: ("#999999", "x"), "faiss": ("#0072B2", "s"), "HNSW": ("#E69F00", "v")}


def write(rows: Sequence[Row], result: dict[str, Any], folder: Path) -> None:
    """Write kernels_speedup and kernels_sizes, as SVG, for what was measured."""
    where = f"{result['machine']['cpu']}, {result['threads']} threads"
    with plt.rc_context(STYLE):
        if rows:
            save(draw_speedups(rows, where), folder / "kernels_speedup.svg")
        if "sizes" in result:
            save(draw_sizes(result["sizes"], where), folder / "kernels_sizes.svg")


def draw_speedups(rows: Sequence[Row], where: str) -> plt.Figure:
    """One line a row: how many times longer each contender takes than edgead, and what was wanted."""
    figure, axes = plt.subplots(figsize=(9, 1.3 + 0.3 * len(rows)), layout="constrained")
    shown: dict[str, Any] = {}
    for place, row in enumerate(rows):
        for name, ratio in row.ratios().items():
            key = _short(name)
            colour, marker = MARKS[key]
            shown[key] = axes.scatter(ratio, place, s=34, color=colour, marker=marker, zorder=3, linewidths=1.2)
        for target in row.targets:
            if target.against is not None:
                colour = MARKS[target.against][0]
                shown["wanted at least"] = axes.scatter(target.least, place, s=150, color=colour, marker="|", zorder=2)
    axes.axvline(1, color="#888888", linewidth=1)
    axes.set_yticks(range(len(rows)), [row.work for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", color="#eeeeee")
    _log_axis(axes, "x")
    axes.set_xlabel("times the time of edgead (right of 1: edgead is faster)")
    axes.set_title(where)
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=6)
    return figure


def draw_sizes(sizes: dict[str, Any], where: str) -> plt.Figure:
    """Milliseconds against bank rows, both logarithmic."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, values in sizes["median_ms"].items():
        colour, marker = LINES[_short(name)]
        axes.plot(sizes["rows"], values, color=colour, marker=marker, markersize=5, label=name)
    axes.set_xscale("log")
    axes.set_xticks(sizes["rows"], [f"{rows:,}" for rows in sizes["rows"]])
    axes.minorticks_off()
    _log_axis(axes, "y")
    axes.grid(color="#eeeeee")
    axes.set_xlabel("rows of the memory bank (random patches)")
    axes.set_ylabel(f"ms for {sizes['queries']} x {sizes['d']} queries, k = 1")
    axes.set_title(where)
    axes.legend()
    return figure


def _log_axis(axes: Axes, side: str) -> None:
    axis = axes.xaxis if side == "x" else axes.yaxis
    (axes.set_xscale if side == "x" else axes.set_yscale)("log")
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _short(name: str) -> str:
    """Strip settings: "HNSW ef=64 (recall 0.993)" and "faiss HNSW, recall 0.99" are both HNSW."""
    for kind in ("HNSW", "IVF", "plain greedy", "scipy"):
        if kind in name:
            return kind
    return name


def save(figure: plt.Figure, file: Path) -> None:
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
