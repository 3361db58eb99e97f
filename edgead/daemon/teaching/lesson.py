"""A lesson of a pipeline's model: what was asked for, how far it is, and what the taught model would change."""

from __future__ import annotations

import secrets
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edgead.files.atomic import write_whole

_MARK = ".lesson."


class Doubt(BaseModel):
    """A part that stands far from anything good, and what it looks like."""

    verdict: str
    of_limit: float
    scaled_score: float | None = None
    doubt: str


class Lesson(BaseModel):
    """What a pipeline's model is being taught.

    Attributes
    ----------
    state : str
        running; refused: the guard stopped it, and where `doubtful` names parts a reason lets them be learnt; failed;
        ready: the taught model waits for a decision.
    good : tuple of str
        Ids of the verdicts whose parts are learnt.
    bad : int
        How many parts that were marked bad test it.
    because : str
        Why also what stands far from anything good is learnt; empty where it is not.
    model_sha256 : str
        Of the model that is taught.
    report : dict
        `before` and `after` of `edgead teach --json`, with the ids of verdicts in the place of paths.
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
    doubtful: tuple[Doubt, ...] = ()
    report: dict[str, Any] | None = None


class _Record(BaseModel):
    folder: Path
    lesson: Lesson


class LessonFolder:
    """Where a lesson makes its draft and its sheet: hidden beside the model, so that one step brings the draft there.

    A file in the store says what lies there, and whether it is whole.
    """

    def __init__(self, path: Path, file: Path):
        self._path, self._file = path, file
        self.model, self.sheet = path / "model", path / "sheet.jpg"

    @classmethod
    def new(cls, model: Path, file: Path) -> LessonFolder:
        """Make one; its name is nobody else's, also where a process of an earlier daemon still writes into its own."""
        model = model.resolve()
        path = model.with_name(f".{model.name}{_MARK}{secrets.token_hex(4)}")
        path.mkdir()
        return cls(path, file)

    def keep(self, lesson: Lesson) -> None:
        """Write down how far the lesson is."""
        write_whole(self._file, _Record(folder=self._path, lesson=lesson).model_dump_json().encode())

    def remove(self) -> None:
        """Remove all of it, the drafts first: what is left after a kill is found again by its file.

        A process of a daemon that was killed may have made its own folder again after that was removed.
        """
        before, mark, _ = self._path.name.partition(_MARK)
        if mark:
            for path in self._path.parent.glob(f"{before}{mark}*"):
                shutil.rmtree(path, ignore_errors=True)
        self._file.unlink(missing_ok=True)


def take_up(file: Path) -> tuple[Lesson, LessonFolder] | None:
    """Find a lesson that an earlier daemon left to be decided on; what it left half-way is removed."""
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
