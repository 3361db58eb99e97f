"""Judgement of image files one by one, as streams if the model needs their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgead.detector.detector import Detector
from edgead.types import Verdict


class FileJudge:
    """Judge of image files; for a model that needs frames in order, each folder is a stream."""

    def __init__(self, detector: Detector):
        self._detector = detector
        self._session = detector.session() if detector.manifest.head.in_order else None
        self._folder: Path | None = None

    def predict(self, path: Path, image: np.ndarray) -> Verdict | None:
        """Judge the image of a file; None while the model needs more files of that folder."""
        if self._session is None:
            return self._detector.predict(image)
        if path.parent != self._folder:
            self._session.reset()
            self._folder = path.parent
        return self._session.judge(image)
