"""Metrics of a detector: ranking metrics on images and pixels, and rates with exact intervals."""

from edgead.metrics.pixels import Pixels, aupimo, aupro, pixel_auroc
from edgead.metrics.ranking import auroc, average_precision, f1_max
from edgead.metrics.rates import Rate, clopper_pearson

__all__ = [
    "Pixels",
    "Rate",
    "aupimo",
    "aupro",
    "auroc",
    "average_precision",
    "clopper_pearson",
    "f1_max",
    "pixel_auroc",
]
