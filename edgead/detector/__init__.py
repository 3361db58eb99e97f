"""The detector: a frame goes in, a Verdict with its stage times comes out."""

from edgead.detector.detector import ClosedError, Detector, Measurement
from edgead.detector.session import Session

__all__ = ["ClosedError", "Detector", "Measurement", "Session"]
