"""Production report: counts and yield of a time by shift, day, order, batch or recipe, as a table and as a page.

The page is one file without links to others, for a screen and for paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from edgead.html.charts import Axis, Chart
from edgead.html.pages import render_page
from edgead.line.evidence.access import Access
from edgead.line.evidence.database import EvidenceError
from edgead.line.evidence.production.counts import COUNTED, QueryBudget, Tally, Unit, tallies, tallies_by, total
from edgead.line.evidence.production.periods import By, Period

MAX_GROUPS = 2000
"""Most groups of a report: a year of three shifts a day has 1095."""
COLUMNS = {
    "group": "text",
    "begin": "instant",
    "end": "instant",
    "unit": "text",
    **dict.fromkeys(COUNTED, "whole"),
    **dict.fromkeys(("yield", "yield_after_review"), "number"),
}
"""Columns of a report as a table, with the type of each."""
PAGE_COLUMNS = ("", *(name.replace("_", " ") for name in COUNTED), "yield of inspected", "after review")


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """Request for a report.

    `by`: {"shift", "day", "order", "batch", "recipe"}.
    `periods`: shifts, days or orders; for batches and recipes periods of one query each, such as days.
    `units`: units to count.
    """

    by: By
    periods: tuple[Period, ...]
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Group of a report: one shift, day, order, batch or recipe; batches and recipes have no begin and no end."""

    name: str
    begin: datetime | None
    end: datetime | None
    units: dict[str, Tally]


def report(access: Access, asked: ReportQuery, budget: QueryBudget) -> list[Group]:
    """Count a report's groups; groups without a verdict are left out.

    Raises EvidenceError: the database cannot be read, the budget is used up, or there are too many groups.
    """
    if len(asked.periods) > MAX_GROUPS:
        raise EvidenceError(f"these are {len(asked.periods)} groups, at most {MAX_GROUPS} fit: choose a shorter time")
    found = list(
        _by_value(access, asked, budget) if asked.by in ("batch", "recipe") else _by_time(access, asked, budget)
    )
    if len(found) > MAX_GROUPS:
        raise EvidenceError(f"there are {len(found)} groups, at most {MAX_GROUPS} fit: choose a shorter time")
    return [group for group in found if any(tally != Tally() for tally in group.units.values())]


def report_table(groups: list[Group]) -> list[dict[str, Any]]:
    """Return a report as table rows with the columns `COLUMNS`, one row for each unit of a group."""
    return [
        {"group": group.name, "begin": group.begin, "end": group.end, "unit": unit, **tally.figures()}
        for group in groups
        for unit, tally in group.units.items()
    ]


def sum_of(groups: list[Group]) -> Tally:
    return total(tally for group in groups for tally in group.units.values())


def _by_time(access: Access, asked: ReportQuery, budget: QueryBudget) -> list[Group]:
    counted = {unit.name: tallies(access, unit, asked.periods, budget) for unit in asked.units}
    return [
        Group(*period, {name: counts[index] for name, counts in counted.items()})
        for index, period in enumerate(asked.periods)
    ]


def _by_value(access: Access, asked: ReportQuery, budget: QueryBudget) -> list[Group]:
    key: Any = asked.by
    counted = {unit.name: tallies_by(access, unit, key, asked.periods, budget) for unit in asked.units}
    values = sorted({value for found in counted.values() for value in found})
    return [
        Group(value, None, None, {name: found.get(value, Tally()) for name, found in counted.items()})
        for value in values
    ]


@dataclass(frozen=True, slots=True)
class Printed:
    """Content of a report's page: its groups, and the number of rejects of each kind."""

    by: str
    begin: datetime
    end: datetime
    groups: list[Group]
    kinds: Mapping[str, int]


def report_page(shown: Printed) -> str:
    """Render the report's page as HTML."""
    several = any(len(group.units) > 1 for group in shown.groups)
    units = [(f"{title_of(group)}, {unit}", tally) for group in shown.groups for unit, tally in group.units.items()]
    return render_page(
        __package__,
        "production.html",
        title="Production report",
        by=shown.by,
        begin=_instant(shown.begin),
        end=_instant(shown.end),
        columns=PAGE_COLUMNS,
        sum=cells("all", sum_of(shown.groups)),
        curve=_curve(shown) if len(shown.groups) > 1 else "",
        groups=[cells(title_of(group), total(group.units.values())) for group in shown.groups],
        units=[cells(*unit) for unit in units] if several else [],
        kinds=list(_pareto(shown.kinds)),
    )


def title_of(group: Group) -> str:
    """Return the title of a group: its name, and the time of its begin, if known and the name is not that date."""
    if group.begin is None:
        return group.name or "none named"
    day = group.begin.astimezone().date().isoformat()
    return group.name if group.name == day else f"{group.name or 'no name'}, {_instant(group.begin)}"


def share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def cells(title: str, tally: Tally) -> tuple[str, ...]:
    """Format a title and a tally as texts in the order of `PAGE_COLUMNS`."""
    counts = (str(getattr(tally, name)) for name in COUNTED)
    return (title, *counts, share(tally.first_yield), share(tally.reviewed_yield))


def _curve(shown: Printed) -> Markup:
    yields = [100 * (total(group.units.values()).first_yield or 0) for group in shown.groups]
    low = min(yields)
    chart = Chart(
        Axis(0, len(yields), shown.by), Axis(max(0.0, low - (100 - low) / 4 - 1), 100, "yield in %"), "Yield in order"
    )
    chart.line([0.5 + index for index in range(len(yields))], yields, "good")
    chart.dots([0.5 + index for index in range(len(yields))], yields, "good")
    return chart.svg()


def _pareto(kinds: Mapping[str, int]) -> Iterable[tuple[str, ...]]:
    whole, sum_ = sum(kinds.values()), 0
    for name, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0])):
        sum_ += count
        yield name, str(count), share(count / whole), share(sum_ / whole)


def _instant(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M}"
