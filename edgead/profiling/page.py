"""HTML page of a latency report in a single file: distribution, course over time and percentiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from edgead.html.charts import Axis, Chart
from edgead.html.pages import render_page
from edgead.profiling.profiler import ProfileReport

_SIZE = {"width": 960, "height": 300}
_COLUMNS = ("mean_ms", "min_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99_9_ms", "max_ms")
_MAX_DOTS = 800


def profile_page(report: ProfileReport, title: str) -> str:
    """Render a latency report as an HTML page.

    Parameters
    ----------
    report : ProfileReport
    title : str
        Title of the page, such as the model's path.

    Returns
    -------
    str
        HTML that loads no other file.
    """
    totals = np.array([sample.total_ms for sample in report.samples])
    times_s = np.array([sample.arrived_s for sample in report.samples])
    deadline_ms = report.arrivals.deadline_ms if report.arrivals else None
    what = "from the arrival to the verdict" if report.arrivals else "of a call"
    return render_page(
        __package__,
        "latency.html",
        title=f"Latency of {title}",
        summary=report.summary(),
        what=what,
        distribution=latency_histogram(totals, deadline_ms),
        course=_course(times_s, totals, deadline_ms),
        stages=_stages(report),
        machine=_facts(report),
    )


def latency_histogram(totals: np.ndarray, deadline_ms: float | None = None, *, size: dict[str, int] = _SIZE) -> Markup:
    """Draw a histogram of all samples with logarithmic heights, so that one outlier in thousands is visible."""
    edges = np.histogram_bin_edges(totals, bins=size["width"] // 12)
    counts, _ = np.histogram(totals, edges)
    x = Axis(float(edges[0]), float(edges[-1]), "milliseconds a frame")
    y = Axis(0.7, 1.5 * counts.max(), "frames", logarithmic=True)
    chart = Chart(x, y, f"Latency of {totals.size} frames", **size)
    chart.bars(edges, counts, "good")
    for row, (name, value) in enumerate(_marks(totals, deadline_ms)):
        if edges[0] <= value <= edges[-1]:
            chart.mark(value, "warn" if name == "deadline" else "soft", name, row=row)
    return chart.svg()


def _course(times_s: np.ndarray, totals: np.ndarray, deadline_ms: float | None) -> Markup:
    top = max(float(totals.max()), deadline_ms or 0) * 1.05
    end_s = max(float(times_s[-1]), 1e-9)
    chart = Chart(Axis(0, end_s, "seconds"), Axis(0, top, "milliseconds"), "Latency of every frame", **_SIZE)
    # For many samples the highest in each column of pixels is drawn, so that every late one is visible.
    column = np.minimum((times_s / end_s * _MAX_DOTS).astype(int), _MAX_DOTS - 1)
    highest = [max(np.flatnonzero(column == c), key=lambda i: totals[i]) for c in np.unique(column)]
    shown = np.arange(len(totals)) if len(totals) <= 2000 else np.array(highest)
    chart.dots(times_s[shown], totals[shown], "good")
    if deadline_ms:
        chart.limit(deadline_ms, "warn", "deadline")
    return chart.svg()


def _marks(totals: np.ndarray, deadline_ms: float | None) -> list[tuple[str, float]]:
    percentiles = [(f"p{p:g}", float(np.percentile(totals, p, method="higher"))) for p in (50, 99)]
    return percentiles + ([("deadline", deadline_ms)] if deadline_ms else [])


def _stages(report: ProfileReport) -> dict[str, Any]:
    rows = []
    for stage, latency in report.latency.items():
        values = [getattr(latency, name) for name in _COLUMNS]
        rows.append((stage, *("n too small" if value is None else f"{value:.2f}" for value in values)))
    return {"head": ("stage", *(name.removesuffix("_ms").replace("_", ".") for name in _COLUMNS)), "rows": rows}


def _facts(report: ProfileReport) -> list[tuple[str, Any]]:
    machine = {**report.machine, **report.machine["state"], "throttle_events": report.throttle_events}
    if (use := report.other_use) is not None:
        machine |= {"other_processes": f"{use.processes:.2f} cores", "hypervisor": f"{use.hypervisor:.2f} cores"}
    return [(name.replace("_", " "), value) for name, value in machine.items() if name != "state" and value is not None]
