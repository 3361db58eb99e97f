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
        self._following: dict[str, threading.Thread] = {}

    def follow(self, running: Iterable[Pipeline], sections: Mapping[str, PipelineSection]) -> None:
        """Let running pipelines take over their sections of a new site; where a model is refused, the old one stays.

        One that is loaded for longer is left to its thread: the next reload must not wait for it.
        """
        for pipeline in running:
            name = pipeline.name
            busy = self._following.get(name)
            if busy is not None and busy.is_alive():
                logger.error("%s: keeps its model: the one of an earlier reload is still being loaded", name)
                continue
            work = (pipeline, sections[name])
            self._following[name] = threading.Thread(target=_follow_one, args=work, name=f"model {name}", daemon=True)
            self._following[name].start()
        deadline = time.monotonic() + _FOLLOW_S
        for name, thread in self._following.items():
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                logger.error("%s: its model is not loaded after %g s; the old one judges meanwhile", name, _FOLLOW_S)


def _follow_one(pipeline: Pipeline, section: PipelineSection) -> None:
    try:
        pipeline.follow(section)
    except EdgeadError as error:
        logger.error("%s: keeps its model: %s", pipeline.name, error, extra={"pipeline": pipeline.name})
    except Exception:  # noqa: BLE001  a reload's edge: the model in service goes on
        logger.exception("%s: keeps its model: the program failed", pipeline.name, extra={"pipeline": pipeline.name})
