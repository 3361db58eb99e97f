"""The model in service: tested before it judges, exchanged between two frames, and the one before it kept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgead.artifact.bring_back import bring_back
from edgead.artifact.folder import Artifact
from edgead.artifact.identity import scorer_sha256
from edgead.artifact.limits import Limits
from edgead.daemon import heap
from edgead.daemon.budget import too_late
from edgead.daemon.self_test import SelfTest, golden_images, self_test
from edgead.daemon.thresholds import KeptThresholds, Thresholds, last_change
from edgead.detector import Detector, Measurement, Session
from edgead.drift import DriftSection, DriftWatch
from edgead.errors import SettingsError
from edgead.site.schema import PipelineSection
from edgead.types import Frame, Verdict

logger = logging.getLogger(__name__)

_CLOSE_S = 0.3
# How long small changes wait for another one; who asks holds one of the few threads that the page has.
_PATIENCE_S = 0.5


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
        self._pipeline, self._section, self._kept, self._accept = pipeline, section, kept, accept
        self._threads = section.threads or len(section.realtime.cores) or threads
        self._detector: Detector | None = None
        self._previous: Detector | None = None
        self._superseded: tuple[Thresholds, Thresholds] | None = None
        self._session: Session | None = None  # of the detector in service, once it has seen a frame
        self._using = threading.Lock()  # none is exchanged while it judges; held for one image at most
        self._changing = threading.RLock()  # one change at a time

    @property
    def model(self) -> str:
        """Hash of the manifest of the model in service; empty before there is one."""
        return self._detector.manifest.manifest_sha256 if self._detector else ""

    @property
    def thresholds(self) -> Thresholds | None:
        return _thresholds(self._detector) if self._detector else None

    @property
    def can_roll_back(self) -> bool:
        return self._previous is not None

    def take_superseded(self) -> tuple[Thresholds, Thresholds] | None:
        """Give, once, the thresholds of a person and those of the model, changed since, that are in force instead."""
        superseded, self._superseded = self._superseded, None
        return superseded

    def load(self) -> None:
        """Load and test the model again, as at the start.

        Raises
        ------
        EdgeadError
            A model that cannot be used, or that fails its self-test: nothing is in service then.
        """
        with self._changing:
            old = self._exchange(None)
            if old is not None:
                old.close()
            new = self._tested(self.path)
            late = too_late(new, self._section.budget_ms)
            if late:  # it judges all the same: every verdict is counted as late, which is better than none
                logger.warning(f"{self._pipeline}: {late}", extra={"pipeline": self._pipeline})
            self._exchange(new)
            heap.give_back()

    def step(self, frame: Frame) -> Verdict | None:
        """Judge the next frame, as `Session.step`; another model begins with the next frame as if it were the first."""
        with self._using:
            if self._session is None:
                self._session = self._in_service().session()
            return self._session.step(frame)

    def self_test(self) -> SelfTest:
        """Test the detector in service on its golden images; frames are judged between them.

        Raises
        ------
        EdgeadError
            No model is in service, one is being exchanged, or its files are no longer what was written.
        """
        with self._change(_PATIENCE_S):
            return self_test(self._in_service(), self._measure)

    def golden(self) -> tuple[np.ndarray, ...]:
        """Read the golden images of the model in service, uint8 BGR; none where they cannot be read."""
        return golden_images(self._in_service())

    def drift_watch(self, section: DriftSection) -> DriftWatch:
        """Make a watch that compares parts with those that the model in service was calibrated on."""
        detector = self._in_service()
        limits = detector.graph.calibration
        if limits is None or not limits.scores:
            raise SettingsError(
                f"{detector.artifact.path} has no scores of good parts to compare with: run `edgead calibrate` with "
                "good images"
            )
        return DriftWatch(limits, self.golden(), section)

    def swap(self, model: Path) -> None:
        """Load another model beside the one in service, test it, and let it judge from the next frame on.

        Raises
        ------
        EdgeadError
            A model that cannot be used or is too slow for `budget_ms`, or another exchange is under way: the one in
            service goes on.
        """
        with self._change(0):
            new = self._in_time(self._tested(model))
            oldest = self._previous
            self._previous = self._exchange(new)
            self.path = model
            if oldest is not None:
                oldest.close()
            heap.give_back()

    def roll_back(self) -> None:
        """Let the model before this one judge again; the two change places.

        Raises
        ------
        SettingsError
            There was no other model since the start, an exchange is under way, or the earlier model was taught where it
            lies and its version cannot be put back there.
        EdgeadError
            The site does not let that one in.
        """
        with self._change(0):
            if self._previous is None:
                raise SettingsError(f"{self._pipeline}: there is no earlier model to go back to")
            self._accept(self._previous.artifact)
            _bring_back(self._previous)
            self._previous = self._exchange(self._previous)
            self.path = self._in_service().artifact.path

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
        detector = self._detector
        if detector is None:
            return
        if there is not None:
            detector.artifact.signatures = there.signatures
        self._accept(detector.artifact)

    def give_up(self) -> None:
        """Go back to the model before this one, which has failed; the slot is loaded again from it."""
        with self._changing:
            if self._previous is None:
                return
            self.path = self._previous.artifact.path
            try:
                _bring_back(self._previous)
            except SettingsError as error:
                logger.error("%s: %s", self._pipeline, error, extra={"pipeline": self._pipeline})
            self._previous.close()
            self._previous = None

    def set_thresholds(self, thresholds: Thresholds) -> Thresholds:
        """Judge by these from the next frame on, also after a restart; returns those before.

        Raises
        ------
        SettingsError
            They cannot be kept, no model is in service, or one is being exchanged; nothing changes then.
        """
        with self._change(_PATIENCE_S):
            detector = self._in_service()
            before = _thresholds(detector)
            self._kept.keep(self._pipeline, _scorers(detector)[0], thresholds.now())
            detector.set_thresholds(**thresholds.values())
            return before

    def judge_by(self, limits: Limits) -> None:
        """Judge by thresholds of the site file from the next frame on; they are not kept, the file has them.

        Raises
        ------
        SettingsError
            No model is in service.
        """
        self._in_service().set_thresholds(**limits.values())

    def close(self) -> None:
        """Release the models, unless one is being loaded right now: the end of the daemon does not wait for that."""
        if not self._changing.acquire(timeout=_CLOSE_S):
            return
        try:
            for detector in (self._exchange(None), self._previous):
                if detector is not None:
                    detector.close()
            self._previous = None
        finally:
            self._changing.release()

    @contextmanager
    def _change(self, within_s: float) -> Iterator[None]:
        if not self._changing.acquire(timeout=within_s):
            raise SlotBusyError(
                f"{self._pipeline}: its model is being exchanged or tested: try again when that has ended"
            )
        try:
            yield
        finally:
            self._changing.release()

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
            self._apply_kept(detector)
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

    def _apply_kept(self, detector: Detector) -> None:
        """Judge by what a person set for this pipeline, unless the model has been calibrated since."""
        scorer, legacy = _scorers(detector)
        kept = self._kept.find(self._pipeline, scorer, legacy)
        if kept is None:
            return
        change = last_change(detector.manifest, detector.graph.precision)
        if kept.at is not None and change is not None and change.changed_at > kept.at:
            now = _thresholds(detector).model_copy(update={"by": change.author, "at": change.changed_at})
            self._superseded = kept, now
            self._kept.keep(self._pipeline, scorer, now)
            text = f"{self._pipeline}: judges by the thresholds of a calibration, newer than those that {kept.by} set"
            logger.warning(text, extra={"pipeline": self._pipeline, **now.values()})
            return
        detector.set_thresholds(**kept.values())
        text = f"{self._pipeline}: judges by thresholds that {kept.by} set"
        logger.info(text, extra={"pipeline": self._pipeline, **kept.values()})

    def _exchange(self, new: Detector | None) -> Detector | None:
        with self._using:
            old, self._detector, self._session = self._detector, new, None
        return old

    def _measure(self, image: np.ndarray) -> Measurement:
        with self._using:
            return self._in_service().measure(image)

    def _in_service(self) -> Detector:
        if self._detector is None:
            raise SettingsError(f"{self._pipeline}: no model is in service")
        return self._detector


def _bring_back(detector: Detector) -> None:
    """Put a model that was taught meanwhile back where it lay, so that a restart finds it too."""
    path = detector.artifact.path
    try:
        bring_back(path, detector.manifest.manifest_sha256)
    except OSError as error:
        raise SettingsError(f"{path}: its version before cannot be put back: {error.strerror}") from error


def _scorers(detector: Detector) -> tuple[str, str]:
    """Name what thresholds belong to: what makes the scores; and what they belonged to before, the whole manifest."""
    precision = detector.graph.precision
    scorer = scorer_sha256(detector.manifest, detector.graph)
    return f"{scorer}/{precision}", f"{detector.manifest.manifest_sha256}/{precision}"


def _thresholds(detector: Detector) -> Thresholds:
    limits = detector.graph.calibration
    if limits is None:
        raise SettingsError(f"{detector.artifact.path} has no thresholds")
    return Thresholds(review=limits.review, reject=limits.reject)
