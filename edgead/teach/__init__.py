"""Teaching on the device: good images go into the memory bank of a finished model, thresholds are made anew."""

from edgead.teach.lesson import Counts, Judgement, Lesson
from edgead.teach.run import TeachPlan, teach
from edgead.teach.versions import earlier_versions, undo

__all__ = ["Counts", "Judgement", "Lesson", "TeachPlan", "earlier_versions", "teach", "undo"]
