"""The camera of a draft, as the daemon has it now."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from typing import Any, Protocol

from edgead.daemon.commission.draft import DraftError
from edgead.serialization.notice import News
from edgead.site.schema import Site
from edgead.types import Frame


class Inspecting(Protocol):
    """What is needed of a daemon."""

    @property
    def site(self) -> Site: ...

    @property
    def cameras(self) -> Mapping[str, Any]: ...

    @property
    def pipelines(self) -> Mapping[str, Any]: ...

    @property
    def store(self) -> Any: ...

    def subscribe_verdicts(self) -> queue.Queue[News]: ...


class CameraLine:
    """The camera of a draft, by its name: a reload may exchange it."""

    def __init__(self, daemon: Inspecting, name: str):
        self._daemon, self._name = daemon, name

    def newest(self) -> Frame | None:
        """Give the newest frame; None while the camera is lost."""
        camera = self._daemon.cameras.get(self._name)
        return None if camera is None or camera.status().state == "lost" else camera.latest()

    def fresh(self) -> Frame:
        """Give the newest frame; raises DraftError where the camera gives none now."""
        camera = self._daemon.cameras.get(self._name)
        if camera is None:
            raise DraftError(f"there is no camera {self._name} any more: the site file has changed")
        status, frame = camera.status(), camera.latest()
        if status.state in ("lost", "stalled", "connecting") or frame is None:
            reason = f": {status.reason}" if status.reason else ""
            raise DraftError(f"camera {self._name} gives no frames, it is {status.state}{reason}: see System")
        return frame

    def judged(self) -> queue.Queue[News]:
        """Give a queue that gets what all pipelines judge from now on, and notices."""
        return self._daemon.subscribe_verdicts()

    def pipelines(self) -> list[dict[str, Any]]:
        """List the pipelines that judge it, with `budget_ms`."""
        sections = self._daemon.site.pipelines
        return [
            {"name": name, "budget_ms": section.budget_ms}
            for name, section in sections.items()
            if section.camera == self._name
        ]

    def is_of_camera(self, pipeline: str) -> bool:
        """Whether a pipeline judges its frames."""
        section = self._daemon.site.pipelines.get(pipeline)
        return section is not None and section.camera == self._name
