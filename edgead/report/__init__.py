"""Report of a model on a test set: one page for quality engineers to read, print and file."""

from edgead.report.findings import Findings, examine
from edgead.report.page import report_page

__all__ = ["Findings", "examine", "report_page"]
