"""Log of a training: settings, stages, losses and results as records, for a file of JSON lines and for trackers.

A package adds a tracker by `[project.entry-points."edgead.trackers"]` with `SCHEME = "module:Class"`, a `Tracker`.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timezone
from typing import Any, Protocol

from edgead.artifact.folder import Artifact
from edgead.components.added import Added
from edgead.components.uri import without_credentials
from edgead.dataset.folders import StageProgress
from edgead.errors import SettingsError

LOSSES = 1000
"""Most loss records of one stage: with more steps, each record is the mean of several steps."""

Record = Mapping[str, Any]
"""Record of a log, plain JSON: `event` is its type, `seconds` the time since training began; see `TrainingLog`."""

logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """Receiver of the records of one training, in order, in its thread; created with the text after `SCHEME:`.

    The constructor raises SettingsError if it cannot write. After a later error it gets no more; training goes on.
    """

    def __init__(self, where: str): ...
    def write(self, record: Record) -> None: ...
    def close(self) -> None: ...


class JsonLines:
    """Tracker that appends each record to a file, as one line of JSON."""

    def __init__(self, where: str):
        try:
            self._file = open(where, "a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise SettingsError(f"{where}: cannot be written: {error.strerror}; name a file in a folder") from None

    def write(self, record: Record) -> None:
        self._file.write(json.dumps(record, default=str) + "\n")

    def close(self) -> None:
        self._file.close()


TRACKERS: Added[type[Tracker]] = Added("edgead.trackers", "tracker", {"jsonl": f"{__name__}:JsonLines"})


class TrainingLog:
    """Progress callback (a StageProgress) that also logs.

    | `event` | besides `seconds` |
    |---|---|
    | `start` | `at`, the time in UTC |
    | `settings` | inputs of the result: `detector`, `settings`, SHA-256 of the `data`, `versions` |
    | `stage` | a finished `stage`: its `count` of images or steps, and `took_seconds` |
    | `loss` | `stage`, `step` of `steps`, and the mean `loss` since the previous record |
    | `end` | the `model` and its results: `training_images`, `threshold`, `false_reject_rate`, `fit_seconds`, ... |
    | `failed` | the `problem` |
    """

    def __init__(self, trackers: Mapping[str, Tracker], progress: StageProgress):
        self._trackers, self._progress = dict(trackers), progress
        self._began_s = self._stage_began_s = time.monotonic()
        self._stage: str | None = None
        self._count = 0
        self._losses: list[float] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._progress(stage, done, total)
        if self._stage not in (None, stage):  # some stages are only begun: the next one ends them
            self._end_stage()
        self._stage, self._count = stage, total
        if done >= total:
            self._end_stage()

    def _end_stage(self) -> None:
        now_s = time.monotonic()
        self.write("stage", stage=self._stage, count=self._count, took_seconds=round(now_s - self._stage_began_s, 3))
        self._stage, self._stage_began_s = None, now_s

    def loss(self, stage: str, step: int, steps: int, loss: float) -> None:
        """Record the loss of one step; call it for every step from 1 on, in order."""
        self._losses.append(loss)
        if len(self._losses) >= steps / LOSSES or step == steps:
            mean = math.fsum(self._losses) / len(self._losses)
            self._losses.clear()
            self.write("loss", stage=stage, step=step, steps=steps, loss=mean)

    def end(self, artifact: Artifact) -> None:
        """Log the finished model."""
        limits = artifact.graph().calibration
        assert limits is not None
        if self._stage is not None:
            self._end_stage()
        figures = {
            "model": str(artifact.path),
            "precision": artifact.manifest.precision,
            "false_reject_rate": limits.false_reject_rate,
            "threshold": limits.reject,
            "review_threshold": limits.review,
        }
        self.write("end", **figures | artifact.manifest.training)  # a method's own facts may have any name

    def write(self, event: str, /, **values: Any) -> None:
        """Send a record to all trackers; a tracker that fails gets no more."""
        record = {"event": event, "seconds": round(time.monotonic() - self._began_s, 3), **values}
        for where, tracker in list(self._trackers.items()):
            try:
                tracker.write(record)
            except Exception as error:  # noqa: BLE001  the edge to other people's code: hours of training go on
                del self._trackers[where]
                logger.warning("%s gets no more of this training: %s: %s", where, type(error).__name__, error)


@contextmanager
def training_log(where: Sequence[str], progress: StageProgress) -> Iterator[TrainingLog]:
    """Open a log for the block; if the block fails, the failure is logged.

    `where`: paths of files for JSON lines, and `SCHEME:...` of trackers. Existing files are appended to.
    `progress`: also called with (stage, done, total).
    Raises SettingsError: a scheme is unknown, or a file or tracker cannot be written.
    """
    with ExitStack() as opened:
        trackers = {_shown(one): opened.enter_context(closing(_open(one))) for one in where}
        log = TrainingLog(trackers, progress)
        log.write("start", at=datetime.now(timezone.utc).isoformat())
        try:
            yield log
        except BaseException as error:
            log.write("failed", problem=str(error) or type(error).__name__)
            raise


def _open(where: str) -> Tracker:
    scheme, colon, rest = where.partition(":")
    return TRACKERS.find(scheme)(rest) if colon and len(scheme) > 1 else JsonLines(where)  # C:\ is no scheme


def _shown(where: str) -> str:
    scheme, colon, rest = where.partition(":")
    return f"{scheme}{colon}{without_credentials(rest)}"
