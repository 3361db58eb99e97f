"""A latency report as one page: the distribution, the course over time, the percentiles; no other file is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from edgead.profile import ProfileReport

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 860, 240, 52, 34
_COLUMNS = ("mean_ms", "min_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99_9_ms", "max_ms")
_STYLE = """
:root { color-scheme: light dark; --ink: #16202c; --soft: #5b6875; --line: #d3d9df; --fill: #17586b; --bad: #b3261e;
  --paper: #fff; --ground: #eef1f4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8edf2; --soft: #9aa7b4; --line: #33404d; --fill: #57b3cc;
  --bad: #ff8a80; --paper: #17202a; --ground: #0e151c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 0; padding: 1.5rem; }
main { max-width: 920px; margin: auto; }
h1 { font-size: 1.4rem; margin: 0 0 .2rem; } h2 { font-size: 1.05rem; margin: 0 0 .6rem; }
p { color: var(--soft); margin: 0 0 1rem; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 1rem; margin: 1rem 0;
  overflow-x: auto; break-inside: avoid; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 11px; fill: var(--soft); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td, th { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
td:first-child, th:first-child { text-align: left; } .facts td { text-align: left; }
"""


def profile_page(report: ProfileReport, title: str) -> str:
    """Write the page of a report.

    Parameters
    ----------
    report : ProfileReport
    title : str
        Of the page, such as the model's path.

    Returns
    -------
    str
        HTML that loads nothing.
    """
    totals = np.array([sample.total_ms for sample in report.samples])
    times_s = np.array([sample.arrived_s for sample in report.samples])
    deadline_ms = report.arrivals.deadline_ms if report.arrivals else None
    what = "from the arrival to the verdict" if report.arrivals else "of a call"
    sections = [
        f"<section><h2>Distribution: milliseconds {what}</h2>{_histogram(totals, deadline_ms)}</section>",
        f"<section><h2>Course: milliseconds over seconds</h2>{_course(times_s, totals, deadline_ms)}</section>",
        f"<section><h2>Stages, in milliseconds</h2>{_stages(report)}</section>",
        f"<section><h2>Machine</h2>{_facts(report)}</section>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Latency of {escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>Latency of {escape(title)}</h1><p>{escape(report.summary())}</p>"
        f"{''.join(sections)}</main></body></html>\n"
    )


def _histogram(totals: np.ndarray, deadline_ms: float | None) -> str:
    """Bars of equal width over all samples; their heights are logarithms, so that one outlier in thousands shows."""
    edges = np.histogram_bin_edges(totals, bins=80)
    counts, _ = np.histogram(totals, edges)
    x, y = _scale(edges[0], edges[-1], _LEFT, _WIDTH - 10), _scale(0, np.log10(counts.max() + 1), _HEIGHT - _BOTTOM, 10)
    bars = [
        f'<rect x="{x(low):.1f}" y="{y(np.log10(count + 1)):.1f}" width="{max(1, x(high) - x(low) - 0.5):.1f}" '
        f'height="{y(0) - y(np.log10(count + 1)):.1f}" fill="var(--fill)"><title>{low:.2f} to {high:.2f} ms: {count}'
        "</title></rect>"
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
        if count
    ]
    ticks = [10**power for power in range(int(np.log10(counts.max())) + 1)]
    rows = [_row(y(np.log10(tick + 1)), f"{tick}") for tick in ticks]
    marks = [_mark(x, value, name) for name, value in _marks(totals, deadline_ms) if edges[0] <= value <= edges[-1]]
    return _chart([*rows, *bars, *marks, *_columns(x, edges[0], edges[-1], "ms")])


def _course(times_s: np.ndarray, totals: np.ndarray, deadline_ms: float | None) -> str:
    top = max(float(totals.max()), deadline_ms or 0) * 1.05
    end_s = max(float(times_s[-1]), 1e-9)
    x, y = _scale(0, end_s, _LEFT, _WIDTH - 10), _scale(0, top, _HEIGHT - _BOTTOM, 10)
    # Of many samples the highest in each column of pixels is drawn, so that none of the late ones is left out.
    column = np.minimum((times_s / end_s * 800).astype(int), 799)
    highest = [max(np.flatnonzero(column == c), key=lambda i: totals[i]) for c in np.unique(column)]
    shown = np.arange(len(totals)) if len(totals) <= 2000 else np.array(highest)
    dots = "".join(f"M{x(times_s[i]):.1f} {y(totals[i]):.1f}h0" for i in shown)
    path = f'<path d="{dots}" stroke="var(--fill)" stroke-width="3" stroke-linecap="round" opacity=".7"/>'
    rows = [_row(y(value), f"{value:g}") for value in _round_steps(0, top)]
    limit = [_limit(y(deadline_ms))] if deadline_ms else []
    return _chart([*rows, path, *limit, *_columns(x, 0, end_s, "s")])


def _marks(totals: np.ndarray, deadline_ms: float | None) -> list[tuple[str, float]]:
    percentiles = [(f"p{p:g}", float(np.percentile(totals, p, method="higher"))) for p in (50, 99)]
    return percentiles + ([("deadline", deadline_ms)] if deadline_ms else [])


def _stages(report: ProfileReport) -> str:
    head = "".join(f"<th>{name.removesuffix('_ms').replace('_', '.')}</th>" for name in _COLUMNS)
    rows = []
    for stage, latency in report.latency.items():
        values = [getattr(latency, name) for name in _COLUMNS]
        cells = "".join(f"<td>{'n too small' if value is None else f'{value:.2f}'}</td>" for value in values)
        rows.append(f"<tr><td>{stage}</td>{cells}</tr>")
    return f"<table><tr><th>stage</th>{head}</tr>{''.join(rows)}</table>"


def _facts(report: ProfileReport) -> str:
    machine = {**report.machine, **report.machine["state"], "throttle_events": report.throttle_events}
    facts = {name: value for name, value in machine.items() if name != "state" and value is not None}
    rows = [
        f"<tr><td>{escape(name.replace('_', ' '))}</td><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
    ]
    return f'<table class="facts">{"".join(rows)}</table>'


def _scale(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    """The linear function that takes one range to another."""
    factor = (end - begin) / ((high - low) or 1.0)
    return lambda value: begin + (value - low) * factor


def _round_steps(low: float, high: float) -> list[float]:
    """Round numbers within a range, five or so."""
    step = 10 ** np.floor(np.log10((high - low) / 4 or 1.0))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    return [float(f"{value:.6g}") for value in np.arange(np.ceil(low / step) * step, high, step)]


def _columns(x: Callable[[float], float], low: float, high: float, unit: str) -> list[str]:
    return [
        f'<text x="{x(value):.1f}" y="{_HEIGHT - 12}" text-anchor="middle">{value:g} {unit}</text>'
        for value in _round_steps(low, high)
    ]


def _row(y: float, label: str) -> str:
    line = f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>'
    return f'{line}<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'


def _limit(y: float) -> str:
    line = f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--bad)"/>'
    return f'{line}<text x="{_LEFT + 6}" y="{y - 4:.1f}">deadline</text>'


def _mark(x: Callable[[float], float], value: float, name: str) -> str:
    colour = "var(--bad)" if name == "deadline" else "var(--ink)"
    line = f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="10" y2="{_HEIGHT - _BOTTOM}" stroke="{colour}"/>'
    # Over its line where there is room to its right, else to its left.
    place = f'x="{x(value) + 4:.1f}"' if x(value) < _WIDTH - 60 else f'x="{x(value) - 4:.1f}" text-anchor="end"'
    return f'{line}<text {place} y="20">{name}</text>'


def _chart(parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg>'
