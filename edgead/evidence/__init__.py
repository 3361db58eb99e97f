"""The record of every verdict, and pictures of some: what an unattended line is asked about weeks later."""

from __future__ import annotations

from edgead.errors import SettingsError

try:
    import sqlalchemy as _  # noqa: F401
except ModuleNotFoundError:
    raise SettingsError("the evidence store needs `pip install 'edgead[daemon]'`") from None

from edgead.evidence.database import EvidenceError  # noqa: E402
from edgead.evidence.store import EvidenceStore  # noqa: E402

__all__ = ["EvidenceError", "EvidenceStore"]
