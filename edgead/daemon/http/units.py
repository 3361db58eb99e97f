"""What parts are counted by: pipelines, and parts that several of them judge together."""

from __future__ import annotations

from edgead.evidence.production.counts import Unit
from edgead.site.schema import Site


def counted_once(site: Site) -> tuple[Unit, ...]:
    """Name what counts each part once: parts of several views, and the pipelines that are no view of one."""
    views = {view for part in site.parts.values() for view in part.pipelines}
    alone = [Unit(name) for name in site.pipelines if name not in views]
    return (*(Unit(name, is_part=True) for name in site.parts), *alone)


def all_units(site: Site) -> tuple[Unit, ...]:
    """Name all parts and all pipelines."""
    return (*(Unit(name, is_part=True) for name in site.parts), *map(Unit, site.pipelines))
