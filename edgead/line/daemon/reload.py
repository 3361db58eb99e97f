"""Reload of the site file: what has changed in it, and the exchange of models, outside the main loop.

Each model is loaded in its own thread: a slow file, disk or model must not stop the watchdog's sign of life.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgead.errors import EdgeadError
from edgead.line.daemon.pipeline import Pipeline
from edgead.line.site.schema import PipelineSection, Site
from edgead.process.restarting_thread import RestartingThread

logger = logging.getLogger(__name__)

# After this time a reload leaves models to their threads.
_FOLLOW_S = 20.0


@dataclass(frozen=True, slots=True)
class Difference:
    """Names of the cameras, pipelines or sinks that a reload stops and starts; a changed name is in both sets."""

    stopped: frozenset[str]
    started: frozenset[str]


@dataclass(frozen=True, slots=True)
class SiteDiff:
    """Units that a reload stops and starts: cameras, pipelines and sinks by name; `store` is True if that section did.

    A pipeline that differs only in model, sinks, alarms or `follow` keeps running and is not listed.
    """

    cameras: Difference
    pipelines: Difference
    sinks: Difference
    store: bool


def site_diff(old: Site, new: Site) -> SiteDiff:
    """Compare two sites, section by section."""
    cameras = _difference(old.cameras, new.cameras)
    kept = {"model", "sinks", "alarms", "follow"}
    pipelines = _difference(
        {name: section.model_dump(exclude=kept) for name, section in old.pipelines.items()},
        {name: section.model_dump(exclude=kept) for name, section in new.pipelines.items()},
    )
    # A pipeline takes its frames from a camera, so it is made again with it.
    moved = {name for name, section in new.pipelines.items() if section.camera in cameras.started}
    pipelines = Difference(pipelines.stopped | (moved & old.pipelines.keys()), pipelines.started | moved)
    return SiteDiff(cameras, pipelines, _difference(old.sinks, new.sinks), old.store != new.store)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    changed = {name for name in old.keys() & new.keys() if old[name] != new[name]}
    return Difference(frozenset(old.keys() - new.keys() | changed), frozenset(new.keys() - old.keys() | changed))


class ModelChanges:
    """Exchanges of models that a reload has started; only the reloading thread calls `follow`."""

    def __init__(self) -> None:
        self._following: dict[str, _Following] = {}

    @property
    def refused(self) -> dict[str, str]:
        """Reasons why pipelines keep their models, by pipeline."""
        return {name: following.refused for name, following in self._following.items() if following.refused}

    def follow(self, running: Iterable[Pipeline], sections: Mapping[str, PipelineSection]) -> list[str]:
        """Apply a new site's sections to running pipelines; return the names of pipelines that keep their model.

        A model that takes long to load is left to its thread: the next reload must not wait for it.
        """
        before, followings = self._following, {}
        for pipeline in running:
            found = before.get(pipeline.name)
            one = found if found is not None and found.pipeline is pipeline else _Following(pipeline)
            followings[pipeline.name] = one
            if one.want(sections[pipeline.name]):
                text = "%s: the model of an earlier reload is still being loaded; that of this one comes after it"
                logger.warning(text, pipeline.name)
        self._following = followings  # as a whole: another thread reads `refused`
        deadline = time.monotonic() + _FOLLOW_S
        late = []
        for name, following in followings.items():
            if not following.wait(max(0.0, deadline - time.monotonic())):
                late.append(name)
                logger.error("%s: its model is not loaded after %g s; the old one judges meanwhile", name, _FOLLOW_S)
        return sorted({*late, *self.refused})


class _Following:
    """Application of new sections to a pipeline, in a thread; of several waiting sections only the newest counts."""

    def __init__(self, pipeline: Pipeline):
        self.pipeline = pipeline
        self.refused = ""
        """Reason why the pipeline keeps its model; empty if it does not."""
        self._wanted: PipelineSection | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def want(self, section: PipelineSection) -> bool:
        """Start to apply a section; return whether it must wait for an earlier one."""
        with self._lock:
            self._wanted = section
            if self._thread is not None:
                return True
            self._thread = threading.Thread(target=self._run, name=f"model {self.pipeline.name}", daemon=True)
            self._thread.start()
            return False

    def wait(self, timeout_s: float) -> bool:
        """Wait until all sections are applied; return False if that takes too long."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return self._thread is None

    def _run(self) -> None:
        while (section := self._next()) is not None:
            self.refused = _follow_one(self.pipeline, section)

    def _next(self) -> PipelineSection | None:
        with self._lock:
            section, self._wanted = self._wanted, None
            if section is None:
                self._thread = None
            return section


def _follow_one(pipeline: Pipeline, section: PipelineSection) -> str:
    """Apply a section; return the reason why the pipeline keeps its model, or an empty text."""
    try:
        pipeline.follow(section)
    except EdgeadError as error:
        logger.error("%s: keeps its model: %s", pipeline.name, error, extra={"pipeline": pipeline.name})
        return str(error)
    except Exception:  # noqa: BLE001  a reload's edge: the model in service goes on
        logger.exception("%s: keeps its model: the program failed", pipeline.name, extra={"pipeline": pipeline.name})
        return "the program failed"
    return ""


class Reloading:
    """Thread that reloads, one reload at a time; all requests during a reload become one reload after it."""

    def __init__(self, reload: Callable[[], None]):
        self._reload = reload
        self._asked, self._closing = threading.Event(), False
        self._since_s: float | None = None
        self._thread = RestartingThread("reload", self._run)

    def start(self) -> None:
        self._thread.start()

    def ask(self) -> None:
        """Request a reload; never waits."""
        since_s = self._since_s
        if since_s is not None:
            logger.warning("a reload is under way since %.1f s: this one comes after it", time.monotonic() - since_s)
        self._asked.set()

    def close(self, within_s: float) -> None:
        """Start no further reload, and wait for the current one for at most `within_s`."""
        self._closing = True
        self._asked.set()
        self._thread.join(within_s)

    def _run(self) -> None:
        while self._asked.wait() and not self._closing:
            self._asked.clear()
            self._since_s = time.monotonic()
            try:
                self._reload()
            finally:
                self._since_s = None
