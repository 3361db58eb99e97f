"""Models that a reload exchanges: each in a thread, so that one which loads for long holds up nothing else."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping

from edgead.daemon.pipeline import Pipeline
from edgead.errors import EdgeadError
from edgead.site.schema import PipelineSection

logger = logging.getLogger(__name__)

# How long a reload waits for models before it leaves them to their threads.
_FOLLOW_S = 20.0


class ModelChanges:
    """The exchanges that are under way; used by the one thread that reloads."""

    def __init__(self) -> None:
        self._following: dict[str, _Following] = {}

    def follow(self, running: Iterable[Pipeline], sections: Mapping[str, PipelineSection]) -> None:
        """Let running pipelines take over their sections of a new site; where a model is refused, the old one stays.

        One that is loaded for longer is left to its thread: the next reload must not wait for it.
        """
        before, self._following = self._following, {}
        for pipeline in running:
            found = before.get(pipeline.name)
            one = found if found is not None and found.pipeline is pipeline else _Following(pipeline)
            self._following[pipeline.name] = one
            if one.want(sections[pipeline.name]):
                text = "%s: the model of an earlier reload is still being loaded; that of this one comes after it"
                logger.warning(text, pipeline.name)
        deadline = time.monotonic() + _FOLLOW_S
        for name, following in self._following.items():
            if not following.wait(max(0.0, deadline - time.monotonic())):
                logger.error("%s: its model is not loaded after %g s; the old one judges meanwhile", name, _FOLLOW_S)


class _Following:
    """A pipeline goes over to its section of each new site, in a thread while there is one; of several the newest."""

    def __init__(self, pipeline: Pipeline):
        self.pipeline = pipeline
        self._wanted: PipelineSection | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def want(self, section: PipelineSection) -> bool:
        """Follow a section; gives whether that comes after another one, which is still under way."""
        with self._lock:
            self._wanted = section
            if self._thread is not None:
                return True
            self._thread = threading.Thread(target=self._run, name=f"model {self.pipeline.name}", daemon=True)
            self._thread.start()
            return False

    def wait(self, timeout_s: float) -> bool:
        """Wait until nothing is under way; False where that did not come in time."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return self._thread is None

    def _run(self) -> None:
        while (section := self._next()) is not None:
            _follow_one(self.pipeline, section)

    def _next(self) -> PipelineSection | None:
        with self._lock:
            section, self._wanted = self._wanted, None
            if section is None:
                self._thread = None
            return section


def _follow_one(pipeline: Pipeline, section: PipelineSection) -> None:
    try:
        pipeline.follow(section)
    except EdgeadError as error:
        logger.error("%s: keeps its model: %s", pipeline.name, error, extra={"pipeline": pipeline.name})
    except Exception:  # noqa: BLE001  a reload's edge: the model in service goes on
        logger.exception("%s: keeps its model: the program failed", pipeline.name, extra={"pipeline": pipeline.name})
