"""Interfaces between a follower and the daemon."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from edgead.artifact.signatures.signature import Signature

FollowState = Literal["waiting", "current", "refused", "pinned"]


class Tag(Protocol):
    """A tag of a registry."""

    def digest(self) -> str: ...

    def pull(self, digest: str, destination: Path, reuse: list[Path]) -> None: ...


class Followable(Protocol):
    """What judges by the models: a pipeline."""

    name: str

    @property
    def model_path(self) -> Path: ...

    @property
    def failed_model(self) -> Path | None: ...

    def signatures(self, model: Path) -> list[Signature]: ...

    def swap(self, model: Path, *, by: str) -> None: ...


@dataclass(frozen=True, slots=True)
class FollowStatus:
    """What a follower has come to; `problem` is why the registry could not be asked, or not all could be done."""

    source: str
    state: FollowState
    tag_digest: str | None
    digest: str | None
    reason: str | None
    problem: str | None
    looked_at: datetime | None
    changed_at: datetime | None
