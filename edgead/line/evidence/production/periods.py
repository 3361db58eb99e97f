"""Periods of time in production, in which parts are counted."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

By = Literal["shift", "day", "order", "batch", "recipe"]
"""Key by which a report counts."""

_HOUR = timedelta(hours=1)


class Period(NamedTuple):
    """Named time from `begin` up to, but without, `end`; both have a time zone."""

    name: str
    begin: datetime
    end: datetime


def hours_of(period: Period) -> list[Period]:
    """Divide a period into hours from its begin on; the last may be shorter. Summer time does not move them."""
    count = max(0, -((period.begin - period.end) // _HOUR))
    begins = [period.begin + index * _HOUR for index in range(count)]
    return [Period(period.name, begin, min(begin + _HOUR, period.end)) for begin in begins]


def within(periods: list[Period], begin: datetime, end: datetime) -> list[Period]:
    """Cut periods to the time between two instants; periods that are empty then are left out."""
    cut = [Period(name, max(one, begin), min(other, end)) for name, one, other in periods]
    return [period for period in cut if period.begin < period.end]
