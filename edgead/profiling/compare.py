"""Comparison of two latency reports that were taken under equal conditions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.errors import SettingsError

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = ("mean_ms", "p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms")


def compare(one: Path, other: Path) -> dict[str, Any]:
    """Divide the latencies of one report by those of another, stage by stage.

    Returns `reports`, the two files, and `ratios`: stage -> column -> second over first, None if one is unknown.
    Raises SettingsError: a file is no report, or the reports differ in machine, settings or pace; says in what.
    """
    first, second = _read(one), _read(other)
    differing = _differences(_conditions(first), _conditions(second))
    if differing:
        raise SettingsError(f"{one} and {other} cannot be compared: {'; '.join(differing)}")
    stages = [stage for stage in first["latency"] if stage in second["latency"]]
    ratios = {stage: _ratios(first["latency"][stage], second["latency"][stage]) for stage in stages}
    return {"reports": [str(one), str(other)], "ratios": ratios}


def comparison_table(comparison: dict[str, Any]) -> Table:
    """Format a comparison as a table for the terminal."""
    from rich.table import Table

    one, other = comparison["reports"]
    table = Table(title=f"{other} over {one}", title_justify="left")
    table.add_column("ratio")
    for column in _COLUMNS:
        table.add_column(column.removesuffix("_ms").replace("_", "."), justify="right")
    for stage, ratios in comparison["ratios"].items():
        table.add_row(stage, *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios.values()))
    return table


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if not report["latency"]["total"] or not report["machine"]["cpu"]:
            raise KeyError("latency")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{path}: is no report of `edgead profile --json` ({type(error).__name__})") from error
    return report


def _conditions(report: dict[str, Any]) -> dict[str, Any]:
    """Conditions that must be equal: the machine, without its momentary state, and the pace."""
    arrivals = report.get("arrivals") or {}
    pace = {name: arrivals.get(name) for name in ("rate_hz", "jitter_ms")}
    return {**{name: fact for name, fact in report["machine"].items() if name != "state"}, **pace}


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return [f"{name} is {one.get(name)} and {other.get(name)}" for name in names]


def _ratios(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float | None]:
    return {name: other[name] / one[name] if one[name] and other[name] is not None else None for name in _COLUMNS}
