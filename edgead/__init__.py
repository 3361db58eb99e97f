"""edgead: visual anomaly detection on the edge.

>>> import edgead
>>> model = edgead.train("good/", "out/model", false_reject_rate=0.01)  # doctest: +SKIP
>>> model = edgead.load("out/model")
>>> for verdict in model.predict_all("parts/"):
...     print(verdict.name, verdict.decision, verdict.save("judged/").name)
dark.png reject dark.png_reject.jpg
good.jpg ok good.jpg_ok.jpg
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgead.errors import EdgeadError
from edgead.version import __version__ as __version__

if TYPE_CHECKING:
    from edgead.api import Model, TrainOptions, calibrate, evaluate, load, teach, train
    from edgead.api.estimator import AnomalyDetector as AnomalyDetector  # in the stubs, though not in __all__
    from edgead.detector import Detector
    from edgead.images.files import load_image
    from edgead.images.overlay import draw_overlay
    from edgead.images.verdict import ImageVerdict, Verdicts
    from edgead.stream import run
    from edgead.types import Box, Frame, StageTimes, Verdict

# numpy's OpenBLAS lets its threads wait at full load for 25 ms after each product, on cores that the network and the
# search need next. It reads this where numpy is imported after edgead: 2^4 cycles.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

# AnomalyDetector is left out, as it needs scikit-learn: `from edgead import *` must work on a device too.
__all__ = [
    "Box",
    "Detector",
    "EdgeadError",
    "Frame",
    "ImageVerdict",
    "Model",
    "StageTimes",
    "TrainOptions",
    "Verdict",
    "Verdicts",
    "calibrate",
    "draw_overlay",
    "evaluate",
    "load",
    "load_image",
    "run",
    "teach",
    "train",
]

# These import numpy, cv2, onnxruntime or torch, so they are loaded on first use: `import edgead` and `edgead --help`
# stay fast.
_WHERE = {
    **dict.fromkeys(("Model", "TrainOptions", "calibrate", "evaluate", "load", "teach", "train"), "edgead.api"),
    "AnomalyDetector": "edgead.api.estimator",
    "Detector": "edgead.detector",
    **dict.fromkeys(("ImageVerdict", "Verdicts"), "edgead.images.verdict"),
    "draw_overlay": "edgead.images.overlay",
    "load_image": "edgead.images.files",
    "run": "edgead.stream",
    **dict.fromkeys(("Box", "Frame", "StageTimes", "Verdict"), "edgead.types"),
}


if not TYPE_CHECKING:  # to which every name would be known

    def __getattr__(name: str) -> Any:
        if name in _WHERE:
            try:
                return getattr(import_module(_WHERE[name]), name)
            except ModuleNotFoundError as error:
                if error.name != "sklearn":
                    raise
                # AttributeError, as `hasattr` and other inspection of modules expect it.
                raise AttributeError(f"edgead.{name} needs scikit-learn: pip install scikit-learn") from error
        raise AttributeError(f"module 'edgead' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*_WHERE, *__all__, *(name for name in globals() if name.startswith("__"))})
