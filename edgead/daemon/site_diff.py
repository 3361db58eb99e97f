"""Differences between two versions of a site file, and what has to be started again for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgead.site.schema import Site


@dataclass(frozen=True, slots=True)
class Difference:
    """Names of the parts that are gone, new, or must be made again because their section has changed."""

    gone: frozenset[str]
    new: frozenset[str]
    changed: frozenset[str]

    @property
    def stopped(self) -> frozenset[str]:
        return self.gone | self.changed

    @property
    def started(self) -> frozenset[str]:
        return self.new | self.changed

    def __bool__(self) -> bool:
        return bool(self.gone or self.new or self.changed)


@dataclass(frozen=True, slots=True)
class SiteDiff:
    """What a reload has to do; a pipeline whose model, sinks, alarms or `follow` differ goes on, and is not in it."""

    cameras: Difference
    pipelines: Difference
    sinks: Difference
    http: bool
    store: bool


def site_diff(old: Site, new: Site) -> SiteDiff:
    """Compare two sites, section by section."""
    cameras = _difference(old.cameras, new.cameras)
    kept = {"model", "sinks", "alarms", "follow"}
    pipelines = _difference(
        {name: section.model_dump(exclude=kept) for name, section in old.pipelines.items()},
        {name: section.model_dump(exclude=kept) for name, section in new.pipelines.items()},
    )
    # A pipeline takes its frames from a camera that is made again.
    moved = {name for name, section in new.pipelines.items() if section.camera in cameras.started} - pipelines.new
    pipelines = Difference(pipelines.gone, pipelines.new, pipelines.changed | moved)
    return SiteDiff(cameras, pipelines, _difference(old.sinks, new.sinks), old.http != new.http, old.store != new.store)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    both = old.keys() & new.keys()
    changed = frozenset(name for name in both if old[name] != new[name])
    return Difference(frozenset(old.keys() - new.keys()), frozenset(new.keys() - old.keys()), changed)
