"""Screening: a pile of parts that nobody has labelled, ranked by how far each is from what most others show."""

from edgead.unlabelled.screening.run import Screened, ScreenedImage, screen
from edgead.unlabelled.screening.screeners import ScreenPlan

__all__ = ["ScreenPlan", "Screened", "ScreenedImage", "screen"]
