"""The detector: a frame goes in, a Verdict with its stage times comes out."""

from edgead.detector.detector import Detector
from edgead.detector.measurer import ClosedError, Measurement
from edgead.detector.session import Session

__all__ = ["ClosedError", "Detector", "Measurement", "Session"]
