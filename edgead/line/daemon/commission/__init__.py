"""Commissioning from the page: a draft of a model for each camera, from the first good part to the model in service."""

from edgead.line.daemon.commission.draft import DraftError
from edgead.line.daemon.commission.drafts import Commissioning

__all__ = ["Commissioning", "DraftError"]
