"""Python interface: models are trained, opened, measured, calibrated and taught in one call each."""

from edgead.api.functions import calibrate, evaluate, load, teach, train
from edgead.api.model import Model
from edgead.api.options import TrainOptions

__all__ = ["Model", "TrainOptions", "calibrate", "evaluate", "load", "teach", "train"]
