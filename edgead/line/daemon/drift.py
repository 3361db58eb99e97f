"""Drift of a pipeline: each recipe's parts are compared with its own good parts; one state for all recipes."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import SettingsError
from edgead.files.atomic import write_whole
from edgead.line.drift import DriftSection, DriftState, DriftWatch, OtherWatchError
from edgead.types import Frame, Verdict

if TYPE_CHECKING:
    from edgead.line.daemon.active_model import ActiveModel

logger = logging.getLogger(__name__)

# After months the state has some hundred kilobytes: writing it delays a frame.
_SAVE_EVERY_S = 600.0
# An image takes a millisecond or two to measure, and light does not change from part to part.
_IMAGE_EVERY_S = 1.0
# A failure may come again with each part.
_OFF_S = 60.0


class ModelDrift:
    """Drift watch of one model; only its pipeline's thread calls `add` and `save`, any thread may read `state`.

    `pipeline`: pipeline's name, with the recipe if the model has one.
    `slot`: model whose good parts are compared with the stream.
    `section`: none watches nothing.
    `file`: file that keeps the state.
    """

    def __init__(self, pipeline: str, slot: ActiveModel, section: DriftSection | None, file: Path):
        self.state: DriftState | None = None
        self._pipeline, self._slot, self._section, self._file = pipeline, slot, section, file
        self._watch: DriftWatch | None = None
        self._model = ""
        self._start_again = threading.Event()
        self._image_s = self._off_until_s = 0.0
        self._may_restore = True
        self._save_s = time.monotonic() + _SAVE_EVERY_S

    @property
    def watched(self) -> bool:
        return self._watch is not None

    def begin(self) -> None:
        """Continue from the kept state before the first part comes: an earlier warning still stands."""
        self._watching(lambda section: self._open_for(self._slot.model, section))

    def add(self, frame: Frame, verdict: Verdict) -> None:
        """Take the verdict of the next part; each warning is logged once."""
        self._watching(lambda section: self._look(section, frame, verdict))

    def _watching(self, do: Callable[[DriftSection], None]) -> None:
        """Run an action if drift is watched; a failure is logged and is no fault of the pipeline: drift only warns."""
        if self._section is None or time.monotonic() < self._off_until_s:
            return
        try:
            do(self._section)
        except Exception:  # noqa: BLE001  beside the inspection, which must not stop for it
            logger.exception("%s: the drift watch failed and is off for %g s", self._pipeline, _OFF_S)
            self._model, self._watch, self.state = "", None, None
            self._may_restore = False  # the kept state may be the cause
            self._off_until_s = time.monotonic() + _OFF_S

    def _look(self, section: DriftSection, frame: Frame, verdict: Verdict) -> None:
        self._open_for(verdict.model, section)
        if self._watch is None:
            return
        if self._start_again.is_set():
            self._start_again.clear()
            self._watch.accept()
        now_s = time.monotonic()
        looks = now_s >= self._image_s
        if looks:
            self._image_s = now_s + _IMAGE_EVERY_S
        before, self.state = self.state, self._watch.add(verdict, frame.image if looks else None)
        if self.state.state == "warning" and (before is None or before.cause != self.state.cause):
            facts = {"pipeline": self._pipeline, "cause": self.state.cause, "alarm_part": self.state.alarm_part}
            logger.warning("%s: drift: %s", self._pipeline, self.state.reason, extra=facts)
        if now_s >= self._save_s:
            self.save()

    def start_again(self) -> None:
        """Let the next part forget the warning and all earlier parts; from any thread.

        Raises SettingsError: no drift is watched.
        """
        if not self.watched:
            raise SettingsError(f"{self._pipeline}: no drift is watched")
        self._start_again.set()

    def save(self) -> None:
        """Keep the state for the next start; a failed write is logged, and harmless."""
        self._save_s = time.monotonic() + _SAVE_EVERY_S
        if self._watch is None:
            return
        try:
            write_whole(self._file, json.dumps(self._watch.to_dict()).encode(), durable=False)
        except OSError as error:
            logger.warning("%s: the state of the drift watch is not kept: %s", self._pipeline, error.strerror)

    def _open_for(self, model: str, section: DriftSection) -> None:
        if model != self._model:
            self._model, self._watch, self.state = model, None, None
            try:
                self._watch = self._open(section)
            except SettingsError as error:
                facts = {"pipeline": self._pipeline}
                logger.warning("%s: drift is not watched: %s", self._pipeline, error, extra=facts)
                self.state = DriftState("off", None, str(error), 0, None, 0.0)
            else:
                self.state = self._watch.state

    def _open(self, section: DriftSection) -> DriftWatch:
        watch = self._slot.drift_watch(section)
        if not self._may_restore:
            return watch
        try:
            watch.restore(json.loads(self._file.read_bytes()))
        except FileNotFoundError:
            pass
        except OtherWatchError as error:  # as after every exchange of a model
            logger.info("%s: the drift watch begins: %s", self._pipeline, error)
        except Exception as error:  # noqa: BLE001  a kept state must never cause a fault
            what = f"{type(error).__name__}: {error}"
            logger.warning(
                "%s: the state in %s is dropped, the drift watch begins: %s", self._pipeline, self._file, what
            )
        return watch


class PipelineDrift:
    """Drift watches of a pipeline's own model and of its recipes' models.

    Each watch has the section's rate of false alarms among its own parts, so all together have the same rate.

    `slots`: the models by recipe; "" is the pipeline's own.
    `section`: none watches nothing.
    `folder`: folder that keeps the states.
    """

    def __init__(self, pipeline: str, slots: Mapping[str, ActiveModel], section: DriftSection | None, folder: Path):
        self._pipeline = pipeline
        self._newest: str | None = None  # until the first part comes
        self._watches = {
            recipe: ModelDrift(
                f"{pipeline}/{recipe}" if recipe else pipeline, slot, section, folder / _file_name(pipeline, recipe)
            )
            for recipe, slot in slots.items()
        }

    @property
    def state(self) -> DriftState | None:
        """State of the first recipe with a warning; without a warning, the state of the recipe that came last."""
        for recipe, watch in self._watches.items():
            state = watch.state
            if state is not None and state.state == "warning":
                return replace(state, reason=f"recipe {recipe}: {state.reason}") if recipe else state
        return None if self._newest is None else self._watches[self._newest].state

    def add(self, recipe: str, frame: Frame, verdict: Verdict) -> None:
        """Take the next part, which a recipe's model has judged; see `ModelDrift.add`."""
        if self._newest is None:  # a warning also stays of a recipe without a part since the start
            for watch in self._watches.values():
                watch.begin()
        self._newest = recipe
        self._watches[recipe].add(frame, verdict)

    def require_watched(self) -> None:
        """Raise SettingsError if no drift is watched."""
        if not any(watch.watched for watch in self._watches.values()):
            raise SettingsError(f"{self._pipeline}: no drift is watched")

    def start_again(self) -> None:
        """Start the watches with a warning again, or all watches if none has a warning; from any thread."""
        watched = [(watch, watch.state) for watch in self._watches.values() if watch.watched]
        warn = [watch for watch, state in watched if state is not None and state.state == "warning"]
        for watch in warn or [watch for watch, _ in watched]:
            watch.start_again()

    def save(self) -> None:
        """Keep all states for the next start."""
        for watch in self._watches.values():
            watch.save()


def _file_name(pipeline: str, recipe: str) -> str:
    """Return the name of the file that keeps the state; the recipe is hashed, since it may have any character."""
    return f"{pipeline}.{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.json" if recipe else f"{pipeline}.json"
