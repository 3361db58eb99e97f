"""Process of a lesson, behind everything else: `edgead teach`, with a limit of time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.daemon.teaching.lesson import Doubt, Lesson
from edgead.types import scaled_score

_PROGRAM = (
    "from edgead.process.background_process import stay_behind; stay_behind(); from edgead.cli import main; main()"
)
# One thread each: a core that is free for a moment is enough.
_ONE_THREAD = {name: "1" for name in ("EDGEAD_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
_END_S = 2.0


@dataclass(frozen=True, slots=True)
class Taught:
    """How a lesson ended: its report, or that of the guard's refusal, or else the reason why there is none."""

    report: dict[str, Any] | None = None
    refusal: dict[str, Any] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """What to teach, by whom, and where draft and sheet go."""

    model: Path
    good: Sequence[Path]
    bad: Sequence[Path]
    output: Path
    sheet: Path
    by: str
    reason: str

    @property
    def arguments(self) -> list[str]:
        bad = [word for path in self.bad for word in ("--bad", str(path))]
        places = ["--output", str(self.output), "--sheet", str(self.sheet), "--by", self.by]
        words = ["--threads", "1", "teach", *places, *bad, "--yes", "--json", "--reason", self.reason]
        return [*words, "--", str(self.model), *map(str, self.good)]


class LessonProcess:
    """One process that teaches; `run` is one thread's, `stop` may come from any.

    Attributes
    ----------
    stopped : bool
        Somebody has ended it, or its time.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.stopped = False
        self._lock = threading.Lock()

    def run(self, task: Task, within_s: float) -> Taught:
        """Teach, and wait for the end."""
        with self._lock:
            if self.stopped:
                return Taught(reason="stopped before it began")
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *task.arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | _ONE_THREAD,
                text=True,
                start_new_session=True,
            )
        try:
            out, errors = self._process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            self.stop()
            self._process.communicate()
            return Taught(reason=f"not ready within {within_s:g} s: teach fewer parts, or raise limits.lesson_s")
        return _read(self._process.returncode, out, errors)

    def stop(self) -> None:
        """End it: first so that it cleans up, then at once."""
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


def ended(lesson: Lesson, taught: Taught) -> Lesson:
    """Give a lesson as it is after its process has ended."""
    if taught.report is not None:
        return lesson.model_copy(update={"state": "ready", "report": _with_ids(taught.report)})
    if taught.refusal is None:
        return lesson.model_copy(update={"state": "failed", "reason": taught.reason})
    doubtful = tuple(
        Doubt(
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
    """The judgements of a report, whose images are named by their verdicts."""
    return {
        when: {
            precision: {**judged, "parts": [{**part, "verdict": _id_of(part["image"])} for part in judged["parts"]]}
            for precision, judged in report[when].items()
        }
        for when in ("before", "after")
    }


def _id_of(image: str) -> str:
    return Path(image).parent.name  # an image of a verdict lies in a folder of its id


def _read(code: int, out: str, errors: str) -> Taught:
    try:
        found = json.loads(out) if out else {}
    except ValueError:
        found = {}
    if code == 0 and "after" in found:
        return Taught(report=found)
    if "refused" in found:
        return Taught(refusal=found)
    _, found_one, said = errors.rpartition("error: ")
    return Taught(reason=said.strip() if found_one else f"edgead teach ended with code {code}, see the log")
