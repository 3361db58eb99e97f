"""Heaps, groups of rejects that look alike: a process sorts a pipeline's last rejects, a person names the groups."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgead.artifact.folder import Artifact
from edgead.detector.known_kinds import is_stale
from edgead.errors import SettingsError
from edgead.line.daemon.teaching.lesson_process import LessonProcess, judge_by_new_version
from edgead.line.site.schema import current
from edgead.unlabelled.sorting.name_kinds import UNKNOWN_LEVEL, KindExamples, joined, keep_kinds, kept_examples

if TYPE_CHECKING:
    from edgead.line.daemon.pipeline import Pipeline
    from edgead.line.daemon.teaching.lessons import Lessons
    from edgead.line.evidence import EvidenceStore
    from edgead.line.site.schema import Site

logger = logging.getLogger(__name__)

MAX_REJECTS = 200
FEWEST = 3  # a kind of fewer parts is not found
_SHOWN = ("heat.jpg", "frame.jpg", "frame.png")
_JOIN_S = 3.0


class SortsRejects(Protocol):
    """Interface of the daemon that heaps use: its current site, pipelines and store, and its lessons."""

    site: Site
    lessons: Lessons

    @property
    def pipelines(self) -> Mapping[str, Pipeline]: ...
    @property
    def store(self) -> EvidenceStore: ...


class Heaps:
    """Heaps of a site, groups of rejects from each pipeline's last sorting, until somebody names or discards them."""

    def __init__(self, daemon: SortsRejects):
        self._daemon = daemon
        self._found: dict[str, dict[str, Any]] = {}
        self._examples: dict[str, tuple[str, dict[str, Any]]] = {}  # by the hash of their model
        self._process = LessonProcess()
        self._thread = threading.Thread()

    def of(self, pipeline: str) -> dict[str, Any]:
        """Return the last sorting: `state`, `reason` of a failure, `heaps`, `left_out`; running: `images`, `done`."""
        found = self._found.get(pipeline, {"state": "none"})
        return found if found["state"] != "running" else {**found, "done": self._process.lines}

    def sort(self, pipeline: str, since: datetime) -> None:
        """Sort a pipeline's last rejects since a time into heaps, in a process of its own; at most 200 with an image.

        Raises EdgeadError: a sorting is running, there are too few rejects, a lesson uses the model, or the pipeline
            judges by another.
        """
        with self._daemon.lessons.changing(pipeline) as path:
            if busy := [name for name, one in self._found.items() if one["state"] == "running"]:
                raise SettingsError(f"rejects of {busy[0]} are being sorted: one at a time, or the line would feel it")
            model, images = self._served(pipeline, path).manifest.manifest_sha256, self._rejects(pipeline, since)
            if len(images) < FEWEST:
                raise SettingsError(
                    f"{pipeline}: {len(images)} rejects of that time have an image, and kinds of fewer than {FEWEST} "
                    "are not found: choose a longer time, or let more parts pass"
                )
            self.discard(pipeline)
            self._found[pipeline], self._process = {"state": "running", "images": len(images)}, LessonProcess()
            order = (pipeline, self._found[pipeline], self._process, [str(path), *images], model, images)
            self._thread = threading.Thread(target=self._sort, args=order, name="sort", daemon=True)
            self._thread.start()

    def name(self, pipeline: str, heaps: Mapping[str, Sequence[str]], *, by: str) -> None:
        """Teach the model kinds of defects, each by the ids of its rejects; it judges at once, the old version is kept.

        If a kind is already shown under a name, that kind gets the rejects.

        Raises EdgeadError: no heaps are ready, a reject is in no heap or in two, no kind can have a name, the model was
            changed meanwhile, or the new one fails its self-test: nothing changes then.
        """
        with self._daemon.lessons.changing(pipeline) as path:
            model, examples = self._examples.get(pipeline, ("", {}))
            artifact = self._served(pipeline, path)
            if artifact.manifest.manifest_sha256 != model:
                raise SettingsError(f"{pipeline}: no heaps of its model as it is now: sort the last rejects first")
            named, kinds = self._named(pipeline, heaps, examples), artifact.manifest.kinds
            before, after = ({} if kinds is None else kinds.counts()), dict(Counter(named.kinds))
            if kinds is not None and not is_stale(artifact.manifest):
                named = joined(kept_examples(artifact), named)
            level = UNKNOWN_LEVEL if kinds is None else kinds.unknown_level
            trust, judging = self._daemon.site.models.open_trust(), current(self._daemon.pipelines, pipeline)
            with self._daemon.store.audited(by=by, action="name kinds", pipeline=pipeline, before=before, after=after):
                made = keep_kinds(artifact, named, level, finish=lambda draft: trust.sign_own(draft, by=by))
                judge_by_new_version(judging, path, made, by=by)
            self.discard(pipeline)

    def discard(self, pipeline: str) -> None:
        """Stop the sorting, or forget its heaps."""
        if self.of(pipeline)["state"] == "running":
            self.close()
        self._found.pop(pipeline, None)
        self._examples.pop(pipeline, None)

    def close(self) -> None:
        """Stop sorting."""
        self._process.stop()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def _served(self, pipeline: str, path: Path) -> Artifact:
        artifact = Artifact.load(path)
        if artifact.manifest.manifest_sha256 != current(self._daemon.pipelines, pipeline).status().model_sha256:
            raise SettingsError(f"{path} is not what {pipeline} judges by: change to that model under System first")
        return artifact

    def _rejects(self, pipeline: str, since: datetime) -> dict[str, dict[str, Any]]:
        """Map images of the last rejects to their ids, without false rejects, other formats and recipes' models."""
        recipes, store = current(self._daemon.site.pipelines, pipeline).recipes, self._daemon.store
        found: dict[str, dict[str, Any]] = {}
        for record in store.verdicts(pipeline=pipeline, decision="reject", limit=MAX_REJECTS):
            other = record["false_reject"] or record.get("other_format") or record["recipe"] in recipes
            path = store.frame(record["id"], pipeline)
            if path and not other and datetime.fromisoformat(record["judged_at"]) >= since:
                shown = next((name for name in _SHOWN if name in record["images"]), None)
                found[str(path)] = {"verdict": record["id"], "image": shown}
        return found

    def _sort(
        self, pipeline: str, began: Any, process: LessonProcess, words: list[str], model: str, images: dict[str, Any]
    ) -> None:
        done, examples = {"state": "failed"}, {}  # type: dict[str, Any], dict[str, Any]
        try:
            within_s = self._daemon.site.limits.lesson_s
            _, out, errors = process.output("edgead.unlabelled.sorting.worker", words, within_s)
            said = json.loads(out.strip() or "{}")
            if "heaps" in said:
                heaps = [[images[image] for image in heap] for heap in said["heaps"]]
                done = {"state": "ready", "heaps": heaps, "clear": said["clear"], "left_out": said["left_out"]}
                examples = {images[image]["verdict"]: example for image, example in said["examples"].items()}
            else:
                logger.warning("%s: rejects were not sorted: %s", pipeline, errors or out)
                done["reason"] = said.get("problem", "the process that sorts ended early: the log says why")
        except Exception as error:  # noqa: BLE001  the edge of a thread: the person must learn how it ended
            logger.exception("%s: rejects were not sorted", pipeline)
            done["reason"] = str(error)
        if self._found.get(pipeline) is began:  # nobody has discarded it
            self._found[pipeline], self._examples[pipeline] = done, (model, examples)

    def _named(self, pipeline: str, heaps: Mapping[str, Sequence[str]], examples: dict[str, Any]) -> KindExamples:
        ids = [id for heap in heaps.values() for id in heap]
        if wrong := [id for id in ids if id not in examples or ids.count(id) > 1]:
            raise SettingsError(f"{wrong[0]}: is in no heap, or in two: sort the rejects again")
        shown = self._daemon.store.kinds.known(pipeline)
        kinds = [(shown.get(name) or [name])[0] for name, heap in heaps.items() for _ in heap]
        rows = np.array([examples[id]["descriptor"] for id in ids], np.float32)
        return KindExamples(kinds, rows, [examples[id]["part"] for id in ids])
