"""Evidence: a record of every verdict, with images of some, for questions weeks later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgead.errors import SettingsError
from edgead.process.installation import install_command

if TYPE_CHECKING:
    from edgead.line.evidence.database import EvidenceError
    from edgead.line.evidence.store import EvidenceStore

__all__ = ["EvidenceError", "EvidenceStore"]


def __getattr__(name: str) -> Any:
    # Only those who keep evidence need sqlalchemy; a site file can be checked without it.
    if name not in __all__:
        raise AttributeError(f"module 'edgead.line.evidence' has no attribute {name!r}")
    try:
        from edgead.line.evidence import database, store
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edgead"):
            raise
        raise SettingsError(f"the evidence store needs `{install_command('daemon')}`") from None
    return database.EvidenceError if name == "EvidenceError" else store.EvidenceStore
