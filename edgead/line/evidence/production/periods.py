"""Periods of production that parts are counted by: stretches of time, and what they are of."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

By = Literal["shift", "day", "order", "batch", "recipe"]
"""What a report counts by."""

_HOUR = timedelta(hours=1)


class Period(NamedTuple):
    """From an instant on up to another one that is no more in it; both have a time zone."""

    name: str
    begin: datetime
    end: datetime


def hours_of(period: Period) -> list[Period]:
    """Divide a period into hours from its begin on; the last one may be shorter. A clock that changes moves none."""
    count = max(0, -((period.begin - period.end) // _HOUR))
    begins = [period.begin + index * _HOUR for index in range(count)]
    return [Period(period.name, begin, min(begin + _HOUR, period.end)) for begin in begins]


def within(periods: list[Period], begin: datetime, end: datetime) -> list[Period]:
    """Cut periods to what lies between two instants."""
    cut = [Period(name, max(one, begin), min(other, end)) for name, one, other in periods]
    return [period for period in cut if period.begin < period.end]
