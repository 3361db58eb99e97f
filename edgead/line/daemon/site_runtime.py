"""Running components of a site, connected: made at the start, exchanged at a reload, closed at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import reduce
from types import MappingProxyType
from typing import Any, TypeVar

from edgead import kernels
from edgead.artifact.signatures.trust import ModelTrust
from edgead.files.atomic import UNFINISHED
from edgead.files.folder_lock import FolderLock
from edgead.line.daemon.broadcast import WantedFrame
from edgead.line.daemon.fleet.member import FleetMember
from edgead.line.daemon.hanging_calls import all_within
from edgead.line.daemon.judge_and_deliver import Receivers
from edgead.line.daemon.kept_models import KeptModels
from edgead.line.daemon.model_control import Wiring
from edgead.line.daemon.notices import Notices
from edgead.line.daemon.parts import PartGroups
from edgead.line.daemon.pause_topic import PauseTopic
from edgead.line.daemon.pipeline import Pipeline
from edgead.line.daemon.reload import ModelChanges, SiteDiff, site_diff
from edgead.line.daemon.thresholds import KeptThresholds
from edgead.line.evidence import EvidenceStore
from edgead.line.evidence.settings import FOLDER_MODE
from edgead.line.site.schema import Site
from edgead.process.real_time import USUAL, Scheduling, start_opencv_threads
from edgead.serialization.notice import Notice
from edgead.sinks import open_queued
from edgead.sinks.queued import QueuedSink
from edgead.sources.reopened_camera import SupervisedCamera
from edgead.types import Frame, Verdict

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

THRESHOLDS = "thresholds.json"
MODELS = "models.json"
DRIFT = "drift"
NOTICES = "notices.json"
RESTART = "needs a restart: store"
# Longest wait for the end of parts that a reload removes.
_LEAVE_S = 2.0


class SiteRuntime:
    """Cameras, pipelines, sinks and the store of one site.

    The mappings `cameras`, `pipelines` and `sinks` are never changed: a reload replaces each as a whole, so any thread
    may iterate over a mapping that it has read.

    `publish`: receives every verdict; must not wait.
    `publish_notice`: receives every notice; must not wait.
    `publish_wanted`: receives every frame that a pipeline's trigger chooses; must not wait.
    """

    store: EvidenceStore
    notices: Notices

    def __init__(
        self,
        publish: Callable[[Frame, Verdict], None],
        publish_notice: Callable[[Notice], None],
        publish_wanted: Callable[[WantedFrame], None],
    ):
        self.cameras: Mapping[str, SupervisedCamera] = MappingProxyType({})
        self.pipelines: Mapping[str, Pipeline] = MappingProxyType({})
        self.sinks: Mapping[str, QueuedSink] = MappingProxyType({})
        self.parts = PartGroups()
        self._publish, self._publish_notice, self._publish_wanted = publish, publish_notice, publish_wanted
        self.fleet, self._pause_topic = FleetMember(), PauseTopic()
        self._kept: KeptThresholds
        self._kept_models: KeptModels
        self._trust = ModelTrust(required=False)
        self._schedulings: list[Scheduling] = []
        self._is_open = False
        self._lock: FolderLock | None = None
        self._model_changes = ModelChanges()
        self.refused_site = ""
        """Reason why the site file that was read last is not in force; empty if it is."""
        self.refused_http = ""
        """Reason why the page is served as before; empty if there is none."""
        self._waits_for_restart = False

    @property
    def settled(self) -> bool:
        """Whether every pipeline has tried to load its model."""
        return all(pipeline.loaded.is_set() for pipeline in self.pipelines.values())

    @property
    def refused(self) -> str:
        """Description of what the newest site file asks and is not in force, with reasons; empty if all is in force."""
        kept = [f"{name}: keeps its model: {reason}" for name, reason in self._model_changes.refused.items()]
        waits = RESTART if self._waits_for_restart else ""
        http = self.refused_http and f"http: the page stays as it was: {self.refused_http}"
        return "; ".join([*filter(None, (self.refused_site, waits, http)), *kept])

    def look_after(self) -> None:
        """Restart dead threads of cameras and pipelines, and report hanging ones; the main loop calls this often."""
        for part in self._parts():
            part.look_after()

    def silent(self, for_s: float) -> list[str]:
        """List the names of the components without progress for more than `for_s` seconds."""
        return [part.name for part in self._parts() if part.silent_s() > for_s]

    def _parts(self) -> list[SupervisedCamera | Pipeline]:
        return [*self.cameras.values(), *self.pipelines.values()]

    def open(self, site: Site) -> None:
        """Make and start all components.

        Raises EdgeadError: the store, a sink or a key cannot be opened, or another daemon has the store.
        """
        self._trust = site.models.open_trust()
        start_opencv_threads()
        held = "stop that one, or name another folder in `store:`"
        self._lock = FolderLock(site.store.folder, held, mode=FOLDER_MODE)
        for left in site.store.folder.glob(f".*{UNFINISHED}"):  # of a daemon that was killed while it wrote
            left.unlink(missing_ok=True)
        self.store = EvidenceStore(site.store)
        self.notices = Notices(site.store.folder / NOTICES, self._publish_notice)
        self._is_open = True
        self._kept = KeptThresholds(site.store.folder / THRESHOLDS)
        self._kept_models = KeptModels(site.store.folder / MODELS)
        self._schedulings = [section.realtime.scheduling for section in site.pipelines.values()]
        self.sinks = MappingProxyType(self._opened(site, site.sinks))
        self.parts.follow(site, self.store, self.sinks, _LEAVE_S)
        self.notices.follow(site, self.sinks)
        self._start(site, site.cameras, site.pipelines)
        self.notices.start(self)
        self.fleet.follow(site, lambda: self.pipelines, self.store)
        self._pause_topic.follow(site, lambda: self.pipelines)

    def prepare(self, old: Site, new: Site) -> Callable[[], list[str]]:
        """Prepare for another site; return a function that applies it and returns the pipelines that keep their model.

        Parts with unchanged sections go on undisturbed.

        Raises EdgeadError: a new sink or a key cannot be opened: nothing has changed then.
        """
        difference = site_diff(old, new)
        trust = new.models.open_trust()
        opened = self._opened(new, difference.sinks.started)
        return lambda: self._change(new, difference, opened, trust)

    def _change(self, new: Site, difference: SiteDiff, opened: dict[str, QueuedSink], trust: ModelTrust) -> list[str]:
        self._trust = trust
        self._waits_for_restart = difference.store
        if difference.store:
            logger.warning(RESTART)
        self._schedulings = [section.realtime.scheduling for section in new.pipelines.values()]
        leaving = [self.sinks[name] for name in difference.sinks.stopped if name in self.sinks]
        self.sinks = MappingProxyType({name: opened.get(name) or self.sinks[name] for name in new.sinks})
        self.parts.follow(new, self.store, self.sinks, _LEAVE_S)
        self.notices.follow(new, self.sinks)
        self._exchange(new, difference)
        for name, pipeline in self.pipelines.items():
            pipeline.send_to(self._sinks_of(new, name))
            pipeline.limit(new.limits)
        self._place_kernels()
        all_within(_LEAVE_S, [sink.close for sink in leaving])
        running = [self.pipelines[name] for name in self.pipelines.keys() - difference.pipelines.started]
        kept = self._model_changes.follow(running, new.pipelines)
        self.fleet.follow(new, lambda: self.pipelines, self.store)
        self._pause_topic.follow(new, lambda: self.pipelines)
        return kept

    def close(self, deadline: float, also: Iterable[Callable[[], Any]] = ()) -> dict[str, Any]:
        """Let current work end until `deadline` (`time.monotonic`), close everything; return each pipeline's counts."""
        pipelines = list(self.pipelines.values())
        if self._is_open:
            self.notices.close()  # first: an end now is no fault, and resolves none
        self.fleet.followers.stop()
        for pipeline in pipelines:
            pipeline.stop()
        ended = [pipeline.join(deadline - time.monotonic()) for pipeline in pipelines]
        if not all(ended):
            late = [pipeline.name for pipeline, well in zip(pipelines, ended, strict=True) if not well]
            logger.error("did not end in time: %s", ", ".join(late))
        self.parts.close(max(0.1, (deadline - time.monotonic()) / 2))
        left_s = max(0.1, deadline - time.monotonic())
        sinks = [_closing(sink, left_s) for sink in self.sinks.values()]
        all_within(
            left_s,
            [
                *sinks,
                *(camera.close for camera in self.cameras.values()),
                self.fleet.close,
                self._pause_topic.close,
                *also,
            ],
        )
        if self._is_open:
            self.store.close(max(0.1, deadline - time.monotonic()))
        if self._lock is not None:
            self._lock.close()
        return {pipeline.name: _counts(pipeline) for pipeline in pipelines}

    def _start(self, site: Site, cameras: Iterable[str], pipelines: Iterable[str]) -> None:
        new_cameras = {name: SupervisedCamera(name, site.cameras[name]) for name in cameras}
        self.cameras = MappingProxyType({**self.cameras, **new_cameras})
        new_pipelines = {name: Pipeline(name, site.pipelines[name], self._wiring(site, name)) for name in pipelines}
        self.pipelines = MappingProxyType({**self.pipelines, **new_pipelines})
        for pipeline in new_pipelines.values():
            pipeline.start()
        self._place_cameras(site)
        for camera in new_cameras.values():
            camera.start()

    def _wiring(self, site: Site, name: str) -> Wiring:
        section = site.pipelines[name]
        model = self._kept_models.find(name, section.model) if section.commissioned else None
        return Wiring(
            camera=self.cameras[section.camera],
            receivers=Receivers(self.store, self._sinks_of(site, name), self._judged, site.store.before),
            kept=self._kept,
            kept_models=self._kept_models,
            drift_folder=site.store.folder / DRIFT,
            limits=site.limits,
            trust=lambda: self._trust,
            # Networks that each use all cores wait for each other in the middle of a layer.
            threads=max(1, kernels.threads() // len(site.pipelines)),
            model=self.fleet.followers.begin(name, site, self.store) or model,
            place_kernels=self._place_kernels,
            publish_wanted=self._publish_wanted,
        )

    def _judged(self, frame: Frame, verdict: Verdict) -> None:
        self.parts.add(frame, verdict)
        self._publish(frame, verdict)
        self.notices.add(frame, verdict)

    def _place_kernels(self) -> None:
        reduce(Scheduling.beside, self._schedulings).give_kernels()

    def _place_cameras(self, site: Site) -> None:
        """Give each camera a priority just below the highest of its pipelines: judging comes first, other work last."""
        for name, camera in self.cameras.items():
            sections = [section for section in site.pipelines.values() if section.camera == name]
            priority = max((section.realtime.priority or 0 for section in sections), default=0)
            camera.scheduling = Scheduling(max(1, priority - 1)) if priority else USUAL

    def _sinks_of(self, site: Site, name: str) -> tuple[QueuedSink, ...]:
        return tuple(self.sinks[sink] for sink in site.pipelines[name].sinks)

    def _opened(self, new: Site, names: Iterable[str]) -> dict[str, QueuedSink]:
        opened: dict[str, QueuedSink] = {}
        with ExitStack() as undo:
            for name in names:
                opened[name] = open_queued(name, new.sinks[name])
                undo.callback(opened[name].close, 0)
            undo.pop_all()
        return opened

    def _exchange(self, new: Site, difference: SiteDiff) -> None:
        leaving = [self.pipelines[name] for name in difference.pipelines.stopped if name in self.pipelines]
        self.pipelines = _without(self.pipelines, difference.pipelines.stopped)
        for pipeline in leaving:
            pipeline.stop()
        for pipeline in leaving:
            pipeline.join(_LEAVE_S)
        cameras = [self.cameras[name] for name in difference.cameras.stopped if name in self.cameras]
        self.cameras = _without(self.cameras, difference.cameras.stopped)
        all_within(_LEAVE_S, [camera.close for camera in cameras])
        self._start(new, difference.cameras.started, difference.pipelines.started)


def _without(parts: Mapping[str, _T], names: Iterable[str]) -> Mapping[str, _T]:
    leaving = set(names)
    return MappingProxyType({name: part for name, part in parts.items() if name not in leaving})


def _closing(sink: QueuedSink, within_s: float) -> Callable[[], None]:
    return lambda: sink.close(within_s)


def _counts(pipeline: Pipeline) -> dict[str, Any]:
    status = pipeline.status()
    names = ("taken", "judged", "dropped", "skipped", "unasked", "warming_up", "late", "restarts")
    return {**{name: getattr(status, name) for name in names}, **status.decisions}
