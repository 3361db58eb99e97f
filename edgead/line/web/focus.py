"""Focus of a camera's newest frame, and of golden images for comparison: measured once for all viewers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgead.artifact.files import ArtifactError
from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import read_manifest
from edgead.images.focus import Focus, measure_focus
from edgead.line.web.contract import Served
from edgead.types import Frame

_OFTENEST_S = 0.5


class FocusMeter:
    """Meter of the focus of newest frames, in the caller's thread; it keeps each result for half a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[float, str, Focus]] = {}
        self._golden: dict[tuple[str, tuple[int, ...]], Focus | None] = {}
        self._lock = threading.Lock()

    def measure(self, camera: str, frame: Frame) -> tuple[str, Focus]:
        """Return a frame's id and focus, perhaps of a frame that was measured less than half a second ago."""
        with self._lock:
            made_s, id, found = self._kept.get(camera, (-_OFTENEST_S, "", None))
            if found is None or self._clock() - made_s >= _OFTENEST_S:
                id, found = frame.id, measure_focus(frame.image)
                self._kept[camera] = (self._clock(), id, found)
            return id, found

    def golden(self, camera: str, shape: tuple[int, ...], daemon: Served) -> Focus | None:
        """Return the median focus of golden images of a model that judges a camera; None if none has that shape."""
        names = [name for name, section in daemon.site.pipelines.items() if section.camera == camera]
        for pipeline in filter(None, map(daemon.pipelines.get, names)):
            status = pipeline.status()
            with self._lock:
                key = (status.model_sha256, shape)
                if key not in self._golden:
                    # Of one model only: lenses are turned one at a time.
                    self._golden = {key: _of_model(Path(status.model), shape)}
                if self._golden[key] is not None:
                    return self._golden[key]
        return None


def _of_model(path: Path, shape: tuple[int, ...]) -> Focus | None:
    try:
        artifact = Artifact(path, read_manifest(path))
        images = [artifact.image(one.image) for one in artifact.graph().golden]
    except ArtifactError:  # the pipeline reports what is wrong with it
        return None
    found = [measure_focus(image) for image in images if image.shape == shape and image.dtype == np.uint8]
    if not found:
        return None
    cells = np.median([one.sharpness for one in found], axis=0)
    saturated, across, down = np.median([(one.saturated, one.across, one.down) for one in found], axis=0).tolist()
    return Focus(tuple(cells.tolist()), saturated, across, down)
