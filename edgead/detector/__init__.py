"""Detector, which turns a frame into a Verdict with its stage times."""

from edgead.detector.detector import Detector, Predictor, Session
from edgead.detector.measurer import ClosedError, Measurement

__all__ = ["ClosedError", "Detector", "Measurement", "Predictor", "Session"]
