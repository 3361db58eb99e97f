"""Teaching on the device: good images go into the memory bank of a finished model, thresholds are made again."""

from edgead.artifact.versions import earlier_versions
from edgead.learning.teach.lesson import Counts, Judgement, Lesson
from edgead.learning.teach.run import TeachPlan, teach
from edgead.learning.teach.versions import undo

__all__ = ["Counts", "Judgement", "Lesson", "TeachPlan", "earlier_versions", "teach", "undo"]
