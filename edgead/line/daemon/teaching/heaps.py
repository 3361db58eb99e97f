"""Heaps of rejects: the last ones of a pipeline, sorted in a process, and named in its model by a person."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgead.artifact.folder import Artifact
from edgead.artifact.versions import earlier_versions, replace
from edgead.detector.known_kinds import is_stale
from edgead.errors import SettingsError
from edgead.line.daemon.teaching.lesson import LessonProcess
from edgead.line.daemon.teaching.lessons import Lessons
from edgead.line.evidence.folder import FRAMES
from edgead.line.site.schema import Site, current
from edgead.unlabelled.sorting.name_kinds import UNKNOWN_LEVEL, Examples, joined, keep_kinds, kept_examples

if TYPE_CHECKING:
    from edgead.line.daemon.pipeline import Pipeline
    from edgead.line.evidence import EvidenceStore

logger = logging.getLogger(__name__)

MAX_REJECTS = 200
_FEWEST = 3  # parts of a kind that can be found
_SHOWN = ("heat.jpg", "frame.jpg", "frame.png")
_JOIN_S = 3.0


class Reject(BaseModel):
    """Reject in a heap: the id of its verdict, and the name of the image that shows it, None without one."""

    verdict: str
    image: str | None


class Sorting(BaseModel):
    """State of sorting: running; failed, with the reason; ready: heaps of rejects wait for names."""

    model_config = ConfigDict(frozen=True)

    state: Literal["running", "failed", "ready"] = "running"
    reason: str = ""
    heaps: tuple[tuple[Reject, ...], ...] = ()
    left_out: int = 0


class Heaps:
    """Heaps of a site: those of each pipeline's last sorting, until somebody names or discards them.

    Parameters
    ----------
    site, pipelines, store : callable
        As those of `Lessons`.
    lessons : Lessons
        Change the same models, so one of both at a time.
    """

    def __init__(
        self,
        site: Callable[[], Site],
        pipelines: Callable[[], Mapping[str, Pipeline]],
        store: Callable[[], EvidenceStore],
        lessons: Lessons,
    ):
        self._site, self._pipelines, self._store, self._lessons = site, pipelines, store, lessons
        self._found: dict[str, Sorting] = {}
        self._described: dict[str, tuple[str, dict[str, Any]]] = {}  # hash of the model, examples by id
        self._process: LessonProcess | None = None
        self._thread: threading.Thread | None = None

    def of(self, pipeline: str) -> Sorting | None:
        """Return the last sorting of a pipeline; None if there is none."""
        return self._found.get(pipeline)

    def sort(self, pipeline: str, since: datetime) -> None:
        """Sort the last rejects of a pipeline since a time, in a process of its own; at most 200 that have an image.

        Raises
        ------
        EdgeadError
            Rejects are being sorted or too few, a lesson has the model, or the pipeline judges by another one.
        """
        with self._lessons.changing(pipeline) as path:
            if busy := [name for name, one in self._found.items() if one.state == "running"]:
                raise SettingsError(f"rejects of {busy[0]} are being sorted: one at a time, or the line would feel it")
            model, images = self._served(pipeline, path).manifest.manifest_sha256, self._rejects(pipeline, since)
            if len(images) < _FEWEST:
                raise SettingsError(
                    f"{pipeline}: {len(images)} rejects of that time have an image, and kinds of fewer than {_FEWEST} "
                    "are not found: choose a longer time, or let more parts pass"
                )
            self._found[pipeline], self._process = Sorting(), LessonProcess()
            self._thread = threading.Thread(
                target=self._sort, args=(pipeline, self._process, path, model, images), name="sort", daemon=True
            )
            self._thread.start()

    def name(self, pipeline: str, heaps: Sequence[tuple[str, Sequence[str]]], *, by: str) -> None:
        """Teach the model the kinds of heaps with a name; it judges at once, and the version before is kept.

        Parameters
        ----------
        heaps : sequence of (str, sequence of str)
            The name of a kind, as it is shown, and the ids of its rejects.

        Raises
        ------
        EdgeadError
            No heaps are ready, a reject is in none or in two, names that no kind can have, the model was changed
            meanwhile, or fails its self-test: nothing changes then.
        """
        with self._lessons.changing(pipeline) as path:
            if pipeline not in self._described:
                raise SettingsError(f"{pipeline}: no heaps are ready: sort the last rejects first")
            model, examples = self._described[pipeline]
            artifact = self._served(pipeline, path)
            if artifact.manifest.manifest_sha256 != model:
                raise SettingsError(f"{path} was changed since the rejects were sorted: sort them again")
            named, kinds = self._examples(pipeline, heaps, examples), artifact.manifest.kinds
            before, after = ({} if kinds is None else kinds.counts()), dict(Counter(named.kinds))
            if kinds is not None and not is_stale(artifact.manifest):
                named = joined(kept_examples(artifact), named)
            with self._store().audited(by=by, action="name kinds", pipeline=pipeline, before=before, after=after):
                made = keep_kinds(
                    artifact,
                    named,
                    UNKNOWN_LEVEL if kinds is None else kinds.unknown_level,
                    finish=lambda draft: self._site().models.open_trust().sign_own(draft, by=by),
                )
                try:
                    judging = current(self._pipelines(), pipeline)
                    judging.carry_thresholds(made)
                    judging.swap(path, by=by)
                except BaseException:
                    replace(path, earlier_versions(path)[-1])
                    raise
            self._forget(pipeline)

    def discard(self, pipeline: str) -> None:
        """Stop sorting, or forget the heaps."""
        if self._found.get(pipeline, Sorting(state="ready")).state == "running":
            self.close()
        self._forget(pipeline)

    def close(self) -> None:
        """Stop sorting."""
        if self._process is not None and self._thread is not None:
            self._process.stop()
            self._thread.join(_JOIN_S)

    def _forget(self, pipeline: str) -> None:
        self._found.pop(pipeline, None)
        self._described.pop(pipeline, None)

    def _served(self, pipeline: str, path: Path) -> Artifact:
        artifact = Artifact.load(path)
        if artifact.manifest.manifest_sha256 != current(self._pipelines(), pipeline).status().model_sha256:
            raise SettingsError(f"{path} is not what {pipeline} judges by: change to that model under System first")
        return artifact

    def _rejects(self, pipeline: str, since: datetime) -> dict[str, Reject]:
        """Find the last rejects and their images, without good parts, other formats and models of recipes."""
        section, store, found = current(self._site().pipelines, pipeline), self._store(), {}
        for record in store.verdicts(pipeline=pipeline, decision="reject", limit=MAX_REJECTS):
            if datetime.fromisoformat(record["judged_at"]) < since:
                break
            if record["false_reject"] or record.get("other_format") or record["recipe"] in section.recipes:
                continue
            images = record["images"]
            paths = (store.image(record["id"], name, pipeline=pipeline) for name in FRAMES)
            if path := next(filter(None, paths), None):
                shown = next((name for name in _SHOWN if name in images), None)
                found[str(path)] = Reject(verdict=record["id"], image=shown)
        return found

    def _sort(self, pipeline: str, process: LessonProcess, path: Path, model: str, images: dict[str, Reject]) -> None:
        try:
            words = [str(path), *images]
            _, out, errors = process.output("edgead.unlabelled.sorting.worker", words, self._site().limits.lesson_s)
            found = json.loads(out or "{}")
            if "heaps" not in found:
                logger.warning("%s: rejects were not sorted: %s", pipeline, errors or out)
                raise SettingsError(found.get("problem", "the process that sorts ended early: the log says why"))
            heaps = tuple(tuple(images[image] for image in heap) for heap in found["heaps"])
            done = Sorting(state="ready", heaps=heaps, left_out=found["left_out"])
            if self._process is process and not process.stopped:
                examples = {images[image].verdict: example for image, example in found["examples"].items()}
                self._described[pipeline] = model, examples
        except SettingsError as error:
            done = Sorting(state="failed", reason=str(error))
        except Exception as error:  # noqa: BLE001  the edge of a thread: the person must learn how it ended
            logger.exception("%s: rejects were not sorted", pipeline)
            done = Sorting(state="failed", reason=f"{type(error).__name__}: {error}")
        if not process.stopped:
            self._found[pipeline] = done

    def _examples(
        self, pipeline: str, heaps: Sequence[tuple[str, Sequence[str]]], examples: Mapping[str, Any]
    ) -> Examples:
        ids = [id for _, heap in heaps for id in heap]
        if wrong := [id for id in ids if id not in examples or ids.count(id) > 1]:
            raise SettingsError(f"{wrong[0]}: is in no heap, or in two: sort the rejects again")
        shown = self._store().kinds.known(pipeline)  # a name that people see is one of the model's, or a new one
        kinds = [(shown.get(name) or [name])[0] for name, heap in heaps for _ in heap]
        rows = np.array([examples[id]["descriptor"] for id in ids], np.float32)
        return Examples(kinds, rows, [examples[id]["part"] for id in ids])
