"""A production report as one page that stands alone, for a screen and for paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from edgead.evidence.production.report import Group, sum_of
from edgead.evidence.production.tally import Tally, total
from edgead.html.charts import Axis, Chart
from edgead.html.pages import figure, page, table

COLUMNS = ("", "inspected", "ok", "review", "reject", "fault", "false rejects", "yield", "after review")


@dataclass(frozen=True, slots=True)
class Printed:
    """What a page shows: the groups of a report, and how often each kind was rejected."""

    by: str
    begin: datetime
    end: datetime
    groups: list[Group]
    kinds: Mapping[str, int]


def report_page(shown: Printed) -> str:
    """Write the page."""
    header = f"<p>{_instant(shown.begin)} to {_instant(shown.end)}, local time, by {shown.by}</p>"
    sections = [("Sum", table(COLUMNS, [cells("all", sum_of(shown.groups))]))]
    if len(shown.groups) > 1:
        sections.append(("Yield", figure(_curve(shown), f"The share of good parts of each {shown.by}, in order.")))
    rows = [cells(title_of(group), total(group.units.values())) for group in shown.groups]
    sections.append((f"By {shown.by}", table(COLUMNS, rows)))
    if any(len(group.units) > 1 for group in shown.groups):
        each = [
            cells(f"{title_of(group)}, {unit}", tally) for group in shown.groups for unit, tally in group.units.items()
        ]
        sections.append(("Of each pipeline and part", table(COLUMNS, each)))
    if shown.kinds:
        sections.append(("Kinds of rejects", table(("kind", "count", "share", "sum"), _pareto(shown.kinds))))
    return page("Production report", header, sections)


def title_of(group: Group) -> str:
    """Name a group, with its begin where it has one and the name does not say it."""
    if group.begin is None:
        return group.name or "none named"
    day = group.begin.astimezone().date().isoformat()
    return group.name if group.name == day else f"{group.name or 'no name'}, {_instant(group.begin)}"


def share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def cells(title: str, tally: Tally) -> tuple[str, ...]:
    """Write a tally as texts under the names of `COLUMNS`."""
    counts = (tally.inspected, tally.ok, tally.review, tally.reject, tally.fault, tally.false_rejects)
    return (title, *map(str, counts), share(tally.first_yield), share(tally.reviewed_yield))


def _curve(shown: Printed) -> str:
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
