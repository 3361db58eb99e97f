"""Units that parts are counted by: pipelines, and parts that several pipelines judge together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from edgead.evidence.production.counts import Unit
from edgead.evidence.production.periods import Period
from edgead.site.schema import Site


def counted_once(site: Site) -> tuple[Unit, ...]:
    """Name what counts each part once: parts of several views, and the pipelines that are no view of one."""
    views = {view for part in site.parts.values() for view in part.pipelines}
    alone = [Unit(name) for name in site.pipelines if name not in views]
    return (*(Unit(name, is_part=True) for name in site.parts), *alone)


def all_units(site: Site) -> tuple[Unit, ...]:
    """Name all parts and all pipelines."""
    return (*(Unit(name, is_part=True) for name in site.parts), *map(Unit, site.pipelines))


def running(order: Mapping[str, Any], now: datetime) -> Period:
    """Give the time of the order that is made now: its last hour in full, which is counted once for all who ask."""
    return Period(order["name"], datetime.fromisoformat(order["started_at"]), now + timedelta(hours=1))
