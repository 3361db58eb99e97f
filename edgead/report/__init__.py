"""The report of a model on a test set: one page that a quality engineer can read, print and file."""

from edgead.report.findings import Findings, examine
from edgead.report.page import report_page

__all__ = ["Findings", "examine", "report_page"]
