"""Counts of this shift and this order for Prometheus, read from the evidence store, so that a restart loses none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from prometheus_client.core import GaugeMetricFamily, Metric

from edgead.errors import EdgeadError
from edgead.evidence.production.periods import Period
from edgead.site.shifts import shift_at
from edgead.web.counted_units import all_units, running

if TYPE_CHECKING:
    from edgead.web.contract import Served

_DECISIONS = ("ok", "review", "reject", "fault", "false_rejects")
_YIELDS = {"first": "yield", "after_review": "yield_after_review"}


def shift_metrics(daemon: Served) -> Iterator[Metric]:
    """Collect the figures of the shift and of the order; none while the database cannot be read."""
    now = datetime.now(timezone.utc)
    shift = shift_at(now, daemon.site.shifts)
    started = GaugeMetricFamily(
        "edgead_shift_started_seconds", "When this shift began, in Unix time.", labels=("shift",)
    )
    started.add_metric((shift.name,), shift.begin.timestamp())
    yield started
    yield from _of("shift", daemon, shift)
    yield from _of("order", daemon, _order(daemon, now))


def _order(daemon: Served, now: datetime) -> Period | None:
    if not daemon.site.pipelines:
        return None
    try:
        found = daemon.store.production.orders.newest(limit=1)
    except EdgeadError:
        return None  # the store reports it itself
    return running(found[0], now) if found else None


def _of(what: str, daemon: Served, period: Period | None) -> Iterator[Metric]:
    counts = GaugeMetricFamily(
        f"edgead_{what}_parts",
        f"Parts of this {what}; false_rejects are those of review and reject that a person found good.",
        labels=("unit", "decision"),
    )
    yields = GaugeMetricFamily(
        f"edgead_{what}_yield",
        f"The share of good parts of this {what}: as decided first, and after_review with the false rejects.",
        labels=("unit", "kind"),
    )
    for unit, figures in _figures(daemon, period):
        for name in _DECISIONS:
            counts.add_metric((unit, name), figures[name])
        for kind, name in _YIELDS.items():
            if figures[name] is not None:
                yields.add_metric((unit, kind), figures[name])
    yield counts
    yield yields


def _figures(daemon: Served, period: Period | None) -> Iterator[tuple[str, dict[str, Any]]]:
    if period is None:
        return
    for unit in all_units(daemon.site):
        try:
            yield unit.name, daemon.store.production.count(unit, period).figures()
        except EdgeadError:
            return  # the store reports it itself
