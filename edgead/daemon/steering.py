"""What people and the site file do to the model of a pipeline; every change is in the audit."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.artifact.folder import Artifact
from edgead.artifact.signatures.trust import ModelTrust
from edgead.daemon.active_model import ActiveModel, SlotBusyError
from edgead.daemon.judging import Receivers
from edgead.daemon.pipeline_drift import PipelineDrift
from edgead.daemon.pipeline_state import Kind, PipelineState
from edgead.daemon.recipes import Recipes
from edgead.daemon.self_test import SelfTestError
from edgead.daemon.thresholds import GoodScores, KeptThresholds, Thresholds
from edgead.errors import EdgeadError
from edgead.site.schema import LimitsSection, PipelineSection

if TYPE_CHECKING:
    from edgead.drift import DriftState
    from edgead.sources.supervised import SupervisedCamera

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a pipeline is connected to."""

    camera: SupervisedCamera
    receivers: Receivers
    kept: KeptThresholds
    drift_folder: Path
    limits: LimitsSection
    trust: Callable[[], ModelTrust]
    """Gives the keys of the last reload."""
    threads: int | None = None
    model: Path | None = None
    """That is to judge instead of the one that the section names."""
    place_kernels: Callable[[], None] = lambda: None
    """Schedules the kernels' threads, which pipelines share, once a pipeline has started some."""


class SteeredModel(ABC):
    """The model of a pipeline with its thresholds and its drift watch; all of it may be steered from any thread.

    Parameters
    ----------
    name : str
        Of the pipeline.
    section : PipelineSection
    wiring : Wiring
    """

    def __init__(self, name: str, section: PipelineSection, wiring: Wiring):
        self.name = name
        self.section = section
        self._trust = wiring.trust
        self.slot = ActiveModel(name, section, wiring.kept, threads=wiring.threads, accept=self._accept)
        self._recipes = Recipes(name, section, self.slot, wiring.kept, threads=wiring.threads, accept=self._accept)
        self._camera = wiring.camera
        self._store = wiring.receivers.store
        self._drift = PipelineDrift(name, self._recipes.slots, section.drift, wiring.drift_folder)
        self._state = PipelineState(name)
        self.failed_model: Path | None = None  # that was given up last, if nothing was chosen since
        if wiring.model is not None:
            self.slot.path = wiring.model
        self._departed = wiring.model is not None  # from the model that the site file names

    @property
    def model_path(self) -> Path:
        """Where the model in service lies, or the one that is loaded first."""
        return self.slot.path

    @property
    def faults(self) -> dict[Kind, str]:
        """Reasons of all faults that stand, what is shown first at the front."""
        return self._state.faults()

    @property
    def drift(self) -> DriftState | None:
        return self._drift.state

    @abstractmethod
    def start(self) -> None:
        """Judge by the model; also again where that had ended."""

    def self_test(self) -> dict[str, Any]:
        """Replay the golden images through the detector in service; one that fails is out of service.

        A pipeline whose model could not be used tries it again.

        Raises
        ------
        EdgeadError
            The model cannot be used at all.
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
        """Load a model beside the one in service, test it, and judge by it from the next frame on.

        Raises
        ------
        EdgeadError
            The model cannot be used; the one in service goes on.
        """
        before = str(self.slot.path)
        self.slot.swap(model)
        self._exchanged("swap model", by, before)

    def sign_own(self, model: Path, *, by: str) -> None:
        """Sign a model that was learned on this device, where it has a key for that; to be called before `swap`.

        Raises
        ------
        EdgeadError
            It is damaged, or cannot be written.
        """
        self._trust().sign_own(model, by=by)

    def follow(self, section: PipelineSection) -> None:
        """Take over what a site file that was read again says: another model, or one that has changed where it lies.

        A model that was exchanged otherwise meanwhile, or gone back from, stays until the file names another.

        Raises
        ------
        EdgeadError
            The model cannot be used, or the site does not let the one in service in any more, which goes on.
        """
        self._departed = self._departed and section.model == self.section.model
        self.section = section
        if self._departed:
            self.slot.check_accepted()
            return
        there = Artifact.load(section.model)
        if section.model != self.slot.path or there.manifest.manifest_sha256 != self.slot.model:
            self.swap(section.model, by="site file")
        else:
            self.slot.check_accepted(there)

    def roll_back(self, *, by: str = "edgead") -> None:
        """Judge by the model before this one again.

        Raises
        ------
        SettingsError
            There was none since the start.
        """
        before = str(self.slot.path)
        self.slot.roll_back()
        self._exchanged("roll back model", by, before)

    def set_thresholds(self, *, review: float, reject: float, by: str) -> None:
        """Judge by these from the next frame on; kept over restarts, for this model.

        Raises
        ------
        SettingsError
            They are no thresholds, cannot be kept, or there is no model.
        """
        before = self.slot.set_thresholds(Thresholds.checked(review=review, reject=reject, by=by))
        self._audit("thresholds", by, before.values(), {"review": review, "reject": reject})

    def good_scores(self) -> GoodScores:
        """Read what the thresholds of the model in service come from; raises SettingsError where there is none."""
        return self.slot.good_scores()

    def accept_drift(self, *, by: str) -> None:
        """Take parts and images as they are now: the warning goes, and the drift watch starts again.

        Raises
        ------
        SettingsError
            No drift is watched.
        """
        before = self._drift.state
        self._drift.start_again()
        self._audit("accept drift", by, before.reason if before else None, None)

    def _accept(self, artifact: Artifact) -> None:
        self._trust().check(artifact)

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
        """Judge by the model before this one, which has failed."""
        self.failed_model = self.slot.path
        self.slot.give_up()
        self._departed = self.slot.path != self.section.model
        self._audit("roll back on fault", "edgead", str(self.failed_model), str(self.slot.path))

    def _fall_back(self) -> None:
        """Judge by the model of the site file: the one in its place cannot be used."""
        self.failed_model, self.slot.path = self.slot.path, self.section.model
        self._departed = False
        self._audit("roll back on fault", "edgead", str(self.failed_model), str(self.slot.path))

    def _exchanged(self, action: str, by: str, before: str) -> None:
        self._audit(action, by, before, str(self.slot.path))
        self._audit_superseded()
        self._departed = self.slot.path != self.section.model
        self.failed_model = None
        self._camera.compare_with(self.name, self._recipes.golden())
        self._state.resolved("model")
        self.start()

    def _audit_superseded(self) -> None:
        superseded = self.slot.take_superseded()
        if superseded is not None:
            before, now = superseded
            self._audit("thresholds", now.by, before.values(), now.values())

    def _audit(self, action: str, by: str, before: Any, after: Any) -> None:
        text = f"{self.name}: {action} by {by}: {before} -> {after}"
        logger.info(text, extra={"pipeline": self.name, "by": by, "action": action})
        try:
            self._store.add_audit(by=by, action=action, pipeline=self.name, before=before, after=after)
        except EdgeadError as error:
            # What was changed is in force; that it is on no record must at least be in the log.
            logger.error("%s: %s is not in the audit: %s", self.name, action, error, extra={"pipeline": self.name})
