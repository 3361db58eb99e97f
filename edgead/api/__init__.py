"""Python interface: models are trained, opened, measured, calibrated and taught in one call each."""

from edgead.api.functions import calibrate, evaluate, load, teach, train
from edgead.api.model import Model

__all__ = ["Model", "calibrate", "evaluate", "load", "teach", "train"]
