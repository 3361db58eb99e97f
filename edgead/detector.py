"""The detector: a frame goes in, a Verdict with its stage times comes out."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace

import cv2
import numpy as np

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.limits import Limits
from edgead.calibration.group_conformal import Ranking
from edgead.heads.cuda_scoring import DeviceScorer, can_score_on_device
from edgead.heads.scoring import Scorer
from edgead.images.files import as_bgr
from edgead.preprocess import covered, preprocess
from edgead.runtime import graph_for, open_runtime
from edgead.runtime.device import DeviceArray
from edgead.types import Box, Decision, StageTimes, Verdict


@dataclass(frozen=True, slots=True)
class Measurement:
    """Raw scores of one image, before any threshold: image score, anomaly map, its maximum, stage times."""

    image_score: float
    anomaly_map: np.ndarray
    map_maximum: float
    stage_times: StageTimes


class Detector:
    """A trained artifact, ready to judge images. Use one from one thread at a time.

    >>> detector = Detector.load("out/model")  # doctest: +SKIP
    >>> detector.predict(cv2.imread("part.png")).decision  # doctest: +SKIP
    'ok'
    """

    def __init__(
        self, artifact: Artifact, *, runtime: str = "auto", precision: str | None = None, threads: int | None = None
    ):
        self.artifact = artifact
        self.manifest = artifact.manifest
        self.graph = graph_for(artifact, runtime, precision)
        limits = self.graph.calibration
        self._ranking = Ranking(limits.scores, limits.groups) if limits else Ranking([])
        on_device = can_score_on_device(self.manifest.scoring)
        self._runtime = open_runtime(
            artifact, runtime, precision=self.graph.precision, threads=threads, on_device=on_device
        )
        try:
            self._scorer = self._open_scorer()
        except BaseException:
            self.close()
            raise

    def _open_scorer(self) -> Scorer | DeviceScorer:
        scoring = self.manifest.scoring
        bank = self.artifact.memory_bank() if scoring.head == "patch_nearest" else None
        output = self._runtime.outputs[self.manifest.output]
        if bank is not None and bank.shape[1:] != output.shape[-1:]:
            raise ArtifactError(
                f"{self.artifact.path}: the memory bank has rows of {bank.shape[1:]}, the network gives "
                f"{output.shape[-1:]}: train the model again"
            )
        grid = (output.shape[1], output.shape[2])
        usual = self.artifact.usual_scores()
        if usual is not None and usual.shape != grid:
            raise ArtifactError(
                f"{self.artifact.path}: there are usual scores for a grid of {usual.shape}, the network gives {grid}: "
                "train the model again"
            )
        prepared = (scoring, grid, self.manifest.preprocessing.image_size, bank, usual)
        if isinstance(output, DeviceArray):
            return DeviceScorer(*prepared, output.device)
        return Scorer(*prepared)

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
            See `edgead.runtime.open_runtime`.
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
        artifact = Artifact.load(path)
        if graph_for(artifact, runtime, precision).calibration is None:
            raise ArtifactError(f"{path} has no thresholds: train it anew with `edgead train`")
        return cls(artifact, runtime=runtime, precision=precision, threads=threads)

    def measure(self, image: np.ndarray) -> Measurement:
        """Score one image without judging it.

        Parameters
        ----------
        image : ndarray of shape (H, W, 3), uint8, BGR
            Grey, BGRA and 16-bit images are converted.

        Raises
        ------
        ValueError
            An image that is empty, of another dtype or smaller than the region of interest.
        """
        t0 = time.perf_counter_ns()
        preprocess(as_bgr(image), self.manifest.preprocessing, out=self._runtime.input[0])
        t1 = time.perf_counter_ns()
        outputs = self._runtime.run(self._runtime.input)
        t2 = time.perf_counter_ns()
        output = outputs[self.manifest.output]
        patch_scores = self._scorer.patch_scores(output)
        image_score = self._scorer.image_score(patch_scores, outputs.get("image_score"), features=output)
        t3 = time.perf_counter_ns()
        anomaly_map, maximum = self._of_image(*self._scorer.anomaly_map(patch_scores), image.shape)
        t4 = time.perf_counter_ns()
        times = StageTimes((t1 - t0) / 1e6, (t2 - t1) / 1e6, (t3 - t2) / 1e6, (t4 - t3) / 1e6)
        return Measurement(image_score, anomaly_map, maximum, times)

    def _of_image(self, anomaly_map: np.ndarray, maximum: float, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
        """The map and its maximum where the input shows the image, not its reflection."""
        part = anomaly_map[covered(self.manifest.preprocessing, shape)]
        return (anomaly_map, maximum) if part.shape == anomaly_map.shape else (part.copy(), float(part.max()))

    def predict(self, image: np.ndarray) -> Verdict:
        """Judge one image; see `measure` for what it may be."""
        measured = self.measure(image)
        limits = self.graph.calibration
        if limits is None:
            raise ArtifactError(f"{self.artifact.path} has no thresholds: only `measure` works")
        decision: Decision = "ok"
        if measured.image_score > limits.review:
            decision = "reject" if measured.image_score > limits.reject else "review"
        boxes = () if decision == "ok" else self._boxes(measured.anomaly_map, limits.map_threshold, image.shape)
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

    def _boxes(self, anomaly_map: np.ndarray, threshold: float, frame_shape: tuple[int, ...]) -> tuple[Box, ...]:
        roi = self.manifest.preprocessing.roi or (0, 0, frame_shape[1], frame_shape[0])
        scale = np.array([roi[2] / anomaly_map.shape[1], roi[3] / anomaly_map.shape[0]])
        mask = (anomaly_map > threshold).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        boxes = []
        for label in range(1, count):
            x, y, width, height = stats[label, :4]
            region = labels[y : y + height, x : x + width] == label
            peak = float(anomaly_map[y : y + height, x : x + width][region].max())
            # Outwards to whole pixels of the frame, so that the region never sticks out of its box.
            low = np.floor(np.array([x, y]) * scale).astype(int)
            high = np.ceil(np.array([x + width, y + height]) * scale).astype(int)
            size = high - low
            boxes.append(Box(int(roi[0] + low[0]), int(roi[1] + low[1]), int(size[0]), int(size[1]), peak))
        return tuple(sorted(boxes, key=lambda box: -box.peak))

    def close(self) -> None:
        """Release the engine."""
        self._runtime.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
