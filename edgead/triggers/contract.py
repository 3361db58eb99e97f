"""What every trigger has in common."""

from __future__ import annotations

from typing import Protocol

from edgead.types import Frame


class Trigger(Protocol):
    """Chooses the frames that are judged."""

    def accepts(self, frame: Frame) -> bool:
        """Tell whether to judge a frame; called with every frame of a pipeline, in their order."""
        ...

    def close(self) -> None: ...
