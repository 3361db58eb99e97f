"""Shifts of production: the section of the site file, and the shift to which an instant belongs.

A shift begins at its time of day, by the local clock, and ends when the next one begins. So every instant belongs to
exactly one shift, also in the hour that summer time removes or adds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, PlainSerializer

from edgead.components.options import Section
from edgead.line.evidence.production.periods import Period

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Day, ...] = get_args(Day)
_EVERY_WEEK = timedelta(days=8)  # a shift that begins once a week begins within it, whatever the hour


def _read_time(value: Any) -> Any:
    """Parse a time of day; YAML reads an unquoted 14:00 as a whole number in base sixty."""
    if isinstance(value, time):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 60 <= value < 24 * 60:
        return time(value // 60, value % 60)
    if isinstance(value, str):
        try:
            return datetime.strptime(value.strip(), "%H:%M").time()
        except ValueError:
            pass
    raise ValueError("a time of day is written as '06:00'")


class ShiftSection(Section):
    """A shift: it lasts until the next one begins, also over midnight."""

    starts: Annotated[
        time,
        BeforeValidator(_read_time, json_schema_input_type=str),
        PlainSerializer(lambda value: value.strftime("%H:%M"), return_type=str),
        Field(description="Time of day by the device's local clock, such as '06:00'."),
    ]
    days: Annotated[
        tuple[Day, ...], Field(min_length=1, max_length=7, description="Days of the week on which the shift begins.")
    ] = _DAYS


Shifts = Mapping[str, ShiftSection]
ONE_A_DAY: Shifts = {"day": ShiftSection(starts=time())}
"""Shifts if the site file names none: one from midnight to midnight."""


def check_shifts(shifts: Shifts) -> None:
    """Raise ValueError if two shifts begin at the same time of a day."""
    taken: dict[tuple[time, str], str] = {}
    for name, shift in shifts.items():
        for day in shift.days:
            other = taken.setdefault((shift.starts, day), name)
            if other != name:
                raise ValueError(f"{other} and {name} both begin on {day} at {shift.starts:%H:%M}")


def shift_at(instant: datetime, shifts: Shifts, zone: tzinfo | None = None) -> Period:
    """Find the shift that an instant belongs to.

    `instant`: instant with a time zone.
    `shifts`: shifts by name; without any, each day is one shift.
    `zone`: zone of the local clock; by default the system's.
    """
    starts = sorted(_starts(shifts or ONE_A_DAY, instant - _EVERY_WEEK, instant + _EVERY_WEEK, zone))
    index = bisect_right([start for start, _ in starts], instant) - 1
    return Period(starts[index][1], starts[index][0], starts[index + 1][0])


def shifts_between(begin: datetime, end: datetime, shifts: Shifts, zone: tzinfo | None = None) -> list[Period]:
    """List the shifts that overlap the time between two instants, in order, each in full."""
    starts = sorted(_starts(shifts or ONE_A_DAY, begin - _EVERY_WEEK, end + _EVERY_WEEK, zone))
    found = [Period(name, start, after) for (start, name), (after, _) in zip(starts, starts[1:], strict=False)]
    return [period for period in found if max(begin, period.begin) < min(end, period.end)]


def days_between(begin: datetime, end: datetime, zone: tzinfo | None = None) -> list[Period]:
    """List the days that overlap the time between two instants, from midnight to midnight, named by date."""
    days = shifts_between(begin, end, ONE_A_DAY, zone)
    return [day._replace(name=day.begin.astimezone(zone).date().isoformat()) for day in days]


def _starts(shifts: Shifts, begin: datetime, end: datetime, zone: tzinfo | None) -> Iterator[tuple[datetime, str]]:
    """Yield the instants at which shifts begin on the days between two instants."""
    day, last = begin.astimezone(zone).date(), end.astimezone(zone).date()
    while day <= last:
        for name, shift in shifts.items():
            if _DAYS[day.weekday()] in shift.days:
                yield _instant(day, shift.starts, zone), name
        day += timedelta(days=1)


def _instant(day: date, at: time, zone: tzinfo | None) -> datetime:
    """Return the first instant when the local clock shows `at`; a time that summer time skips becomes an hour later."""
    local = datetime.combine(day, at, zone)
    return local.astimezone(timezone.utc)
