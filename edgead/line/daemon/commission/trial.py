"""Trial of a draft's model: people send images to it and see its verdicts, which are not recorded."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from edgead.detector import Detector
from edgead.images.files import ImageError, UnfitImageError
from edgead.images.verdict import ImageVerdict

# A person who tries images sends the next one sooner; then the model's memory is free for inspection again.
_IDLE_S = 60.0


class TrialModel:
    """Learnt model that people try; open from the first image until a minute without one; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._detector: Detector | None = None
        self._idle = threading.Timer(_IDLE_S, self.close)

    def judge(self, model: Path, data: bytes, image: np.ndarray) -> ImageVerdict:
        """Judge an image, uint8 BGR (H, W, 3), with its file; raise ImageError if it was learnt or does not fit."""
        with self._lock:
            self._release(unless=model)
            self._detector = self._detector or Detector.load(model, runtime="onnxruntime", threads=1)
            self._idle = threading.Timer(_IDLE_S, self.close)
            self._idle.daemon = True
            self._idle.start()
            if self._detector.learnt_images.has(data, image):
                raise ImageError("the model has learnt it, so its score says nothing: if it is bad, take it out")
            try:
                return self._detector.predict(image)
            except ValueError as error:
                raise UnfitImageError(str(error)) from error

    def close(self) -> None:
        """Release the model; the next image opens it again."""
        with self._lock:
            self._release()

    def _release(self, unless: Path | None = None) -> None:
        self._idle.cancel()
        if self._detector is not None and self._detector.artifact.path != unless:
            self._detector.close()
            self._detector = None
