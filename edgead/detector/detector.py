"""The detector: a frame goes in, a Verdict with its stage times comes out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.limits import Limits
from edgead.calibration.group_conformal import Ranking
from edgead.detector.session import Session
from edgead.errors import EdgeadError, SettingsError
from edgead.heads.contract import Outputs, Scored, Scorer
from edgead.images.boxes import find_boxes
from edgead.images.files import as_bgr
from edgead.images.inputs import Colour, each_image, in_bgr, name_of, read_image
from edgead.images.verdict import ImageVerdict
from edgead.preprocess import covered, preprocess
from edgead.runtime import choose_runtime
from edgead.types import Decision, StageTimes, Verdict

if TYPE_CHECKING:
    from typing_extensions import Self

V = TypeVar("V", bound=Verdict)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Raw scores of one image, before any threshold: image score, anomaly map, its maximum, stage times."""

    image_score: float
    anomaly_map: np.ndarray
    map_maximum: float
    stage_times: StageTimes


class ClosedError(EdgeadError):
    """The detector was closed before it was asked."""


class Detector:
    """A trained artifact, ready to judge images; any number of threads may use it, one frame is under way at a time.

    `edgead.load` opens one that can be evaluated, calibrated and exported too.

    >>> detector = Detector.load("out/model")  # doctest: +SKIP
    >>> detector.predict("part.png").decision  # doctest: +SKIP
    'ok'
    """

    def __init__(
        self, artifact: Artifact, *, runtime: str = "auto", precision: str | None = None, threads: int | None = None
    ):
        if not isinstance(artifact, Artifact):
            path = os.fspath(artifact) if isinstance(artifact, (str, os.PathLike)) else "out/model"
            raise SettingsError(f"an Artifact is needed, found {artifact!r}: open a model with edgead.load({path!r})")
        chosen = choose_runtime(artifact, runtime, precision)
        self.graph = chosen.graph
        self._take(artifact)
        self.runtime = chosen.runtime.name
        self._one_frame = threading.Lock()  # the runtime's buffers and the scorer's are made once, for one frame
        self._closed = False
        self._runtime = chosen.open(threads=threads, on_device=self.manifest.head.takes_gpu_arrays)
        try:
            self._scorer = self._open_scorer()
        except BaseException:
            self.close()
            raise

    def _take(self, artifact: Artifact) -> None:
        """Take the manifest and the graph's thresholds from an artifact whose network is the one that runs."""
        self.artifact = artifact
        self.manifest = artifact.manifest
        limits = self.manifest.graphs[self.graph.precision].calibration
        self.graph = replace(self.graph, calibration=limits)
        self._ranking = Ranking(limits.scores, limits.groups) if limits else Ranking([])

    def _open_scorer(self) -> Scorer:
        head, arrays, outputs = self.manifest.head, self.artifact.head_arrays(), self._runtime.outputs
        try:
            head.check(outputs, arrays)
        except ValueError as error:
            raise ArtifactError(f"{self.artifact.path}: {error}: train the model again") from error
        return head.open(outputs, arrays, self.manifest.preprocessing.image_size)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        runtime: str = "auto",
        precision: str | None = None,
        threads: int | None = None,
        device: str | None = None,
    ) -> Self:
        """Open an artifact directory.

        Parameters
        ----------
        path : path
            What `edgead train -o` wrote.
        runtime : str
            See `edgead.runtime.choose_runtime`.
        precision : {"fp32", "fp16", "int8"}, optional
            Which of the artifact's graphs, each with thresholds of its own; by default the one that the manifest names.
        threads : int, optional
            Threads of the network's engine; by default those of the kernels.
        device : None
            Not taken: the error says which `runtime` runs where.

        Raises
        ------
        ArtifactError
            Missing, edited, damaged, from a newer edgead, or never calibrated.
        SettingsError
            No graph of that precision, or an unknown runtime.
        """
        if device is not None:
            raise SettingsError(
                f"device={device!r}: the runtime says where a model runs: runtime='tensorrt' on an NVIDIA GPU, "
                "'onnxruntime' or 'openvino' on the CPU"
            )
        detector = cls(Artifact.load(path), runtime=runtime, precision=precision, threads=threads)
        if detector.graph.calibration is None:
            detector.close()
            raise ArtifactError(f"{path} has no thresholds: retrain it with `edgead train`")
        return detector

    def session(self) -> Session:
        """Begin a stream of frames; cheap, and any number of them may share the detector."""
        return Session(self)

    def measure(self, image: np.ndarray) -> Measurement:
        """Score one image without judging it; a head with state sees it as a stream that shows nothing else.

        Parameters
        ----------
        image : ndarray of shape (H, W, 3), uint8, BGR
            Grey, BGRA and 16-bit images are converted.

        Raises
        ------
        ValueError
            An image that is empty, of another dtype or smaller than the region of interest.
        """
        measured = self._measure(image, partial(self.manifest.head.score_still, self._scorer))
        assert measured is not None  # score_still gives a score or raises
        return measured

    def _measure(self, image: np.ndarray, score: Callable[[Outputs], Scored | None]) -> Measurement | None:
        with self._one_frame:
            if self._closed:
                raise ClosedError(f"this detector is closed: open {self.artifact.path} again with edgead.load")
            t0 = time.perf_counter_ns()
            preprocess(as_bgr(image), self.manifest.preprocessing, out=self._runtime.input[0])
            t1 = time.perf_counter_ns()
            outputs = self._runtime.run(self._runtime.input)
            t2 = time.perf_counter_ns()
            scored = score(outputs)
            t3 = time.perf_counter_ns()
            if scored is None:
                return None
            anomaly_map, maximum = self._of_image(*self._scorer.anomaly_map(scored.patch_scores), image.shape)
            t4 = time.perf_counter_ns()
        times = StageTimes((t1 - t0) / 1e6, (t2 - t1) / 1e6, (t3 - t2) / 1e6, (t4 - t3) / 1e6)
        return Measurement(scored.image_score, anomaly_map, maximum, times)

    def _of_image(self, anomaly_map: np.ndarray, maximum: float, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
        """The map and its maximum where the input shows the image, not its reflection."""
        part = anomaly_map[covered(self.manifest.preprocessing, shape)]
        return (anomaly_map, maximum) if part.shape == anomaly_map.shape else (part.copy(), float(part.max()))

    @overload
    def predict(self, image: np.ndarray, *, colour: Colour | None = None) -> ImageVerdict: ...

    @overload
    def predict(self, image: Any, *, colour: Colour | None = None, recursive: bool = False) -> Any: ...

    def predict(self, image: Any, *, colour: Colour | None = None, recursive: bool = False) -> Any:
        """Judge an image, or many.

        Parameters
        ----------
        image : path, bytes, ndarray, PIL image or torch tensor; a folder, or an iterable of these
            See `edgead.images.inputs.read_image` for the arrays that are taken; one of four axes is many images.
        colour : {"bgr", "rgb"}, optional
            Order of the channels of arrays, by default BGR as OpenCV has it, and of tensors, by default RGB. Files and
            PIL images know theirs.
        recursive : bool
            Of a folder, judge what lies in the folders below it too.

        Returns
        -------
        ImageVerdict, or iterator of ImageVerdict
            An iterator for many: each image is read and judged when its verdict is asked for.

        Raises
        ------
        ImageError
            It cannot be read, or is empty or of another type; of many, when its turn comes.
        SettingsError
            It is smaller than the region of interest, or an unknown `colour`.
        """
        if isinstance(image, np.ndarray) and image.ndim < 4:  # a device's frames: no more is asked of them
            return self._predict(image if colour is None else in_bgr(image, colour))
        several = each_image(image, recursive=recursive)
        if several is None:
            return self._predict_given(image, name_of(image), colour)
        return (self._predict_given(one, name, colour) for one, name in several)

    def _predict_given(self, image: Any, name: str, colour: Colour | None) -> ImageVerdict:
        array = read_image(image, colour)
        if not name:
            return self._predict(array)
        try:
            # The file is kept by its name: the images of a folder would fill the memory.
            return self._predict(array, image=Path(image), name=name)
        except SettingsError as error:
            raise SettingsError(f"{image}: {error}") from error

    def _predict(self, array: np.ndarray, **shown: Any) -> ImageVerdict:
        make = partial(ImageVerdict, **(shown or {"image": array}))
        return self._judge(self.measure(array), array.shape, make)

    def _judge(self, measured: Measurement, shape: tuple[int, ...], make: Callable[..., V]) -> V:
        limits = self.graph.calibration
        if limits is None:
            raise ArtifactError(f"{self.artifact.path} has no thresholds: only `measure` works")
        decision: Decision = "ok"
        if measured.image_score > limits.review:
            decision = "reject" if measured.image_score > limits.reject else "review"
        boxes = () if decision == "ok" else find_boxes(measured.anomaly_map, limits.map_threshold, self._shown(shape))
        return make(
            measured.image_score,
            decision,
            measured.anomaly_map,
            limits.reject,
            limits.map_threshold,
            boxes,
            measured.stage_times,
            self.manifest.preprocessing.roi,
            limits.map_typical,
            review_threshold=limits.review,
            p_value=self._ranking.p_value(measured.image_score),
            model=self.manifest.manifest_sha256,
        )

    def _shown(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """The part of a frame of this shape that the map covers."""
        return self.manifest.preprocessing.roi or (0, 0, shape[1], shape[0])

    def set_thresholds(self, *, review: float, reject: float) -> None:
        """Judge by other thresholds than the artifact's, from the next image on; the artifact stays as it is.

        Raises
        ------
        SettingsError
            Thresholds that are not finite, or of which review lies above reject.
        """
        limits = Limits.checked(review=review, reject=reject)
        if self.graph.calibration is None:
            raise ArtifactError(f"{self.artifact.path} has no thresholds: retrain it with `edgead train`")
        changed = self.graph.calibration.model_copy(update=limits.values())
        self.graph = replace(self.graph, calibration=changed)

    @property
    def threshold(self) -> float | None:
        """Scores above it are rejected; None before the calibration."""
        return None if self.graph.calibration is None else self.graph.calibration.reject

    def __repr__(self) -> str:
        height, width = self.manifest.preprocessing.image_size
        limit = "no thresholds" if self.threshold is None else f"reject > {self.threshold:.4g}"
        graph = f"{self.graph.precision} on {self.runtime}"
        closed = ", closed" if self._closed else ""
        return f"{type(self).__name__}({self.manifest.detector}, {width}x{height}, {graph}, {limit}{closed})"

    def close(self) -> None:
        """Release the engine, once no frame is under way."""
        with self._one_frame:
            self._closed = True
            self._runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
