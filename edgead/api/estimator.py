"""Anomaly detector with scikit-learn's interface: fit on good images, +1 for good parts, -1 for anomalous ones.

Needs `pip install 'edgead[train]' scikit-learn`.

>>> edgead.AnomalyDetector(preset="fine").fit(good_images).predict(["part.png"])  # doctest: +SKIP
array([1])
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from edgead.adapt.training.options import TrainOptions
from edgead.api import load, train
from edgead.errors import SettingsError
from edgead.images.files import ImageError
from edgead.images.inputs import Colour


class AnomalyDetector(OutlierMixin, BaseEstimator):
    """Detector of anomalous images as a scikit-learn estimator.

    The parameter X of its methods is a folder of images, a pattern of files, one array of shape (n, H, W, 3), or a
    sequence of paths, arrays, PIL images or torch tensors, as `edgead.Detector.predict` takes them.

    Parameters
    ----------
    detector, preset : str
        Method and its settings, see `edgead.train`.
    false_reject_rate : float, optional
        Share of good parts that `predict` may call anomalous; by default 5 %, or 10 or 20 % with few images.
    settings : dict, optional
        Settings of the method, as `edgead.train` takes them.
    options : dict, optional
        Further options of `edgead.train` by name, see `edgead.TrainOptions`.
    colour : {"bgr", "rgb"}, optional
        Order of the channels of arrays, by default BGR, and of tensors, by default RGB.
    model_dir : path, optional
        Folder of the model; by default a folder that lives as long as the estimator.

    Attributes
    ----------
    model_ : Model
    offset_ : float
        Negative of the threshold: `decision_function` is `score_samples` minus this.
    """

    def __init__(
        self,
        *,
        detector: str = "patchcore",
        preset: str = "default",
        false_reject_rate: float | None = None,
        settings: Mapping[str, Any] | None = None,
        options: TrainOptions | None = None,
        colour: Colour | None = None,
        model_dir: str | Path | None = None,
    ):
        self.detector = detector
        self.preset = preset
        self.false_reject_rate = false_reject_rate
        self.settings = settings
        self.options = options
        self.colour = colour
        self.model_dir = model_dir

    def fit(self, X: Any, y: Any = None) -> AnomalyDetector:
        """Learn from good images: those with 1 in `y`, if that is given; -1 is a defect, as `predict` says it."""
        if y is not None:
            labels = np.asarray(y)
            if not set(np.unique(labels).tolist()) <= {-1, 1} or isinstance(X, (str, os.PathLike)):
                raise SettingsError("y has 1 for each good image and -1 for each defect: give both as lists, or no y")
            X = list(X)
            if len(X) != len(labels):
                raise SettingsError(f"y has {len(labels)} labels for {len(X)} images: give one for each")
            X = [image for image, label in zip(X, labels.tolist(), strict=True) if label == 1]
        options: TrainOptions = {"false_reject_rate": self.false_reject_rate}
        if isinstance(X, (str, os.PathLike)) and Path(X).is_dir():
            options["normal_dir"] = "."
        options.update(self.options or {})
        self.model_ = train(
            X,
            self._own_folder() / "model" if self.model_dir is None else self.model_dir,
            detector=self.detector,
            preset=self.preset,
            precision="fp32",  # int8 is for devices, and to choose it takes as long as to learn
            settings=self.settings,
            colour=self.colour,
            progress=False,
            **options,
        )
        return self

    @property
    def offset_(self) -> float:
        threshold = self.model_.threshold
        assert threshold is not None  # it was calibrated
        return -threshold

    def score_samples(self, X: Any) -> np.ndarray:
        """Score images: float64 of shape (n,); lower is more anomalous."""
        check_is_fitted(self)
        scores = []
        for verdict in self.model_.predict_all(X, colour=self.colour):
            if verdict.problem:
                raise ImageError(verdict.problem)
            scores.append(-verdict.image_score)
        return np.array(scores)

    def decision_function(self, X: Any) -> np.ndarray:
        """Score images relative to the threshold: float64 of shape (n,); below 0 is anomalous."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Judge images: int64 of shape (n,); 1 is good, -1 is anomalous."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _own_folder(self) -> Path:
        folder = tempfile.mkdtemp(prefix="edgead-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "model_" in state:
            root = Path(self.model_.info()["path"])
            state["model_"] = {
                path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state.pop("model_", None)
        super().__setstate__(state)
        if files is not None:
            root = self._own_folder() / "model"
            for name, content in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content)
            self.model_ = load(root)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        return tags
