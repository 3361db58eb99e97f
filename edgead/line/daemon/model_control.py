"""Changes of a pipeline's model by people and by the site file, each recorded in the audit."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.artifact.folder import Artifact
from edgead.artifact.signatures.signature import Signature
from edgead.artifact.signatures.trust import ModelTrust
from edgead.calibration.blind import BlindLimitError
from edgead.errors import EdgeadError, SettingsError
from edgead.line.daemon.active_model import PATIENCE_S, ActiveModel, Recipes, SlotBusyError, named
from edgead.line.daemon.broadcast import WantedFrame
from edgead.line.daemon.drift import PipelineDrift
from edgead.line.daemon.judge_and_deliver import Receivers
from edgead.line.daemon.kept_models import KeptModels
from edgead.line.daemon.marked_scores import MarkedScorer
from edgead.line.daemon.pipeline_state import Kind, PipelineState
from edgead.line.daemon.self_test import SelfTestError
from edgead.line.daemon.thresholds import (
    HeldOutScores,
    KeptThresholds,
    ThresholdRecord,
    doubts_of,
    good_scores_of,
    thresholds_of,
)
from edgead.line.site.schema import LimitsSection, PipelineSection
from edgead.line.site.status import MarkedScores

if TYPE_CHECKING:
    from edgead.line.drift import DriftState
    from edgead.sources.reopened_camera import SupervisedCamera

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wiring:
    """Objects of the daemon that a pipeline uses."""

    camera: SupervisedCamera
    receivers: Receivers
    kept: KeptThresholds
    kept_models: KeptModels
    drift_folder: Path
    limits: LimitsSection
    trust: Callable[[], ModelTrust]
    """Returns the keys of the last reload."""
    threads: int | None = None
    model: Path | None = None
    """Model that judges in place of the section's."""
    place_kernels: Callable[[], None] = lambda: None
    """Schedules the kernels' threads, which pipelines share, after a pipeline has started some."""
    publish_wanted: Callable[[WantedFrame], None] = lambda _: None
    """Receives every frame that the trigger chooses; must not wait."""


class SteeredModel(ABC):
    """Base of a pipeline: changes of its model, thresholds and drift watch; any thread may call its methods.

    `name`: name of the pipeline.
    """

    def __init__(self, name: str, section: PipelineSection, wiring: Wiring):
        self.name = name
        self.section = section
        self._trust = wiring.trust
        self.slot = ActiveModel(name, section, wiring.kept, threads=wiring.threads, accept=self._accept)
        self._place_kernels = wiring.place_kernels
        self._recipes = Recipes(self.slot)
        self._camera = wiring.camera
        self._kept_models = wiring.kept_models
        self._store = wiring.receivers.store
        self._drift = PipelineDrift(name, self._recipes.slots, section.drift, wiring.drift_folder)
        self._state = PipelineState(name)
        self._marked = MarkedScorer(name, section.recipes, self.slot, self._store)
        self.failed_model: Path | None = None  # given up last, if nothing was chosen since
        if wiring.model is not None:
            self.slot.path = wiring.model
        self._departed = wiring.model is not None  # from the model of the site file

    @property
    def model_path(self) -> Path:
        """Folder of the model in service, or of the model to load first."""
        return self.slot.path

    @property
    def faults(self) -> dict[Kind, str]:
        """Reasons of all present faults, most urgent first."""
        return self._state.faults()

    @property
    def waits_for_model(self) -> bool:
        """Whether the pipeline's model is not commissioned yet, which is no fault."""
        return self.section.commissioned and not self.slot.model and not self._state.has("model")

    @property
    def drift(self) -> DriftState | None:
        return self._drift.state

    @property
    @abstractmethod
    def used_up(self) -> bool:
        """Whether the pipeline's thread has failed too often, and judges nothing until `start`."""

    @abstractmethod
    def start(self) -> None:
        """Start judging by the model, also after too many failures."""

    def self_test(self) -> dict[str, Any]:
        """Test the detector in service on its golden images; if the test fails, take the detector out of service.

        A pipeline whose model could not be used tries to load it again.

        Raises EdgeadError: the model cannot be used at all.
        """
        try:
            if not self.slot.model:
                self._load_model()
            tested = self.slot.self_test()
            tested.require()
        except SlotBusyError:
            raise
        except SelfTestError as error:
            self._state.fault("model", str(error))
            if error.found is None:
                raise
            return error.found.to_dict()
        except EdgeadError as error:
            self._state.fault("model", str(error))
            raise
        self._state.resolved("model")
        return tested.to_dict()

    def swap(self, model: Path, *, by: str = "edgead") -> None:
        """Load another model beside the model in service, test it, and judge by it from the next frame on.

        Raises EdgeadError: the model cannot be used; the model in service goes on.
        """
        self._exchange("swap model", by, partial(self.slot.swap, model))

    def signatures(self, model: Path) -> list[Signature]:
        """Return the signatures by which the site accepts a model; none if the site requires none.

        Raises EdgeadError: the model is damaged, or the site does not accept it.
        """
        return self._trust().check(Artifact.load(model))

    def sign_own(self, model: Path, *, by: str) -> None:
        """Sign a model that was learnt on this device, if the device has a key for that; call it before `swap`.

        Raises EdgeadError: the model is damaged, or cannot be written.
        """
        self._trust().sign_own(model, by=by)

    def follow(self, section: PipelineSection) -> None:
        """Apply the section of a site file that was read again: another model, or the same model with other files.

        The call waits while another model is being loaded, and restores a missing model from its newest version. A
        model that a person has chosen stays until the file names another one. A pipeline that judges nothing is started
        again; if its model still fails, that is a fault and no error.

        Raises EdgeadError: the model cannot be used, or the site no longer accepts the model in service, which goes on.
        """
        with self.slot.changing(None):
            self._departed = self._departed and section.model == self.section.model
            self.section = section
            if self.used_up or self._state.has("model") or self.waits_for_model:
                self._begin_again()
            elif self._departed:
                self.slot.check_accepted()
            else:
                self.slot.restore_missing(section.model)
                there = Artifact.load(section.model)
                if section.model != self.slot.path or there.manifest.manifest_sha256 != self.slot.model:
                    self.swap(section.model, by="site file")
                else:
                    self.slot.check_accepted(there)

    def roll_back(self, *, by: str = "edgead") -> None:
        """Judge by the earlier model again.

        Raises SettingsError: there was no other model since the start.
        """
        self._exchange("roll back model", by, self.slot.roll_back)

    def set_thresholds(self, *, review: float, reject: float, by: str, reason: str = "") -> None:
        """Judge by these thresholds from the next frame on; they are kept over restarts, for this model.

        Raises SettingsError: they are not valid, cannot be kept, or there is no model.
        Raises BlindLimitError: they may pass defects that the model was made to stop, and no `reason` is given.
        """
        given = ThresholdRecord.checked(review=review, reject=reject, by=by, reason=reason)
        with self.slot.changing(PATIENCE_S):
            detector = self.slot.require()
            before = thresholds_of(detector)
            bad = self.marked_scores().bad if given.review > before.review else []
            found = doubts_of(detector, given, bad)
            if found and not reason:
                raise BlindLimitError(found, by_hand=True)
            why = {"reason": reason} if reason else {}
            limits = detector.graph.calibration  # there is one: `doubts_of` has found it
            scale = {"typical_score": limits and limits.typical}
            with self._audited("thresholds", by, {**before.values(), **scale}, {**given.values(), **why}):
                self.slot.set_thresholds(given)

    def good_scores(self) -> HeldOutScores:
        """Read the scores behind the thresholds of the model in service; raise SettingsError if there is none."""
        return good_scores_of(self.slot.require())

    def marked_scores(self) -> MarkedScores:
        """Score the newest marked parts by the model in service; raise SettingsError if there is none."""
        return self._marked.scores()

    def accept_drift(self, *, by: str) -> None:
        """Accept parts and images as they are now: the warning ends, and the drift watch starts again.

        Raises SettingsError: no drift is watched.
        """
        self._drift.require_watched()
        before = self._drift.state
        with self._audited("accept drift", by, before.reason if before else None, None):
            self._drift.start_again()

    def _accept(self, artifact: Artifact) -> None:
        self._trust().check(artifact)
        spec = artifact.manifest.preprocessing
        if spec.keeps_depth and not self._camera.gives_depth:
            raise SettingsError(
                f"{artifact.path} reads {spec.colour}, camera {self._camera.name} gives 8 bits: give it files of 16 "
                "bits or floats (watch:, request: or a folder), or a model of 8-bit images"
            )

    def _begin_again(self) -> None:
        """Start again after a fault, with the model that the site file names."""
        if not self._departed and self.slot.path != self.section.model:
            before = named(self.slot.path, self.slot.model)
            self.slot.path = self.section.model
            self._audit("swap model", "site file", before, str(self.slot.path))
        if self.used_up:
            self.start()
        else:
            self._try_model()

    def _try_model(self) -> None:
        """Load the model as at the start; a failure is a fault, but does not restart the thread."""
        with self.slot.changing(None):
            try:
                self._load_model()
                self._place_kernels()
                self._state.resolved("model")
            except EdgeadError as error:
                if self.section.commissioned and self.slot.path == self.section.model and not self.slot.path.exists():
                    self._state.resolved("model")
                else:
                    self._state.fault("model", str(error))

    def _load_model(self) -> None:
        try:
            self.slot.load()
        except EdgeadError as error:
            if self.section.follow is None or self.slot.path == self.section.model:
                raise
            logger.error("%s: %s; that of the site file judges", self.name, error, extra={"pipeline": self.name})
            self._fall_back()
            self.slot.load()
        self._recipes.load()
        self._audit_superseded()
        self._camera.compare_with(self.name, self._recipes.golden())

    def _give_up_model(self) -> None:
        """Go back from a failed model to the earlier model; do nothing if another exchange is under way."""
        try:
            with self.slot.changing():
                failed, before = self.slot.path, named(self.slot.path, self.slot.model)
                now = self.slot.give_up()
                self.failed_model = failed
                self._departed = self.slot.path != self.section.model
                self._keep_model()
                self._audit("roll back on fault", "edgead", before, now)
        except SlotBusyError as error:
            logger.warning("%s: does not go back to the model before: %s", self.name, error)

    def _fall_back(self) -> None:
        """Go back to the model of the site file, since the current one cannot be used."""
        self.failed_model, self.slot.path = self.slot.path, self.section.model
        self._departed = False
        self._audit("roll back on fault", "edgead", str(self.failed_model), str(self.slot.path))

    def _exchange(self, action: str, by: str, exchange: Callable[[Callable[[str], None]], None]) -> None:
        """Let another model judge; the audit records it after the model's test and before the model's first verdict."""
        with self.slot.changing():
            with ExitStack() as row:
                before = named(self.slot.path, self.slot.model)
                exchange(lambda now: row.enter_context(self._audited(action, by, before, now)))
            self._exchanged()

    def _exchanged(self) -> None:
        self._keep_model()
        self._audit_superseded()
        self._departed = self.slot.path != self.section.model
        self.failed_model = None
        self._camera.compare_with(self.name, self._recipes.golden())
        self._state.resolved("model")
        self.start()

    def _keep_model(self) -> None:
        if self.section.commissioned:
            self._kept_models.keep(self.name, self.section.model, self.slot.path)

    def _audit_superseded(self) -> None:
        self.slot.settle_superseded(
            lambda before, now: self._audit("thresholds", now.by, before.values(), now.values())
        )

    @contextmanager
    def _audited(self, action: str, by: str, before: Any, after: Any) -> Iterator[None]:
        """Record a person's change before the block makes it; if it cannot be recorded, the block does not run."""
        with self._store.audited(by=by, action=action, pipeline=self.name, before=before, after=after):
            yield
        self._log(action, by, before, after)

    def _audit(self, action: str, by: str, before: Any, after: Any) -> None:
        """Record a change that keeps the inspection going; if it cannot be recorded, the change is made anyway."""
        self._log(action, by, before, after)
        self._store.note_change(by=by, action=action, pipeline=self.name, before=before, after=after)

    def _log(self, action: str, by: str, before: Any, after: Any) -> None:
        text = f"{self.name}: {action} by {by}: {before} -> {after}"
        logger.info(text, extra={"pipeline": self.name, "by": by, "action": action})
