"""Commissioning on the device: from good parts in front of a camera to a calibrated model."""

from edgead.adapt.commission.from_images import Commissioned, CommissionPlan
from edgead.adapt.commission.run import commission

__all__ = ["CommissionPlan", "Commissioned", "commission"]
