"""Commissioning on the device: from good parts in front of a camera to a calibrated model."""

from edgead.learning.commission.from_images import Commissioned, CommissionPlan
from edgead.learning.commission.run import commission

__all__ = ["CommissionPlan", "Commissioned", "commission"]
