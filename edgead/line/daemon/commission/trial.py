"""Trial of a draft's model: it judges images for whoever tries it, beside the line and without a record."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from edgead.artifact.manifest import read_manifest
from edgead.detector import Detector
from edgead.images.files import ImageError, UnfitImageError
from edgead.images.verdict import ImageVerdict

# Somebody who tries images sends the next one sooner; after that, the model's memory is the line's again.
_IDLE_S = 60.0


class Trial:
    """Model under trial, open from its first image until it has been idle for a minute; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._detector: Detector | None = None
        self._idle: threading.Timer | None = None

    def judge(self, model: Path, data: bytes, image: np.ndarray) -> ImageVerdict:
        """Judge an image, uint8 BGR (H, W, 3), and the bytes of its file, by the model in a folder.

        Raises
        ------
        ImageError
            The model has learnt this image, or cannot judge one of its size.
        ArtifactError
            The model is damaged.
        """
        with self._lock:
            wanted = read_manifest(model).manifest_sha256
            if self._detector is None or self._detector.manifest.manifest_sha256 != wanted:
                self._release()
                self._detector = Detector.load(model, runtime="onnxruntime", threads=1)
            self._wait()
            if self._detector.learnt_images.has(data, image):
                raise ImageError(
                    "the model has learnt it, so its score says nothing: was it bad, take it out and learn again"
                )
            try:
                return self._detector.predict(image)
            except ValueError as error:
                raise UnfitImageError(str(error)) from error

    def close(self) -> None:
        """Release the model; the next image opens it again."""
        with self._lock:
            self._release()

    def _wait(self) -> None:
        """Begin to count the idle time from now."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = threading.Timer(_IDLE_S, self.close)
        self._idle.daemon = True
        self._idle.start()

    def _release(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        if self._detector is not None:
            self._detector.close()
        self._detector = self._idle = None
