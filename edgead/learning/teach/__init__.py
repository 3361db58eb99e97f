"""Teaching on the device: good images go into the memory bank of a finished model, thresholds are made again."""

from edgead.artifact.versions import earlier_versions
from edgead.learning.teach.guard import LessonRefusedError, Offered
from edgead.learning.teach.lesson import Counts, Judgement, Lesson
from edgead.learning.teach.marked import Marked, marked_parts
from edgead.learning.teach.prepare import Prepared, TeachPlan, prepare
from edgead.learning.teach.run import learn, teach
from edgead.learning.teach.versions import sheet_of, undo

__all__ = [
    "Counts",
    "Judgement",
    "Lesson",
    "LessonRefusedError",
    "Marked",
    "Offered",
    "Prepared",
    "TeachPlan",
    "earlier_versions",
    "learn",
    "marked_parts",
    "prepare",
    "sheet_of",
    "teach",
    "undo",
]
