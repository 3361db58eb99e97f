"""The detector: a frame goes in, a Verdict with its stage times comes out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.limits import Limits
from edgead.calibration.group_conformal import Ranking
from edgead.errors import SettingsError
from edgead.heads.contract import Outputs, Scored, Scorer
from edgead.images.boxes import find_boxes
from edgead.images.files import as_bgr
from edgead.preprocess import covered, preprocess
from edgead.runtime import choose_runtime
from edgead.types import Decision, Frame, StageTimes, Verdict


@dataclass(frozen=True, slots=True)
class Measurement:
    """Raw scores of one image, before any threshold: image score, anomaly map, its maximum, stage times."""

    image_score: float
    anomaly_map: np.ndarray
    map_maximum: float
    stage_times: StageTimes


class Detector:
    """A trained artifact, ready to judge images; any number of threads may use it, one frame is under way at a time.

    >>> detector = Detector.load("out/model")  # doctest: +SKIP
    >>> detector.predict(cv2.imread("part.png")).decision  # doctest: +SKIP
    'ok'
    """

    def __init__(
        self, artifact: Artifact, *, runtime: str = "auto", precision: str | None = None, threads: int | None = None
    ):
        self.artifact = artifact
        self.manifest = artifact.manifest
        chosen = choose_runtime(artifact, runtime, precision)
        self.graph = chosen.graph
        limits = self.graph.calibration
        self._ranking = Ranking(limits.scores, limits.groups) if limits else Ranking([])
        self._one_frame = threading.Lock()  # the runtime's buffers and the scorer's are made once, for one frame
        self._runtime = chosen.open(threads=threads, on_device=self.manifest.head.takes_gpu_arrays)
        try:
            self._scorer = self._open_scorer()
        except BaseException:
            self.close()
            raise

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
    ) -> Detector:
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

        Raises
        ------
        ArtifactError
            Missing, edited, damaged, from a newer edgead, or never calibrated.
        SettingsError
            No graph of that precision, or an unknown runtime.
        """
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

    def predict(self, image: np.ndarray) -> Verdict:
        """Judge one image; see `measure` for what it may be."""
        return self._judge(self.measure(image), image.shape)

    def _judge(self, measured: Measurement, shape: tuple[int, ...]) -> Verdict:
        limits = self.graph.calibration
        if limits is None:
            raise ArtifactError(f"{self.artifact.path} has no thresholds: only `measure` works")
        decision: Decision = "ok"
        if measured.image_score > limits.review:
            decision = "reject" if measured.image_score > limits.reject else "review"
        boxes = () if decision == "ok" else find_boxes(measured.anomaly_map, limits.map_threshold, self._shown(shape))
        return Verdict(
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

    def close(self) -> None:
        """Release the engine, once no frame is under way."""
        with self._one_frame:
            self._runtime.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Session:
    """One stream of frames before a detector, and what its head remembers of them; made by `Detector.session`.

    A gap in the numbers of the frames, another source or another connection begins a new stream. Use a session from
    one thread at a time.
    """

    def __init__(self, detector: Detector):
        self._detector = detector
        self._plane = detector.manifest.inputs[0].plane
        self.reset()

    def reset(self) -> None:
        """Forget every frame."""
        self._state = self._detector.manifest.head.new_state()
        self._next: tuple[str, int, int] | None = None

    def step(self, frame: Frame) -> Verdict | None:
        """Judge the next frame.

        Returns
        -------
        Verdict or None
            None where the head needs more frames before it gives a score.

        Raises
        ------
        ValueError
            A frame that cannot be judged; see `Detector.measure`. The next one begins a new stream.
        """
        if self._next not in (None, (frame.source, frame.connection, frame.number)):
            self.reset()
        planes = frame.planes
        if self._plane not in planes:
            raise SettingsError(f"the model looks at the plane {self._plane!r}, the frame has {', '.join(planes)}")
        score = partial(self._detector._scorer.score, state=self._state)
        measured = self._detector._measure(planes[self._plane], score)
        self._next = (frame.source, frame.connection, frame.number + 1)
        return None if measured is None else self._detector._judge(measured, planes[self._plane].shape)
