"""The detector in service: exchanged between two frames, never while it judges."""

from __future__ import annotations

import threading

import numpy as np

from edgead.detector import Detector, Measurement, Session
from edgead.errors import SettingsError
from edgead.types import Frame, Verdict


class InService:
    """The place of a pipeline's detector; `step` is the pipeline's, everything else may come from any thread.

    Parameters
    ----------
    pipeline : str
        Its name, for what is reported.
    """

    def __init__(self, pipeline: str):
        self._pipeline = pipeline
        self._detector: Detector | None = None
        self._session: Session | None = None  # of the detector, once it has seen a frame
        self._using = threading.Lock()  # held for one image at most

    @property
    def detector(self) -> Detector | None:
        return self._detector

    def require(self) -> Detector:
        """Give the detector; raises SettingsError where there is none."""
        if self._detector is None:
            raise SettingsError(f"{self._pipeline}: no model is in service")
        return self._detector

    def exchange(self, new: Detector | None) -> Detector | None:
        """Let another detector, or none, judge from the next frame on; returns the one before, still open."""
        with self._using:
            old, self._detector, self._session = self._detector, new, None
        return old

    def step(self, frame: Frame) -> Verdict | None:
        """Judge the next frame, as `Session.step`."""
        with self._using:
            if self._session is None:
                self._session = self.require().session()
            return self._session.step(frame)

    def measure(self, image: np.ndarray) -> Measurement:
        """Score an image between two frames, as `Detector.measure`."""
        with self._using:
            return self.require().measure(image)
