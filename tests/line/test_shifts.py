"""To which shift an instant belongs, also on the days when the clock is changed; and what the site file may say."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_docs import MINIMAL

from edgead.errors import SettingsError
from edgead.line.evidence.production.periods import Period, hours_of, within
from edgead.line.site.load import load_site, resolved
from edgead.line.site.shifts import ShiftSection, days_between, shift_at, shifts_between

BERLIN = ZoneInfo("Europe/Berlin")
# Summer time begins on 29 March and ends on 25 October 2026, each on a Sunday at 01:00 UTC.
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)
THREE = {name: ShiftSection(starts=at) for name, at in (("early", "06:00"), ("late", "14:00"), ("night", "22:00"))}
ZONES = [BERLIN, ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Asia/Kolkata"), timezone.utc]


def utc(*at: int) -> datetime:
    return datetime(*at, tzinfo=timezone.utc)


def local(*at: int) -> datetime:
    return datetime(*at, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("at", "name"),
    [
        ((6, 0), "early"),
        ((13, 59), "early"),
        ((14, 0), "late"),
        ((22, 0), "night"),
        ((0, 0), "night"),
        ((5, 59), "night"),
    ],
)
def test_a_shift_begins_at_its_time_and_ends_with_the_next_one_also_over_midnight(at, name):
    shift = shift_at(local(2026, 11, 18, *at), THREE, BERLIN)
    assert shift.name == name and shift.end - shift.begin == timedelta(hours=8)


def test_the_night_is_an_hour_shorter_in_spring_and_longer_in_autumn():
    spring = shift_at(utc(2026, 3, 29, 0, 30), THREE, BERLIN)
    assert spring == Period("night", utc(2026, 3, 28, 21), utc(2026, 3, 29, 4))
    autumn = shift_at(utc(2026, 10, 25, 0, 30), THREE, BERLIN)
    assert autumn == Period("night", utc(2026, 10, 24, 20), utc(2026, 10, 25, 5))
    assert [len(hours_of(night)) for night in (spring, autumn)] == [7, 9]


def test_a_shift_that_begins_in_the_hour_that_comes_twice_begins_once():
    at_half_past_two = {"a": ShiftSection(starts="02:30"), "b": ShiftSection(starts="14:00")}
    first = utc(2026, 10, 25, 0, 30)
    assert shift_at(first, at_half_past_two, BERLIN).begin == first
    assert shift_at(first + timedelta(hours=1), at_half_past_two, BERLIN).begin == first


def test_a_shift_that_begins_in_the_hour_that_is_left_out_begins_after_it():
    at_half_past_two = {"a": ShiftSection(starts="02:30"), "b": ShiftSection(starts="14:00")}
    assert shift_at(utc(2026, 3, 29, 1, 29), at_half_past_two, BERLIN).name == "b"
    assert shift_at(utc(2026, 3, 29, 1, 30), at_half_past_two, BERLIN).begin == utc(2026, 3, 29, 1, 30)


def test_days_have_23_and_25_hours_when_the_clock_is_changed():
    for day, hours in ((SPRING, 23), (AUTUMN, 25)):
        (found,) = days_between(
            local(day.year, day.month, day.day, 12), local(day.year, day.month, day.day, 13), BERLIN
        )
        assert found.name == day.isoformat() and found.end - found.begin == timedelta(hours=hours)


def test_a_shift_on_some_days_leaves_the_others_to_the_one_before():
    weekdays = {"early": ShiftSection(starts="06:00", days=["mon", "tue", "wed", "thu", "fri"])}
    assert shift_at(local(2026, 11, 22, 12), weekdays, BERLIN).begin == local(2026, 11, 20, 6)  # a Sunday
    once = {"weekly": ShiftSection(starts="23:59", days=["wed"])}
    shift = shift_at(local(2026, 11, 18, 23, 58), once, BERLIN)
    assert shift.end - shift.begin == timedelta(weeks=1)


STARTS = st.lists(st.integers(0, 24 * 60 - 1), min_size=1, max_size=5, unique=True)
INSTANTS = st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31), timezones=st.just(timezone.utc))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(starts=STARTS, begin=INSTANTS, hours=st.integers(1, 60), zone=st.sampled_from(ZONES))
def test_every_instant_belongs_to_one_shift_and_shifts_follow_without_a_gap(starts, begin, hours, zone):
    shifts = {f"s{at}": ShiftSection(starts=f"{at // 60:02}:{at % 60:02}") for at in starts}
    end = begin + timedelta(hours=hours)
    found = shifts_between(begin, end, shifts, zone)
    assert found[0].begin <= begin < found[0].end and found[-1].begin < end <= found[-1].end
    assert all(one.end == after.begin for one, after in pairwise(found))
    for shift in found:
        middle = shift.begin + (shift.end - shift.begin) / 2
        assert shift_at(shift.begin, shifts, zone) == shift_at(middle, shifts, zone) == shift
    cut = within(found, begin, end)
    assert sum((one.end - one.begin for one in cut), timedelta()) == end - begin
    for one in cut:
        divided = hours_of(one)
        assert (divided[0].begin, divided[-1].end) == (one.begin, one.end)
        assert all(hour.end - hour.begin <= timedelta(hours=1) for hour in divided)


def site_with(tmp_path, text):
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(MINIMAL) + text)
    return load_site(tmp_path / "site.yaml")


def test_a_site_names_its_shifts_with_or_without_quotes(tmp_path):
    text = "shifts:\n  early: {starts: 6:00, days: [mon, fri]}\n  late: {starts: '14:30'}\n  night: {starts: 22:00}\n"
    site = site_with(tmp_path, text)
    assert [f"{shift.starts:%H:%M}" for shift in site.shifts.values()] == ["06:00", "14:30", "22:00"]
    (tmp_path / "again.yaml").write_text(resolved(site))
    assert load_site(tmp_path / "again.yaml").shifts == site.shifts


REFUSED = {
    "shifts: {a: {starts: 6}}": "line .*: shifts.a.starts: a time of day is written as '06:00'",
    "shifts: {a: {starts: 25:00}}": "a time of day is written as '06:00'",
    "shifts: {a: {starts: '06:00', days: []}}": "shifts.a.days",
    "shifts: {a: {starts: '06:00', days: [montag]}}": "shifts.a.days",
    "shifts: {a: {starts: '06:00'}, b: {starts: '06:00', days: [sun]}}": "a and b both begin on sun at 06:00",
    "shifts: {a: {start: '06:00'}}": "did you mean",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_shift_is_refused_with_its_place(tmp_path, text):
    with pytest.raises(SettingsError, match=REFUSED[text]):
        site_with(tmp_path, text)
