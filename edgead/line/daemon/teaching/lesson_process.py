"""Lesson: the process that teaches a copy of a pipeline's model, the images of marked parts, and the lesson's folder.

The process is `edgead teach`, with the lowest priority and a time limit; the sorting of rejects runs the same way.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edgead.artifact.earlier_versions import earlier_versions, exchange, replace
from edgead.errors import SettingsError
from edgead.files.atomic import write_whole
from edgead.line.site.schema import PipelineSection
from edgead.types import scaled_score

if TYPE_CHECKING:
    from edgead.artifact.folder import Artifact
    from edgead.line.daemon.pipeline import Pipeline
    from edgead.line.evidence import EvidenceStore

MAX_PARTS = 200
_MARK = ".lesson."
_PROGRAM = (
    "import sys; from edgead.process.background_process import stay_behind; stay_behind(int(sys.argv.pop(1)));"
    "from importlib import import_module; import_module(sys.argv.pop(1)).main()"
)
_END_S, _LOOK_S = 2.0, 0.5


def good_images(store: EvidenceStore, pipeline: str, section: PipelineSection, ids: Sequence[str]) -> list[Path]:
    """Find the images of the chosen parts.

    Raises SettingsError: a part is not marked good, was judged by a recipe's model, has another format than the model
        learnt, or has no image.
    """
    if len(ids) > MAX_PARTS:
        raise SettingsError(f"{len(ids)} parts are chosen: teach at most {MAX_PARTS} at a time")
    paths = []
    for id in dict.fromkeys(ids):
        record = store.verdict(id, pipeline=pipeline)
        if record is None or (record["mark"] or {}).get("verdict") != "good":
            raise SettingsError(f"{id}: no part of {pipeline} with that id is marked good")
        if record["recipe"] in section.recipes:
            raise SettingsError(f"{id}: was judged by the model of the recipe {record['recipe']}, not by this one")
        if record.get("other_format"):
            raise SettingsError(
                f"{id}: its frame has another format than the model learnt ({record['other_format']}), so it shows "
                "another part of the scene, or less of it: set the camera back, or make a model for this format"
            )
        path = store.frame(id, pipeline)
        if path is None:
            raise SettingsError(f"{id}: the store keeps no image of it")
        paths.append(path)
    return paths


def bad_images(store: EvidenceStore, pipeline: str, section: PipelineSection) -> list[Path]:
    """Find the images of the newest parts that are marked bad, without parts that recipes' models judged."""
    marked = store.verdicts(pipeline=pipeline, mark="bad", limit=MAX_PARTS)
    own = (record["id"] for record in marked if record["recipe"] not in section.recipes)
    return [path for id in own if (path := store.frame(id, pipeline))]


def judge_by_new_version(
    judging: Pipeline, model: Path, taught: Artifact, *, by: str, refused: Path | None = None
) -> None:
    """Let a pipeline judge by the new version at its model's path; on an error, put the version before back.

    The refused version goes to the path `refused`, or is removed.
    """
    try:
        judging.slot.carry_thresholds(taught)
        judging.swap(model, by=by)
    except BaseException:
        place = model.resolve()  # the model, and not a link to it
        before = earlier_versions(place)[-1]
        if refused is None:
            replace(place, before)
        else:
            exchange(place, before, refused)
        raise


class DoubtfulPart(BaseModel):
    """Part that is far from all good parts: its scores, and the likeliest explanation."""

    verdict: str
    of_limit: float
    scaled_score: float | None = None
    doubt: str


class LessonState(BaseModel):
    """State of a lesson for a pipeline's model.

    `state`: running; failed; ready: the taught model waits for a decision; refused: `edgead teach` did not accept the
        parts in `doubtful`, and a person may give a reason for them.
    `good`: ids of the verdicts on the parts to learn.
    `bad`: number of parts marked bad that test the taught model.
    `because`: a person's reason for also learning parts that are far from all good parts; empty if these are not
        learnt.
    `model_sha256`: hash of the model whose copy is taught.
    `report`: `before` and `after` of `edgead teach --json`, with the ids of verdicts added; and the number `left_out`.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    pipeline: str
    state: Literal["running", "refused", "failed", "ready"] = "running"
    by: str
    since: datetime
    good: tuple[str, ...]
    bad: int
    because: str = ""
    model_sha256: str
    reason: str = ""
    doubtful: tuple[DoubtfulPart, ...] = ()
    report: dict[str, Any] | None = None


class _Record(BaseModel):
    folder: Path
    lesson: LessonState


class LessonFolder:
    """Folder of a lesson's taught model and sheet, hidden beside the model, so that one rename replaces the model.

    A file in the store's folder records the lesson and its state; copies of the images lie beside that file.
    """

    def __init__(self, path: Path, file: Path):
        self._path, self._file = path, file
        self._images = file.with_suffix("")
        self.model, self.sheet = path / "model", path / "sheet.jpg"

    @classmethod
    def new(cls, model: Path, file: Path) -> LessonFolder:
        """Make a folder with a new name: a process of an earlier daemon may still write into an old folder."""
        model = model.resolve()
        path = model.with_name(f".{model.name}{_MARK}{secrets.token_hex(4)}")
        path.mkdir()
        made = cls(path, file)
        made.let_go()
        return made

    def keep(self, lesson: LessonState) -> None:
        """Write the state of the lesson to its file."""
        write_whole(self._file, _Record(folder=self._path, lesson=lesson).model_dump_json().encode())

    def hold(self, images: Sequence[Path]) -> list[Path]:
        """Link or copy images of the store, which may delete them at any time; return those that still exist."""
        held = []
        for image in images:
            place = self._images / image.parent.name / image.name
            place.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                try:
                    os.link(image, place)
                except OSError:  # a file system without links, or a folder of the store's on another one
                    shutil.copyfile(image, place)
                held.append(place)
        return held

    def let_go(self) -> None:
        """Delete the copies that `hold` has made."""
        shutil.rmtree(self._images, ignore_errors=True)

    def remove(self) -> None:
        """Remove folder, images and file; the file last, so that after a kill it still leads to the rest.

        All lesson folders of the model are removed: the process of a killed daemon may have made its folder again.
        """
        before, mark, _ = self._path.name.partition(_MARK)
        if mark:
            for path in self._path.parent.glob(f"{before}{mark}*"):
                shutil.rmtree(path, ignore_errors=True)
        self.let_go()
        self._file.unlink(missing_ok=True)


def take_up(file: Path) -> tuple[LessonState, LessonFolder] | None:
    """Read a lesson that an earlier daemon left ready for a decision; remove an unfinished one, and return None."""
    try:
        record = _Record.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        file.unlink(missing_ok=True)
        return None
    folder = LessonFolder(record.folder, file)
    if record.lesson.state == "ready" and folder.model.is_dir():
        return record.lesson, folder
    folder.remove()
    return None


# One thread each: a core that is idle for a moment is enough.
_ONE_THREAD = {name: "1" for name in ("EDGEAD_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


@dataclass(frozen=True, slots=True)
class LessonResult:
    """Result of a lesson's process: its report, its refusal of doubtful parts, or the reason of its failure."""

    report: dict[str, Any] | None = None
    refusal: dict[str, Any] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LessonOrder:
    """Order for a lesson: model, images, author, the paths of the taught model and the sheet, and limits in force."""

    model: Path
    good: Sequence[Path]
    bad: Sequence[Path]
    output: Path
    sheet: Path
    by: str
    reason: str
    in_force: Mapping[str, float | None] | None = None

    @property
    def arguments(self) -> list[str]:
        bad = [word for path in self.bad for word in ("--bad", str(path))]
        places = ["--output", str(self.output), "--sheet", str(self.sheet), "--by", self.by]
        reason = ["--reason", self.reason] if self.reason else []  # an empty word is refused as a slip
        limits = ["--in-force", *(repr(self.in_force[name]) for name in ("review", "reject"))] if self.in_force else []
        words = ["--threads", "1", "teach", *places, *bad, "--yes", "--json", *reason, *limits]
        return [*words, "--", str(self.model), *map(str, self.good)]


class LessonProcess:
    """Process of low priority beside the inspection; one thread calls `run` or `output`, any thread may call `stop`.

    `stopped`: whether somebody, or the time limit, has stopped the process.
    `lines`: number of lines that the process has printed, as far as `output` has seen.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.stopped, self.lines = False, 0
        self._lock = threading.Lock()

    def run(self, task: LessonOrder, within_s: float) -> LessonResult:
        """Run `edgead teach`, and wait for its result."""
        try:
            return _read(*self.output("edgead.cli", task.arguments, within_s))
        except SettingsError as error:
            return LessonResult(reason=str(error))

    def output(self, module: str, arguments: Sequence[str], within_s: float) -> tuple[int, str, str]:
        """Run the `main` of a module; return exit code, stdout and stderr. SettingsError: stopped, or out of time."""
        with self._lock:
            if self.stopped:
                raise SettingsError("stopped before it began")
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(os.getpid()), module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | _ONE_THREAD,
                text=True,
                start_new_session=True,
            )
        ends_s = time.monotonic() + within_s
        while (left_s := ends_s - time.monotonic()) > 0:
            try:
                out, errors = self._process.communicate(timeout=min(left_s, _LOOK_S))
                return self._process.returncode, out, errors
            except subprocess.TimeoutExpired as error:
                self.lines = (error.output or b"").count(b"\n")  # bytes, also of a process with texts
        self.stop()
        self._process.communicate()
        raise SettingsError(f"not ready within {within_s:g} s: choose fewer parts, or raise limits.lesson_s")

    def stop(self) -> None:
        """End the process: first by SIGTERM, so that it can clean up, then by SIGKILL."""
        with self._lock:
            self.stopped = True
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()


def ended(lesson: LessonState, taught: LessonResult) -> LessonState:
    """Return a lesson with the state that follows from its process's result."""
    if taught.report is not None:
        return lesson.model_copy(update={"state": "ready", "report": _with_ids(taught.report)})
    if taught.refusal is None:
        return lesson.model_copy(update={"state": "failed", "reason": taught.reason})
    doubtful = tuple(
        DoubtfulPart(
            verdict=_id_of(one["image"]),
            of_limit=one["score"] / one["limit"],
            scaled_score=scaled_score(one["score"], one["typical"], one["limit"]),
            doubt=one["doubt"],
        )
        for one in taught.refusal["doubtful"]
    )
    update = {"state": "refused", "reason": taught.refusal["refused"], "doubtful": doubtful}
    return lesson.model_copy(update=update)


def _with_ids(report: dict[str, Any]) -> dict[str, Any]:
    """Return the judgements of a report, with the ids of verdicts added to its images."""
    judgements = {
        when: {
            precision: {**judged, "parts": [{**part, "verdict": _id_of(part["image"])} for part in judged["parts"]]}
            for precision, judged in report[when].items()
        }
        for when in ("before", "after")
    }
    return {**judgements, "left_out": report.get("left_out", 0)}


def _id_of(image: str) -> str:
    return Path(image).parent.name.partition(".")[0]  # its folder has the verdict's id, or ID.2 for a second pipeline


def _read(code: int, out: str, errors: str) -> LessonResult:
    try:
        found = json.loads(out) if out else {}
    except ValueError:
        found = {}
    if code == 0 and "after" in found:
        return LessonResult(report=found)
    if "refused" in found:
        return LessonResult(refusal=found)
    _, found_one, said = errors.rpartition("error: ")
    return LessonResult(reason=said.strip() if found_one else f"edgead teach ended with code {code}, see the log")
