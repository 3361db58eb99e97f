"""Python interface: one call each to train, open, measure, calibrate and teach a model."""

from edgead.adapt.training.options import TrainOptions
from edgead.api.functions import calibrate, evaluate, load, teach, train
from edgead.api.model import Model

__all__ = ["Model", "TrainOptions", "calibrate", "evaluate", "load", "teach", "train"]
