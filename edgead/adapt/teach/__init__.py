"""Teaching on the device: good images go into the memory bank of a finished model; thresholds are made again."""

from edgead.adapt.teach.guard import LessonRefusedError, Offered
from edgead.adapt.teach.lesson import DecisionCounts, Judgement, Lesson
from edgead.adapt.teach.prepare import Prepared, TeachPlan, prepare
from edgead.adapt.teach.run import learn, sheet_of, teach, undo
from edgead.artifact.earlier_versions import earlier_versions

__all__ = [
    "DecisionCounts",
    "Judgement",
    "Lesson",
    "LessonRefusedError",
    "Offered",
    "Prepared",
    "TeachPlan",
    "earlier_versions",
    "learn",
    "prepare",
    "sheet_of",
    "teach",
    "undo",
]
