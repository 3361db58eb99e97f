"""The detector: a frame goes in, a Verdict with its stage times comes out."""

from edgead.detector.detector import Detector, Predictor, Session
from edgead.detector.measurer import ClosedError, Measurement

__all__ = ["ClosedError", "Detector", "Measurement", "Predictor", "Session"]
