"""Models in service: each is tested before it judges, exchanged between two frames, and kept for a roll-back.

A part's recipe chooses the model that judges it; another model never takes its place silently.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgead.artifact.earlier_versions import bring_back, restore_missing
from edgead.artifact.folder import Artifact
from edgead.detector import Detector, Measurement, Session
from edgead.detector.known_kinds import is_stale
from edgead.errors import EdgeadError, SettingsError
from edgead.images.likeness import Misfit
from edgead.images.pairs import judged_of
from edgead.line.daemon.self_test import SelfTest, golden_images, self_test, too_late
from edgead.line.daemon.thresholds import KeptThresholds, PipelineThresholds, ThresholdRecord, thresholds_of
from edgead.line.drift import DriftSection, DriftWatch
from edgead.line.site.schema import PipelineSection
from edgead.process import memory
from edgead.types import Frame, Verdict

logger = logging.getLogger(__name__)

_CLOSE_S = 0.3
# Longest wait of small changes for another change: a waiting request holds one of the page's few threads.
PATIENCE_S = 0.5


class SlotBusyError(SettingsError):
    """Refusal of a change, because another change is under way."""


def named(model: Path, sha256: str) -> str:
    """Return the text that names a model in the audit: its path, and the hash that verdicts show, if it is known."""
    return f"{model} ({sha256[:16]})" if sha256 else str(model)


class ActiveModel:
    """Model of one pipeline, loaded, exchanged and closed; only its thread calls `step`, any thread the other methods.

    `pipeline`: name of the pipeline, which errors name.
    `threads`: threads of the network, unless the section says so.
    `accept`: raises if the site does not accept a model.
    """

    def __init__(
        self,
        pipeline: str,
        section: PipelineSection,
        kept: KeptThresholds,
        *,
        threads: int | None = None,
        accept: Callable[[Artifact], None] = lambda artifact: None,
    ):
        self._pipeline = pipeline
        self.detector: Detector | None = None
        self._session: Session | None = None  # of the detector, once it has seen a frame
        self._using = threading.Lock()  # held for one image at most
        self.path, self.section, self._accept = section.model, section, accept
        self._kept, self._thresholds = kept, PipelineThresholds(pipeline, kept)
        self._threads = section.threads or len(section.realtime.cores) or threads
        self._previous: Detector | None = None
        self._changing = threading.RLock()  # one change at a time
        self._closed = False

    def require(self) -> Detector:
        """Return the detector; raise SettingsError if there is none."""
        if self.detector is None:
            raise SettingsError(f"{self._pipeline}: no model is in service")
        return self.detector

    def exchange(self, new: Detector | None) -> Detector | None:
        """Let another detector, or none, judge from the next frame on; return the earlier detector, still open."""
        with self._using:
            old, self.detector, self._session = self.detector, new, None
        return old

    def misfit(self, frame: Frame) -> Misfit | None:
        """Compare a frame's size with the learnt sizes; see `edgead.detector.golden_likeness.FormatCheck`."""
        detector = self.detector
        return None if detector is None else detector.format_check.misfit(frame.image.shape)

    def step(self, frame: Frame) -> Verdict | None:
        """Judge the next frame, as `Session.step`."""
        with self._using:
            if self._session is None:
                self._session = self.require().session()
            return self._session.step(frame)

    def shown(self, frame: Frame) -> Frame:
        """Return a frame as it is drawn and kept; see `Detector.shown`."""
        detector = self.detector
        return frame if detector is None else detector.shown(frame)

    def measure(self, image: np.ndarray) -> Measurement:
        """Score an image between two frames, as `Detector.measure`."""
        with self._using:
            return self.require().measure(image)

    def of_recipe(self, name: str) -> ActiveModel:
        """Make the model of a recipe, which is loaded, exchanged and closed on its own."""
        section = self.section.model_copy(update={"model": self.section.recipes[name].model, "recipes": {}})
        return ActiveModel(f"{self._pipeline}/{name}", section, self._kept, threads=self._threads, accept=self._accept)

    @property
    def model(self) -> str:
        """Hash of the manifest of the model in service; empty before there is one."""
        detector = self.detector
        return detector.manifest.manifest_sha256 if detector else ""

    @property
    def thresholds(self) -> ThresholdRecord | None:
        detector = self.detector
        return thresholds_of(detector) if detector else None

    @property
    def knows_kinds(self) -> bool:
        """Whether the model in service knows kinds of defects."""
        detector = self.detector
        return detector is not None and detector.manifest.kinds is not None and not is_stale(detector.manifest)

    @property
    def earlier(self) -> tuple[str, str, float | None]:
        """Path, manifest hash and review limit of the model that `roll_back` brings back; empty without one."""
        previous = self._previous
        if previous is None:
            return "", "", None
        return str(previous.artifact.path), previous.manifest.manifest_sha256, thresholds_of(previous).review

    def settle_superseded(self, record: Callable[[ThresholdRecord, ThresholdRecord], None]) -> None:
        """Record, once, that a calibration has replaced a person's thresholds, if so; see `PipelineThresholds`."""
        self._thresholds.settle_superseded(record)

    def load(self) -> None:
        """Load and test the model again, as at the start; a missing model is restored from its newest version.

        Raises EdgeadError: the model cannot be used, or fails its self-test: then no model is in service.
        """
        with self.changing(None):
            old = self.exchange(None)
            if old is not None:
                old.close()
            self.restore_missing(self.path)
            new = self._tested(self.path)
            late = too_late(new, self.section.budget_ms)
            if late:  # it judges all the same: late verdicts, counted as such, are better than none
                logger.warning(f"{self._pipeline}: {late}", extra={"pipeline": self._pipeline})
            self.exchange(new)
            memory.give_back()

    def restore_missing(self, model: Path) -> None:
        """Restore a missing model from its newest version, and log it; do nothing if the model exists.

        Raises SettingsError: the model cannot be restored.
        """
        try:
            found = restore_missing(model)
        except OSError as error:
            raise SettingsError(
                f"{model} is missing, and its newest version cannot be put back: {error.strerror}"
            ) from error
        if found is not None:
            text = "%s: %s was missing, as where a program is ended while it replaces a model: %s is in its place"
            logger.warning(text, self._pipeline, model, found, extra={"pipeline": self._pipeline})

    def has_learnt(self, frame: Frame, data: bytes) -> bool:
        """Return whether the model in service was trained on a frame; `data` is the image file that it was sent as."""
        return self.require().learnt_images.has(data, judged_of(frame))

    @property
    def keeps_depth(self) -> bool:
        """Whether the model in service reads values of 16 bits or floats, instead of 8-bit images."""
        detector = self.detector
        return detector is not None and detector.manifest.preprocessing.keeps_depth

    def self_test(self) -> SelfTest:
        """Test the detector in service on its golden images; frames are judged between them.

        Raises EdgeadError: no model is in service, one is being exchanged, or its files have changed.
        """
        with self.changing(PATIENCE_S):
            return self_test(self.require(), self.measure)

    def golden(self) -> tuple[np.ndarray, ...]:
        """Read the golden images of the model in service, uint8 BGR; empty if they cannot be read.

        Also empty for a model that keeps depth: its camera's values have another brightness than the shown image.
        """
        return () if self.keeps_depth else golden_images(self.require())

    def drift_watch(self, section: DriftSection) -> DriftWatch:
        """Make a watch that compares parts with the scores that the model in service was calibrated on.

        Raises SettingsError: the model has no such scores, or they do not fit the section.
        """
        detector = self.require()
        limits = detector.graph.calibration
        if limits is None or not limits.scores:
            raise SettingsError(
                f"{detector.artifact.path} has no scores of good parts to compare with: run `edgead calibrate` with "
                "good images"
            )
        if detector.manifest.head.in_order:
            raise SettingsError("each frame follows from the one before, and the watch is for parts that do not")
        return DriftWatch(limits, golden_images(detector), section, views=detector.manifest.views)

    def swap(self, model: Path, record: Callable[[str], object] = lambda model: None) -> None:
        """Load and test another model beside the model in service, and let it judge from the next frame on.

        `record`: called with the model's `named` text after the test, before it judges; an exception refuses the model.
        Raises EdgeadError: the model cannot be used or is too slow for `budget_ms`, or another exchange is under way:
            the model in service goes on.
        """
        with self.changing():
            new = self._tested(model)
            try:
                if late := too_late(new, self.section.budget_ms, self.detector):
                    raise SettingsError(f"{self._pipeline}: {late}")
                record(named(model, new.manifest.manifest_sha256))
            except BaseException:
                new.close()
                raise
            oldest = self._previous
            self._previous = self.exchange(new)
            self.path = model
            if oldest is not None:
                oldest.close()
            memory.give_back()

    def roll_back(self, record: Callable[[str], object] = lambda model: None) -> None:
        """Let the earlier model judge again; the two models swap places.

        `record`: see `swap`.
        Raises SettingsError: there was no other model since the start, an exchange is under way, or a lesson replaced
            the earlier model at its path and the version before the lesson cannot be put back there.
        Raises EdgeadError: the site does not accept the earlier model.
        """
        with self.changing():
            if self._previous is None:
                raise SettingsError(f"{self._pipeline}: there is no earlier model to go back to")
            self._accept(self._previous.artifact)
            self._thresholds.apply(self._previous)  # as after a restart, if they were set for the same scorer since
            record(named(self._previous.artifact.path, self._previous.manifest.manifest_sha256))
            bring_back(self._previous.artifact.path, self._previous.manifest.manifest_sha256)
            self._previous = self.exchange(self._previous)
            self.path = self.require().artifact.path

    def check_accepted(self, there: Artifact | None = None) -> None:
        """Check again whether the site accepts the model in service; the model goes on judging in any case.

        `there`: the same model, read again from the disk: it may have more signatures now.
        Raises EdgeadError: the site does not accept the model any more.
        """
        detector = self.detector
        if detector is None:
            return
        if there is not None:
            detector.artifact.signatures = there.signatures
        self._accept(detector.artifact)

    def give_up(self) -> str:
        """Go back from a failed model to the earlier one; return its `named` text. The caller then calls `load`."""
        with self.changing():
            if self._previous is None:
                return named(self.path, self.model)
            now = named(self._previous.artifact.path, self._previous.manifest.manifest_sha256)
            self.path = self._previous.artifact.path
            try:
                bring_back(self.path, self._previous.manifest.manifest_sha256)
            except SettingsError as error:
                logger.error("%s: %s", self._pipeline, error, extra={"pipeline": self._pipeline})
            self._previous.close()
            self._previous = None
            return now

    def set_thresholds(self, thresholds: ThresholdRecord) -> None:
        """Judge by these thresholds from the next frame on, also after a restart.

        Raises SettingsError: they cannot be kept, no model is in service, or one is being exchanged; nothing changes
            then.
        """
        with self.changing(PATIENCE_S):
            self._thresholds.set(self.require(), thresholds)

    def carry_thresholds(self, taught: Artifact) -> None:
        """Store a person's thresholds for the model `taught` too, which a lesson made from the model in service.

        Raises SettingsError: the thresholds cannot be stored, or no model is in service.
        """
        self._thresholds.carry(self.require(), taught)

    def close(self) -> None:
        """Release the models; if a change is under way and does not end at once, it releases them at its end."""
        self._closed = True
        if self._changing.acquire(timeout=_CLOSE_S):
            self._end_change()

    @contextmanager
    def changing(self, within_s: float | None = 0) -> Iterator[None]:
        """Keep other changes out during a block; None waits for the change under way without a limit.

        Raises SlotBusyError: another change is under way, and did not end in time.
        Raises SettingsError: the slot was closed.
        """
        if not self._changing.acquire(timeout=-1 if within_s is None else within_s):
            raise SlotBusyError(
                f"{self._pipeline}: its model is being exchanged or tested: try again when that has ended"
            )
        try:
            if self._closed:
                raise SettingsError(f"{self._pipeline}: has ended, and takes no model any more")
            yield
        finally:
            self._end_change()

    def _end_change(self) -> None:
        try:
            if self._closed:
                for detector in (self.exchange(None), self._previous):
                    if detector is not None:
                        detector.close()
                self._previous = None
        finally:
            self._changing.release()

    def _tested(self, path: Path) -> Detector:
        detector = Detector.load(
            path,
            runtime=self.section.runtime,
            precision=self.section.precision,
            threads=self._threads,
            accept=self._accept,
        )
        try:
            self.section.check_model(detector.artifact)
            self_test(detector).require()
            self._thresholds.apply(detector)
            _ = detector.format_check.known, detector.learnt_images.known  # read now, so that no frame waits for it
        except BaseException:
            detector.close()
            raise
        return detector


class Recipes:
    """Models by recipe: a frame is judged by the model of its part's recipe, or without a recipe by the pipeline's own.

    All models are loaded and tested before the first frame, and each keeps its own memory of its frames, so that a
    change of recipe costs no time.

    `own`: model of the pipeline itself; loaded, steered and closed elsewhere.
    """

    def __init__(self, own: ActiveModel):
        self._section = own.section
        self._of_recipes = {name: own.of_recipe(name) for name in own.section.recipes}
        self.slots: Mapping[str, ActiveModel] = {"": own, **self._of_recipes}
        """Models by recipe; "" is the pipeline's own."""

    def load(self) -> None:
        """Load and test the models of all recipes.

        Raises EdgeadError: a model cannot be used; the message names its recipe.
        """
        for name, slot in self._of_recipes.items():
            try:
                slot.load()
                recipe = self._section.recipes[name]
                if recipe.thresholds is not None:
                    # Not stored, since the site file has them.
                    slot.require().set_thresholds(**recipe.thresholds.values())
            except EdgeadError as error:
                raise SettingsError(f"recipe {name}: {error}") from error

    def step(self, frame: Frame) -> Verdict | None:
        """Judge a frame, as `ActiveModel.step`.

        Raises SettingsError: the part has an unknown recipe, and the section does not let the pipeline's own model
            judge it.
        """
        recipe = self.recipe_of(frame)
        if recipe is not None:
            return self.slots[recipe].step(frame)
        if self._section.unknown_recipe == "fault":
            raise SettingsError(f"its part asks for an unknown recipe, known are {', '.join(self._of_recipes)}")
        verdict = self.slots[""].step(frame)
        if verdict is None or verdict.decision != "ok":
            return verdict
        return replace(verdict, decision="review")

    def shown(self, frame: Frame) -> Frame:
        """Return a frame as the model that judges it shows it; see `Detector.shown`."""
        return self.slot_of(frame).shown(frame)

    def slot_of(self, frame: Frame) -> ActiveModel:
        """Return the model that judges a frame: the model of its recipe, or the pipeline's own."""
        return self.slots[self.recipe_of(frame) or ""]

    def recipe_of(self, frame: Frame) -> str | None:
        """Return the key in `slots` of a frame's recipe; None if the recipe is unknown."""
        recipe = frame.part.recipe if self._of_recipes else ""  # without models per recipe, recipes are only recorded
        return recipe if recipe in self.slots else None

    def golden(self) -> list[np.ndarray]:
        """Read the golden images of every model in service, the pipeline's own among them; uint8 BGR."""
        return [image for slot in self.slots.values() if slot.model for image in slot.golden()]

    def close(self) -> None:
        for slot in self._of_recipes.values():
            slot.close()
