"""Trial of a draft's model: it judges images for whoever tries it, beside the line and without a record."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from edgead.detector import Detector
from edgead.images.files import ImageError, UnfitImageError
from edgead.images.verdict import ImageVerdict

# Whoever tries images sends the next one sooner; after that, the model's memory is the line's again.
_IDLE_S = 60.0


class Trial:
    """Model under trial, open from its first image until nobody has tried one for a minute; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._detector: Detector | None = None
        self._idle = threading.Timer(_IDLE_S, self.close)

    def judge(self, model: Path, data: bytes, image: np.ndarray) -> ImageVerdict:
        """Judge an image, uint8 BGR (H, W, 3), with its file's bytes; raise ImageError if it was learnt or unfit."""
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
