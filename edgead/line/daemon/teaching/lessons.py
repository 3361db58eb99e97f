"""Lessons from the page: marked parts are taught to a copy of a model, and a person decides on the result."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.artifact.earlier_versions import keep_and_replace
from edgead.artifact.folder import Artifact
from edgead.artifact.kinds import LEAST_BAD
from edgead.errors import SettingsError
from edgead.line.daemon.teaching.lesson_process import (
    LessonFolder,
    LessonOrder,
    LessonProcess,
    LessonState,
    bad_images,
    ended,
    good_images,
    judge_by_new_version,
    take_up,
)
from edgead.line.site.schema import Site, current

if TYPE_CHECKING:
    from edgead.line.daemon.pipeline import Pipeline
    from edgead.line.evidence import EvidenceStore

logger = logging.getLogger(__name__)

_JOIN_S = 3.0
# A waiting request holds one of the page's few threads.
_PATIENCE_S = 0.5


class Lessons:
    """Lessons of a site: at most one under way, and each pipeline's last lesson until somebody decides on it.

    `site`: returns the current site.
    `pipelines`: returns the current pipelines.
    `store`: returns the evidence store, once it is open.
    """

    def __init__(
        self,
        site: Callable[[], Site],
        pipelines: Callable[[], Mapping[str, Pipeline]],
        store: Callable[[], EvidenceStore],
    ):
        self._site, self._pipelines, self._store = site, pipelines, store
        self._found: dict[str, tuple[LessonState, LessonFolder]] = {}
        self._process: LessonProcess | None = None
        self._thread: threading.Thread | None = None
        self._changing = threading.Lock()

    def open(self) -> None:
        """Read the lessons that an earlier daemon left ready for a decision, and remove unfinished ones."""
        for name in self._site().pipelines:
            found = take_up(self._file(name))
            if found is not None:
                self._found[name] = found

    def all(self) -> list[LessonState]:
        """Return the last lesson of each pipeline that has one."""
        return [lesson for lesson, _ in list(self._found.values())]

    def sheet(self, pipeline: str) -> Path | None:
        """Return the sheet of the parts that a lesson teaches, with heat maps; None if there is none."""
        found = self._found.get(pipeline)
        return found[1].sheet if found and found[1].sheet.is_file() else None

    def start(self, pipeline: str, good: Sequence[str], *, by: str, reason: str = "") -> None:
        """Teach parts to a copy of a pipeline's model, in a process of its own.

        `good`: ids of verdicts that were marked good; may be empty if `LEAST_BAD` parts are marked bad. The newest
            parts marked bad test the taught model; if they are `LEAST_BAD` or more, it also learns them as known
            defects.
        `reason`: reason for also learning parts that are far from all good parts; kept in the model and the audit.
        Raises EdgeadError: another lesson is under way or waits for a decision, a part is not marked good or has no
            image, or the model is shared with another pipeline.
        """
        with self._change():
            self._check_free(pipeline)
            path, section = self._model_of(pipeline), current(self._site().pipelines, pipeline)
            paths = good_images(self._store(), pipeline, section, good)
            bad = bad_images(self._store(), pipeline, section)
            if not paths and len(bad) < LEAST_BAD:
                raise SettingsError(
                    f"{pipeline}: {len(bad)} parts with an image are marked bad: choose parts that are marked good, or "
                    f"mark {LEAST_BAD} that are bad"
                )
            lesson = LessonState(
                pipeline=pipeline,
                by=by,
                since=datetime.now(timezone.utc),
                good=tuple(good),
                bad=len(bad),
                because=reason,
                model_sha256=Artifact.load(path).manifest.manifest_sha256,
            )
            with self._audited(lesson, by, "teach"):
                self._forget(pipeline)
                folder, paths, bad = self._new_folder(path, lesson, paths, bad)
                in_force = current(self._pipelines(), pipeline).status().thresholds
                task = LessonOrder(path, paths, bad, folder.model, folder.sheet, by, reason, in_force)
                self._found[pipeline] = lesson, folder
                self._process = LessonProcess()
                self._thread = threading.Thread(
                    target=self._teach, args=(self._process, task, lesson, folder), name="lesson", daemon=True
                )
                self._thread.start()

    def accept(self, pipeline: str, *, by: str) -> None:
        """Replace the model by the taught model; the replaced model becomes an earlier version.

        Raises EdgeadError: no lesson is ready, the model was changed meanwhile, or the taught model fails its self-test
            or is not signed as the site requires: nothing changes then.
        """
        with self._change():
            lesson, folder = self._of(pipeline)
            if lesson.state != "ready":
                raise SettingsError(f"{pipeline}: the lesson is {lesson.state}: there is nothing to accept")
            path = self._model_of(pipeline)
            judging = current(self._pipelines(), pipeline)
            if not lesson.model_sha256 == judging.status().model_sha256 == Artifact.load(path).manifest.manifest_sha256:
                raise SettingsError(f"{path} was changed since the lesson began: discard the lesson and teach it again")
            taught = Artifact.load(folder.model)  # checks every hash
            self._site().models.open_trust().sign_own(folder.model, by=by)
            with self._audited(lesson, by, "accept lesson"):
                try:
                    keep_and_replace(path.resolve(), folder.model)
                except OSError as error:
                    raise SettingsError(f"{path}: cannot be replaced: {error.strerror}") from error
                judge_by_new_version(judging, path, taught, by=by, refused=folder.model)
            self._forget(pipeline)

    def discard(self, pipeline: str, *, by: str) -> None:
        """Stop a running lesson, or remove the result of one that has ended.

        Raises SettingsError: there is no lesson.
        """
        with self._change():
            lesson, _ = self._of(pipeline)
            with self._audited(lesson, by, "discard lesson"):
                if lesson.state == "running":
                    self._stop()
                self._forget(pipeline)

    def close(self) -> None:
        """Stop the running lesson; a lesson that waits for a decision stays."""
        self._stop()

    @contextmanager
    def changing(self, pipeline: str) -> Iterator[Path]:
        """Yield the model of a pipeline for another change; SettingsError if a lesson or another pipeline uses it."""
        with self._change():
            self._check_free(pipeline)
            yield self._model_of(pipeline)

    # One lesson

    def _teach(self, process: LessonProcess, task: LessonOrder, lesson: LessonState, folder: LessonFolder) -> None:
        try:
            done = ended(lesson, process.run(task, self._site().limits.lesson_s))
            if not process.stopped:
                folder.keep(done)
        except Exception as error:  # noqa: BLE001  the edge of a thread: the person must learn how it ended
            logger.exception("%s: the lesson failed", lesson.pipeline)
            done = lesson.model_copy(update={"state": "failed", "reason": f"{type(error).__name__}: {error}"})
        folder.let_go()
        logger.info("lesson ended", extra={"pipeline": lesson.pipeline, "state": done.state, "reason": done.reason})
        if self._found.get(lesson.pipeline) == (lesson, folder):  # nobody has discarded it
            self._found[lesson.pipeline] = done, folder

    def _stop(self) -> None:
        if self._process is not None and self._thread is not None:
            self._process.stop()
            self._thread.join(_JOIN_S)

    def _forget(self, pipeline: str) -> None:
        found = self._found.pop(pipeline, None)
        if found is not None:
            found[1].remove()

    def _audited(self, lesson: LessonState, by: str, action: str) -> AbstractContextManager[None]:
        logger.info(f"{lesson.pipeline}: {action} by {by}", extra={"pipeline": lesson.pipeline, "action": action})
        after = {
            "verdicts": list(lesson.good),
            "bad_parts": lesson.bad,
            "because": lesson.because,
            "state": lesson.state,
        }
        return self._store().audited(by=by, action=action, pipeline=lesson.pipeline, before=None, after=after)

    # Conditions of a lesson

    def _of(self, pipeline: str) -> tuple[LessonState, LessonFolder]:
        if pipeline not in self._found:
            raise SettingsError(f"{pipeline}: there is no lesson")
        return self._found[pipeline]

    def _check_free(self, pipeline: str) -> None:
        for lesson in self.all():
            if lesson.state == "running":
                raise SettingsError(
                    f"a lesson of {lesson.pipeline} is under way: one at a time, or the line would feel it"
                )
            if lesson.state == "ready" and lesson.pipeline == pipeline:
                raise SettingsError(f"{pipeline}: a lesson waits for a decision: accept or discard it first")

    def _model_of(self, pipeline: str) -> Path:
        """Return the model that the pipeline judges by; raise SettingsError if another pipeline shares it."""
        pipelines = self._pipelines()
        path = Path(current(pipelines, pipeline).status().model)
        sharing = [name for name, other in pipelines.items() if Path(other.status().model) == path]
        if len(sharing) > 1:
            raise SettingsError(f"{' and '.join(sharing)} judge by the same model {path}: give each a copy of its own")
        return path

    def _file(self, pipeline: str) -> Path:
        return self._site().store.folder / "lessons" / f"{pipeline}.json"

    def _new_folder(
        self, model: Path, lesson: LessonState, good: Sequence[Path], bad: Sequence[Path]
    ) -> tuple[LessonFolder, list[Path], list[Path]]:
        """Make the folder of a lesson; return it, and the copies of the good and of the bad images."""
        try:
            folder = LessonFolder.new(model, self._file(lesson.pipeline))
            folder.keep(lesson)
            held = folder.hold(good)
            if len(held) == len(good):
                return folder, held, folder.hold(bad)
        except OSError as error:
            raise SettingsError(
                f"{error.filename}: cannot be written ({error.strerror}): a taught model is made beside the one in "
                "service, so let edgead write there"
            ) from error
        folder.remove()
        raise SettingsError(f"{lesson.pipeline}: the store has just removed images of chosen parts: choose others")

    @contextmanager
    def _change(self) -> Iterator[None]:
        if not self._changing.acquire(timeout=_PATIENCE_S):
            raise SettingsError("another change of a lesson is under way: try again when that has ended")
        try:
            yield
        finally:
            self._changing.release()
