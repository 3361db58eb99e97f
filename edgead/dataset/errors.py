"""Errors of a folder of images."""

from __future__ import annotations

from edgead.errors import EdgeadError


class DatasetError(EdgeadError):
    """The folder does not hold what is needed; the message says what was found and what to do."""
