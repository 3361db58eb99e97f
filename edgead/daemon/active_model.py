"""The model in service: tested before it judges, exchanged between two frames, and the one before it kept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgead.artifact.folder import Artifact
from edgead.artifact.limits import Limits
from edgead.artifact.roll_back import bring_back
from edgead.artifact.versions import restore_missing
from edgead.daemon.detector_in_service import InService
from edgead.daemon.latency_budget import too_late
from edgead.daemon.model_drift import drift_watch
from edgead.daemon.self_test import SelfTest, golden_images, self_test
from edgead.daemon.thresholds import (
    GoodScores,
    KeptThresholds,
    PipelineThresholds,
    Thresholds,
    doubts_of,
    good_scores_of,
    thresholds_of,
)
from edgead.detector import Detector
from edgead.drift import DriftSection, DriftWatch
from edgead.errors import SettingsError
from edgead.process import heap
from edgead.site.schema import PipelineSection
from edgead.types import Frame, Verdict

logger = logging.getLogger(__name__)

_CLOSE_S = 0.3
# How long small changes wait for another one; who asks holds one of the few threads that the page has.
PATIENCE_S = 0.5


class SlotBusyError(SettingsError):
    """What was asked for has not been tried: another change is under way."""


class ActiveModel:
    """Holds one detector for one pipeline; `step` is the pipeline's, everything else may come from any thread.

    Parameters
    ----------
    pipeline : str
        Name of the pipeline.
    section : PipelineSection
    kept : KeptThresholds
    threads : int, optional
        Threads of the network, where the section says nothing.
    accept : callable
        Raises where the site does not let a model in.
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
        self.path = section.model
        self._pipeline, self._section, self._accept = pipeline, section, accept
        self._thresholds = PipelineThresholds(pipeline, kept)
        self._threads = section.threads or len(section.realtime.cores) or threads
        self._in_service = InService(pipeline)
        self._previous: Detector | None = None
        self._changing = threading.RLock()  # one change at a time
        self._closed = False

    @property
    def model(self) -> str:
        """Hash of the manifest of the model in service; empty before there is one."""
        detector = self._in_service.detector
        return detector.manifest.manifest_sha256 if detector else ""

    @property
    def thresholds(self) -> Thresholds | None:
        detector = self._in_service.detector
        return thresholds_of(detector) if detector else None

    def good_scores(self) -> GoodScores:
        """Read what the thresholds of the model in service come from; raises SettingsError where there is none."""
        return good_scores_of(self._in_service.require())

    def doubts(self, given: Limits, bad: Sequence[float]) -> list[str]:
        """Say why limits may be blind for the model in service; see `edgead.daemon.thresholds.doubts_of`."""
        return doubts_of(self._in_service.require(), given, bad)

    @property
    def can_roll_back(self) -> bool:
        return self._previous is not None

    def take_superseded(self) -> tuple[Thresholds, Thresholds] | None:
        """Give, once, the thresholds of a person and those of the model, changed since, that are in force instead."""
        return self._thresholds.take_superseded()

    def load(self) -> None:
        """Load and test the model again, as at the start; one that is missing is put back from its newest version.

        Raises
        ------
        EdgeadError
            A model that cannot be used, or that fails its self-test: nothing is in service then.
        """
        with self.changing(None):
            old = self._in_service.exchange(None)
            if old is not None:
                old.close()
            self._restore_missing()
            new = self._tested(self.path)
            late = too_late(new, self._section.budget_ms)
            if late:  # it judges all the same: every verdict is counted as late, which is better than none
                logger.warning(f"{self._pipeline}: {late}", extra={"pipeline": self._pipeline})
            self._in_service.exchange(new)
            heap.give_back()

    def step(self, frame: Frame) -> Verdict | None:
        """Judge the next frame, as `Session.step`; another model begins with the next frame as if it were the first."""
        return self._in_service.step(frame)

    def self_test(self) -> SelfTest:
        """Test the detector in service on its golden images; frames are judged between them.

        Raises
        ------
        EdgeadError
            No model is in service, one is being exchanged, or its files are no longer what was written.
        """
        with self.changing(PATIENCE_S):
            return self_test(self._in_service.require(), self._in_service.measure)

    def golden(self) -> tuple[np.ndarray, ...]:
        """Read the golden images of the model in service, uint8 BGR; none where they cannot be read."""
        return golden_images(self._in_service.require())

    def drift_watch(self, section: DriftSection) -> DriftWatch:
        """Make a watch that compares parts with those that the model in service was calibrated on."""
        return drift_watch(self._in_service.require(), section)

    def swap(self, model: Path, record: Callable[[Path], object] = lambda model: None) -> None:
        """Load another model beside the one in service, test it, and let it judge from the next frame on.

        Parameters
        ----------
        model : Path
        record : callable
            Receives its path once it is tested, before it judges; what that raises refuses it.

        Raises
        ------
        EdgeadError
            A model that cannot be used or is too slow for `budget_ms`, or another exchange is under way: the one in
            service goes on.
        """
        with self.changing():
            new = self._in_time(self._tested(model))
            try:
                record(model)
            except BaseException:
                new.close()
                raise
            oldest = self._previous
            self._previous = self._in_service.exchange(new)
            self.path = model
            if oldest is not None:
                oldest.close()
            heap.give_back()

    def roll_back(self, record: Callable[[Path], object] = lambda model: None) -> None:
        """Let the model before this one judge again; the two change places.

        Parameters
        ----------
        record : callable
            As that of `swap`.

        Raises
        ------
        SettingsError
            There was no other model since the start, an exchange is under way, or the earlier model was taught where it
            lies and its version cannot be put back there.
        EdgeadError
            The site does not let that one in.
        """
        with self.changing():
            if self._previous is None:
                raise SettingsError(f"{self._pipeline}: there is no earlier model to go back to")
            self._accept(self._previous.artifact)
            record(self._previous.artifact.path)
            bring_back(self._previous.artifact.path, self._previous.manifest.manifest_sha256)
            self._previous = self._in_service.exchange(self._previous)
            self.path = self._in_service.require().artifact.path

    def check_accepted(self, there: Artifact | None = None) -> None:
        """Ask again whether the site lets the model in service in; it goes on in any case.

        Parameters
        ----------
        there : Artifact, optional
            The same as it lies on the disk now, where others may have signed it since.

        Raises
        ------
        EdgeadError
            It does not, any more.
        """
        detector = self._in_service.detector
        if detector is None:
            return
        if there is not None:
            detector.artifact.signatures = there.signatures
        self._accept(detector.artifact)

    def give_up(self) -> None:
        """Go back to the model before this one, which has failed; the slot is loaded again from it."""
        with self.changing():
            if self._previous is None:
                return
            self.path = self._previous.artifact.path
            try:
                bring_back(self.path, self._previous.manifest.manifest_sha256)
            except SettingsError as error:
                logger.error("%s: %s", self._pipeline, error, extra={"pipeline": self._pipeline})
            self._previous.close()
            self._previous = None

    def require_thresholds(self) -> Thresholds:
        """Give the thresholds in force; raises SettingsError where there is no model."""
        return thresholds_of(self._in_service.require())

    def set_thresholds(self, thresholds: Thresholds) -> None:
        """Judge by these from the next frame on, also after a restart.

        Raises
        ------
        SettingsError
            They cannot be kept, no model is in service, or one is being exchanged; nothing changes then.
        """
        with self.changing(PATIENCE_S):
            self._thresholds.set(self._in_service.require(), thresholds)

    def judge_by(self, limits: Limits) -> None:
        """Judge by thresholds of the site file from the next frame on; they are not kept, the file has them.

        Raises
        ------
        SettingsError
            No model is in service.
        """
        self._in_service.require().set_thresholds(**limits.values())

    def close(self) -> None:
        """Release the models; while another change is under way that is done at its end, for which nobody waits."""
        self._closed = True
        if self._changing.acquire(timeout=_CLOSE_S):
            self._end_change()

    @contextmanager
    def changing(self, within_s: float | None = 0) -> Iterator[None]:
        """Keep other changes away for the time of a block; None waits for the one under way, however long it takes.

        Raises
        ------
        SlotBusyError
            Another one is under way, and did not end in time.
        SettingsError
            The slot was closed.
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
                for detector in (self._in_service.exchange(None), self._previous):
                    if detector is not None:
                        detector.close()
                self._previous = None
        finally:
            self._changing.release()

    def _restore_missing(self) -> None:
        try:
            found = restore_missing(self.path)
        except OSError as error:
            raise SettingsError(
                f"{self.path} is missing, and its newest version cannot be put back: {error.strerror}"
            ) from error
        if found is not None:
            text = "%s: %s was missing, as where a program is ended while it replaces a model: %s is in its place"
            logger.warning(text, self._pipeline, self.path, found, extra={"pipeline": self._pipeline})

    def _tested(self, path: Path) -> Detector:
        detector = Detector.load(
            path,
            runtime=self._section.runtime,
            precision=self._section.precision,
            threads=self._threads,
            accept=self._accept,
        )
        try:
            self_test(detector).require()
            self._thresholds.apply(detector)
        except BaseException:
            detector.close()
            raise
        return detector

    def _in_time(self, detector: Detector) -> Detector:
        late = too_late(detector, self._section.budget_ms)
        if late:
            detector.close()
            raise SettingsError(f"{self._pipeline}: {late}")
        return detector
