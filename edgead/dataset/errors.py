"""Errors of data sets."""

from __future__ import annotations

from edgead.errors import EdgeadError


class DatasetError(EdgeadError):
    """Data set that lacks what is needed; the message says what was found and what to do."""
