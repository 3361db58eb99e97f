"""A production report: counts and yield of a time in groups, by shift, day, order, batch or recipe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edgead.evidence.access import Access
from edgead.evidence.database import EvidenceError
from edgead.evidence.production.counts import Unit, tallies, tallies_by
from edgead.evidence.production.periods import By, Period
from edgead.evidence.production.query_budget import QueryBudget
from edgead.evidence.production.tally import Tally, total

MAX_GROUPS = 2000
"""Of a report: a year of three shifts a day has 1095."""
COLUMNS = {
    "group": "text",
    "begin": "instant",
    "end": "instant",
    "unit": "text",
    **dict.fromkeys(("inspected", "ok", "review", "reject", "fault", "false_rejects"), "whole"),
    **dict.fromkeys(("yield", "yield_after_review"), "number"),
}
"""The columns of a report as a table, with what each holds."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes
    ----------
    by : {"shift", "day", "order", "batch", "recipe"}
    periods : tuple of Period
        Shifts, days or orders; for batches and recipes what divides the work, such as days.
    units : tuple of Unit
        What counts.
    """

    by: By
    periods: tuple[Period, ...]
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """One shift, day, order, batch or recipe; batches and recipes have no begin and no end."""

    name: str
    begin: datetime | None
    end: datetime | None
    units: dict[str, Tally]


def report(access: Access, asked: Question, budget: QueryBudget) -> list[Group]:
    """Count what is asked; groups in which nothing was judged are left out.

    Raises
    ------
    EvidenceError
        The database cannot be read, the turn is over, or there are too many groups.
    """
    if len(asked.periods) > MAX_GROUPS:
        raise EvidenceError(f"these are {len(asked.periods)} groups, at most {MAX_GROUPS} fit: choose a shorter time")
    found = list(
        _by_value(access, asked, budget) if asked.by in ("batch", "recipe") else _by_time(access, asked, budget)
    )
    if len(found) > MAX_GROUPS:
        raise EvidenceError(f"there are {len(found)} groups, at most {MAX_GROUPS} fit: choose a shorter time")
    return [group for group in found if any(tally != Tally() for tally in group.units.values())]


def table(groups: list[Group]) -> list[dict[str, Any]]:
    """Lay a report out as rows, one for each unit of a group; `COLUMNS` are theirs."""
    return [
        {"group": group.name, "begin": group.begin, "end": group.end, "unit": unit, **tally.figures()}
        for group in groups
        for unit, tally in group.units.items()
    ]


def sum_of(groups: list[Group]) -> Tally:
    return total(tally for group in groups for tally in group.units.values())


def _by_time(access: Access, asked: Question, budget: QueryBudget) -> list[Group]:
    counted = {unit.name: tallies(access, unit, asked.periods, budget) for unit in asked.units}
    return [
        Group(*period, {name: counts[index] for name, counts in counted.items()})
        for index, period in enumerate(asked.periods)
    ]


def _by_value(access: Access, asked: Question, budget: QueryBudget) -> list[Group]:
    key: Any = asked.by
    counted = {unit.name: tallies_by(access, unit, key, asked.periods, budget) for unit in asked.units}
    values = sorted({value for found in counted.values() for value in found})
    return [
        Group(value, None, None, {name: found.get(value, Tally()) for name, found in counted.items()})
        for value in values
    ]
