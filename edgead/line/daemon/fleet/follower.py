"""Follower of a registry's tag: pulls the model that the tag names, tests it, puts it into service, or goes back.

It has no thread, clock or network of its own; `edgead.line.daemon.fleet.followers` provides these.
"""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.oci.package import PackageError
from edgead.errors import EdgeadError, NotNowError
from edgead.line.daemon.active_model import SlotBusyError
from edgead.line.daemon.fleet.record import FollowRecord, read_record, write_record
from edgead.line.site.model_following import FollowSection
from edgead.line.site.status import FollowState, FollowStatus

if TYPE_CHECKING:
    from edgead.line.daemon.pipeline import Pipeline

logger = logging.getLogger(__name__)

RECORD = "following.json"
# Interval of the check whether somebody has gone back.
LOOK_S = 1.0
_BUSY_S = 5.0
# Errors that say nothing about a model: another change is under way, or the audit cannot be written.
_NOT_NOW = (SlotBusyError, NotNowError)
# A model that crashes the daemon when it judges does that soon.
PROBATION_S = 60.0
MAX_STARTS = 3


class Tag(Protocol):
    """A tag of a registry."""

    def digest(self) -> str: ...
    def pull(self, digest: str, destination: Path, reuse: list[Path]) -> None: ...


class Follower:
    """Follower of the tag of one pipeline; one thread calls `step` again and again.

    `folder`: folder of this follower: the models by their digests, and the record.
    `clock`: monotonic seconds.
    `chance`: random source that spreads the requests of many devices over time.
    """

    def __init__(
        self,
        section: FollowSection,
        folder: Path,
        tag: Tag,
        clock: Callable[[], float],
        chance: random.Random | None = None,
    ):
        self._section, self._folder, self._tag, self._clock = section, folder, tag, clock
        self._chance = chance or random.Random()
        self._record = read_record(folder / RECORD, section.source)
        self._problem: str | None = None
        self._looked_at: datetime | None = None
        # Devices that were switched on together must not ask together.
        self._ask_at_s = clock() + self._chance.uniform(0, section.jitter * section.every_s)
        self._new_since_s = clock()
        self._again = False

    @property
    def status(self) -> FollowStatus:
        record = self._record
        refused = record.refused.get(record.seen or "")
        state: FollowState = "waiting"
        if record.seen is not None:
            state = "pinned" if record.pinned else "refused" if refused else "current"
        reason = "somebody has chosen another model" if record.pinned else refused
        return FollowStatus(
            source=self._section.source,
            state=state,
            tag_digest=record.seen,
            digest=record.current,
            reason=reason,
            problem=self._problem,
            looked_at=self._looked_at,
            changed_at=record.changed_at,
        )

    def begin(self) -> Path | None:
        """Count a start of the daemon; return the model that judges first, or None for the site file's model."""
        record = self._record
        if record.trying is not None and record.trying == record.current:
            self._count_start(record.trying)
        current = self._record.current
        if current is None or self._model(current).is_dir():
            return None if current is None else self._model(current)
        self._keep(self._record.model_copy(update={"seen": None, "current": None}))
        return None

    def follow_again(self) -> None:
        """Let the next step try the tag's model again, even if it was refused; from any thread."""
        self._again = True

    def step(self, pipeline: Pipeline) -> float:
        """Do the work that is due now; return the seconds until the next step."""
        if self._again:
            self._forget_decision()
        self._see_who_judges(pipeline)
        if self._clock() >= self._ask_at_s:
            self._ask_at_s = self._clock() + self._pause_s()
            self._ask(pipeline)
        return max(0.0, min(LOOK_S, self._ask_at_s - self._clock()))

    def _pause_s(self) -> float:
        jitter = self._section.jitter
        return self._section.every_s * self._chance.uniform(1 - jitter, 1 + jitter)

    def _ask(self, pipeline: Pipeline) -> None:
        """Ask the registry for the tag's digest, and try a new model; after a failure the model in service stays."""
        try:
            digest = self._tag.digest()
            self._looked_at = datetime.now(timezone.utc)
            if digest != self._record.seen:
                self._take(pipeline, digest)
            problem = None
        except _NOT_NOW as error:
            problem, self._ask_at_s = str(error), self._clock() + _BUSY_S
        except (EdgeadError, OSError) as error:
            problem = str(error)
        if problem != self._problem:
            text = f"{pipeline.name}: {problem or 'the registry answers again'}"
            logger.log(logging.WARNING if problem else logging.INFO, "%s", text, extra={"pipeline": pipeline.name})
        self._problem = problem

    def _take(self, pipeline: Pipeline, digest: str) -> None:
        reason = self._record.refused.get(digest)
        if reason is not None:
            self._refuse(digest, reason)
            return
        if digest == self._record.current:  # the tag came back to it
            self._keep(self._record.model_copy(update={"seen": digest, "pinned": False}))
            return
        model = self._model(digest)
        try:
            self._fetch(digest, model, pipeline)
            self._try(digest, model, pipeline)
        except PackageError as error:
            self._refuse(digest, str(error))

    def _fetch(self, digest: str, model: Path, pipeline: Pipeline) -> None:
        try:
            Artifact.load(model)
        except ArtifactError:
            shutil.rmtree(model, ignore_errors=True)
            self._tag.pull(digest, model, [pipeline.model_path, *self._models()])

    def _try(self, digest: str, model: Path, pipeline: Pipeline) -> None:
        before = self._record
        try:
            signed = before.check_newer(pipeline.signatures(model))
        except EdgeadError as error:
            self._refuse(digest, str(error))
            return
        if not self._count_start(digest):
            return
        try:
            pipeline.swap(model, by=f"follows {self._section.source}")
        except (*_NOT_NOW, OSError):  # not the model's fault
            self._keep(before)
            raise
        except EdgeadError as error:
            self._refuse(digest, str(error))
            return
        self._new_since_s = self._clock()
        self._keep(self._record.serving(digest, signed))
        self._tidy()

    def _count_start(self, digest: str) -> bool:
        """Count a trial start of a model; refuse it and return False if too many trials ended early."""
        record = self._record
        starts = record.starts + 1 if record.trying == digest else 1
        if starts > MAX_STARTS:
            self._refuse(digest, f"it was started {MAX_STARTS} times and did not last for {PROBATION_S:.0f} s")
            return False
        self._keep(record.model_copy(update={"trying": digest, "starts": starts}))
        return True

    def _see_who_judges(self, pipeline: Pipeline) -> None:
        """Record whether a person or a fault has changed the model, and whether a new model has passed its trial."""
        record = self._record
        here = self._digest_of(pipeline.model_path)
        if here != record.current:
            update = {"current": here, "previous": record.current, "trying": None, "pinned": here != record.seen}
            self._keep(record.model_copy(update=update))
            if record.current is not None and pipeline.failed_model == self._model(record.current):
                self._failed(record.current)
        elif record.trying == here is not None and self._clock() - self._new_since_s >= PROBATION_S:
            self._keep(record.model_copy(update={"trying": None, "starts": 0}))

    def _failed(self, digest: str) -> None:
        try:
            Artifact.load(self._model(digest))
        except ArtifactError:  # damaged files, not a bad model: it is pulled again
            self._keep(self._record.model_copy(update={"seen": None, "pinned": False}))
            return
        self._refuse(digest, "it failed in service, and the model before it judges again")

    def _forget_decision(self) -> None:
        self._again = False
        kept = {digest: reason for digest, reason in self._record.refused.items() if digest != self._record.seen}
        self._keep(self._record.model_copy(update={"seen": None, "pinned": False, "refused": kept}))
        self._ask_at_s = self._clock()

    def _refuse(self, digest: str, reason: str) -> None:
        record = self._record.refusing(digest, reason)
        if record.current == digest:
            record = record.model_copy(update={"current": record.previous, "previous": None})
        if digest not in self._record.refused:
            logger.error("%s is not used: %s", digest[:19], reason)
        self._keep(record)
        self._tidy()

    def _keep(self, record: FollowRecord) -> None:
        if record != self._record:
            self._record = record
            try:
                write_record(self._folder / RECORD, record)
            except OSError as error:  # it is in force all the same
                logger.error(
                    "%s cannot be written (%s): the next start forgets it", self._folder / RECORD, error.strerror
                )

    def _model(self, digest: str) -> Path:
        return self._folder / digest.partition(":")[2]

    def _digest_of(self, path: Path) -> str | None:
        return f"sha256:{path.name}" if path.parent == self._folder else None

    def _models(self) -> list[Path]:
        digests = (self._record.current, self._record.previous)
        return [self._model(digest) for digest in digests if digest and digest not in self._record.refused]

    def _tidy(self) -> None:
        """Remove all models except the current and the previous one."""
        kept = {model.name for model in self._models()}
        for entry in self._folder.iterdir() if self._folder.is_dir() else ():
            if entry.is_dir() and entry.name not in kept:
                shutil.rmtree(entry, ignore_errors=True)
