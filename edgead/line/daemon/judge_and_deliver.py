"""Judgement of a chosen frame; its verdict is recorded, counted and sent."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from edgead.errors import EdgeadError
from edgead.images.likeness import Misfit
from edgead.line.daemon.active_model import Recipes
from edgead.line.daemon.drift import PipelineDrift
from edgead.process.log_rate import limited_log
from edgead.profiling.inspector import FrameError, Inspector
from edgead.types import NO_PART, Frame, Palette, Verdict

if TYPE_CHECKING:
    from edgead.line.evidence import EvidenceStore
    from edgead.sinks.queued import QueuedSink

logger = logging.getLogger(__name__)

# For each stage: p99.9 has ten samples above it, in less than a megabyte per pipeline.
_WINDOW = 10_000
# So many frames in a row must fit: two cameras that fill one folder by turns must not raise a notice all day.
_FIT_AGAIN = 3


class JudgementError(EdgeadError):
    """Failure of the detector on an image that it should have judged."""


@dataclass(frozen=True, slots=True)
class Receivers:
    """Receivers of a verdict; `publish` must not wait. `before` is the number of earlier frames kept for the store."""

    store: EvidenceStore
    sinks: tuple[QueuedSink, ...]
    publish: Callable[[Frame, Verdict], None]
    before: int


class Misfits:
    """Record of frames whose size differs from the learnt sizes: from the first such frame until several fit.

    `known`: whether a frame has been judged.
    `newest` ((str, Misfit)): recipe and difference of the newest frame that does not fit; None while frames fit.
    """

    def __init__(self) -> None:
        self.known = False
        self.newest: tuple[str, Misfit] | None = None
        self._fit = 0

    def add(self, recipe: str, misfit: Misfit | None) -> None:
        """Take the difference of the next judged frame; None if it fits."""
        if misfit is not None:
            self.newest, self._fit = (recipe, misfit), 0
        elif self.newest is not None:
            self._fit += 1
            if self._fit >= _FIT_AGAIN:
                self.newest = None
        self.known = True


class Judging:
    """Judge of frames, one after the other, in one thread; any thread may read the counts.

    `pipeline`: name in every verdict.
    `settle`: called with the id of each frame once its verdict is recorded, or with `judged` False, as it gets none.
    `budget_ms`: time budget from capture to verdict.
    """

    def __init__(
        self,
        pipeline: str,
        models: Recipes,
        receivers: Receivers,
        drift: PipelineDrift,
        settle: Callable[..., None],
        *,
        budget_ms: float | None = None,
        palette: Palette = "warm",
    ):
        self.receivers = receivers
        self.inspector = Inspector(pipeline, window=_WINDOW, budget_ms=budget_ms, palette=palette)
        self.latest: tuple[Frame, Verdict] | None = None
        self.taken = self.skipped = self.unasked = self.uninspected = self.parts_missed = 0
        self._models, self._drift, self._settle = models, drift, settle
        self._pipeline, self._log = pipeline, limited_log(__name__, most=20, within_s=60)
        self._before: deque[Frame] = deque(maxlen=receivers.before)
        self.misfits = Misfits()

    def pass_by(self, frame: Frame, *, wanted: bool, paused: bool = False) -> None:
        """Let a frame pass without a verdict: it is not `wanted`, or the pipeline is paused or cannot judge now."""
        self.taken += 1
        self.uninspected += wanted and paused
        self.skipped += wanted and not paused
        self.unasked += not wanted
        self._let_pass(frame, wanted=wanted)

    def _let_pass(self, frame: Frame, *, wanted: bool) -> None:
        self._miss(frame)
        frame = self._models.shown(frame)
        self.receivers.store.follow(frame)
        self._before.append(frame)
        self._settle(frame.id, judged=not wanted)

    def judge(self, frame: Frame) -> Verdict | None:
        """Judge a frame, send its verdict to all receivers and return it; None while the model needs more frames.

        Raises FrameError: this frame cannot be judged; other frames can.
        Raises JudgementError: the detector failed.
        """
        self.taken += 1
        try:
            verdict = self.inspector.judge(frame, self._models.step)
        except FrameError:
            self._skip(frame)
            raise
        except Exception as error:
            self._skip(frame)
            raise JudgementError(f"{type(error).__name__}: {error}") from error
        if verdict is None:
            self._let_pass(frame, wanted=False)
            return None
        frame = self._models.shown(frame)
        self._tell(frame, verdict)
        self.inspector.finish(frame, verdict)
        self.latest = (frame, verdict)
        recipe = self._models.recipe_of(frame)
        misfit = self._models.slots[recipe or ""].misfit(frame)
        self.misfits.add(recipe or "", misfit)
        if recipe is not None and misfit is None:  # a frame of another size says nothing about parts
            self._drift.add(recipe, frame, verdict)  # last: the verdict is out
        return verdict

    def _skip(self, frame: Frame) -> None:
        self.skipped += 1
        self._miss(frame)
        self._settle(frame.id, judged=False)

    def _miss(self, frame: Frame) -> None:
        if frame.part != NO_PART:
            self.parts_missed += 1
            named = frame.part.serial or frame.part
            self._log.warning("%s: frame %d of part %s has no verdict", self._pipeline, frame.number, named)

    def _tell(self, frame: Frame, verdict: Verdict) -> None:
        receivers = self.receivers
        # First: no verdict may be known that is not recorded.
        receivers.store.add(frame, verdict, partial(self._settle, frame.id))
        for sink in receivers.sinks:
            sink.write(frame, verdict)
        receivers.store.follow(frame)
        receivers.store.keep(frame, verdict, tuple(self._before))
        self._before.append(frame)
        receivers.publish(frame, verdict)
