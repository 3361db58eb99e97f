"""edgead: visual anomaly detection on the edge.

>>> from edgead import Detector
>>> verdict = Detector.load("out/model").predict(image_bgr)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgead.types import Box, Frame, StageTimes, Verdict

if TYPE_CHECKING:
    from edgead.detector import Detector

__version__ = "0.1.0"
__all__ = ["Box", "Detector", "Frame", "StageTimes", "Verdict"]


def __getattr__(name: str) -> type[Detector]:
    # Detector pulls in cv2 and onnxruntime: import them when they are asked for, so that
    # `import edgead` and `edgead --help` stay instant.
    if name == "Detector":
        from edgead.detector import Detector

        return Detector
    raise AttributeError(f"module 'edgead' has no attribute {name!r}")
