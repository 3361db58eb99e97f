"""Base of the detector that opens an artifact's graph and computes raw scores of images, without thresholds.

A large frame is measured tile by tile: maps are blended where tiles overlap, and the highest score is the frame's.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.inputs import Preprocessing
from edgead.artifact.preprocess import (
    Aligned,
    aligned,
    as_frame,
    holes_of,
    map_of_frame,
    preprocess,
    read_frame,
    visible_image,
)
from edgead.detector.joined_tiles import Mosaic
from edgead.errors import EdgeadError, SettingsError
from edgead.heads.contract import Describer, Outputs, Scored, Scorer, ScoresSeveral
from edgead.heads.patches import HIDDEN, NOT_FINITE
from edgead.runtime import choose_runtime
from edgead.runtime.contract import RunsSeveral, Several, TakesFrames
from edgead.types import StageTimes

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger(__name__)

_STAGES = ("preprocess_ms", "infer_ms", "score_ms", "smooth_ms")

Input = tuple[np.ndarray, Preprocessing]
"""An aligned image, and the preprocessing for one run of the network."""

T = TypeVar("T")

Score = Callable[[Scorer, Outputs], Scored | None]
"""Function that scores the outputs of one image; None while the head needs more frames."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Raw scores of one image, before any threshold: image score, anomaly map, its maximum, stage times.

    `descriptor` is the feature vector of the anomaly, if it was requested; see `edgead.heads.contract.Describer`.
    `found` is False if the part could not be registered well enough. For `measured` see `edgead.types.Verdict`.
    """

    image_score: float
    anomaly_map: np.ndarray
    map_maximum: float
    stage_times: StageTimes
    descriptor: np.ndarray | None = None
    found: bool = True
    measured: Mapping[str, float] = field(default_factory=dict)


class ClosedError(EdgeadError):
    """Use of a detector after it was closed."""


class Measurer:
    """Opened artifact that scores images, even without thresholds; processes one image at a time.

    Attributes
    ----------
    at_once : int
        Largest number of tiles of a frame, or of images of a list, in one run of the network; 1 for most engines. A run
        takes the images that are at hand and never waits for more.
    """

    def __init__(
        self, artifact: Artifact, *, runtime: str = "auto", precision: str | None = None, threads: int | None = None
    ):
        if not isinstance(artifact, Artifact):
            path = os.fspath(artifact) if isinstance(artifact, (str, os.PathLike)) else "out/model"
            raise SettingsError(f"an Artifact is needed, found {artifact!r}: open a model with edgead.load({path!r})")
        chosen = choose_runtime(artifact, runtime, precision)
        self.graph = chosen.graph
        self.artifact = artifact
        self.manifest = artifact.manifest
        self.runtime = chosen.runtime.name
        self._asked: dict[str, Any] = {"runtime": runtime, "precision": chosen.graph.precision, "threads": threads}
        self._one_frame = threading.Lock()  # buffers of the runtime and the scorer hold a single frame
        self._closed = False
        self._describer: Describer | None = None
        self._left_out: dict[int, Scorer] = {}
        self._spec = self.manifest.preprocessing
        self._laid = self._spec.model_copy(update={"alignment": None})  # for aligned frames
        self._mosaic: Mosaic | None = None
        self._runtime = chosen.open(threads=threads, on_device=self.manifest.head.takes_gpu_arrays)
        # Read once, as reading it takes longer than a launch.
        self._takes_frames = self._runtime if isinstance(self._runtime, TakesFrames) else None
        self._several = self._runtime.several if isinstance(self._runtime, RunsSeveral) else None
        try:
            self._scorer = self._open_scorer(self._runtime.outputs)
            self._lanes = self._open_lanes(self._several)
            self.at_once = len(self._lanes)
        except BaseException:
            self.close()
            raise

    @property
    def launches(self) -> str:
        """Description of a GPU's launch, like "as one CUDA graph from the image to the map"; empty for other runtimes.

        Whether the graph begins with the image is known only after the first image.
        """
        return getattr(self._runtime, "launches", "")

    def _open_scorer(self, outputs: Outputs) -> Scorer:
        head, arrays = self.manifest.head, self.artifact.head_arrays()
        try:
            head.check(outputs, arrays)
        except ValueError as error:
            raise ArtifactError(f"{self.artifact.path}: {error}: train the model again") from error
        if self._spec.tiles is not None and (head.frames > 1 or head.new_state() is not None):
            raise SettingsError(
                f"the head {head.kind!r} of {self.artifact.path} remembers earlier frames, and would take the tiles "
                "of one frame for frames: train it without --tiles"
            )
        return head.open(outputs, arrays, self._spec.image_size)

    def _open_lanes(self, several: Several | None) -> Sequence[Scorer]:
        """Open the scorers for the images of a run: one on the host for all, or one for each on the GPU."""
        if several is None:
            return [self._scorer]
        if isinstance(several.outputs[self.manifest.output], np.ndarray):
            return [self._scorer] * several.count
        if not isinstance(self._scorer, ScoresSeveral):
            head, path = self.manifest.head.kind, self.artifact.path
            logger.warning("the head %r of %s scores one image a run: its engine needs no --batch", head, path)
            return [self._scorer]
        scorer = self._open_scorer(several.outputs)
        assert isinstance(scorer, ScoresSeveral)  # as the scorer for single images is
        return scorer.lanes

    def again(self, threads: int) -> Self:
        """Open the same model once more, with this number of threads."""
        return type(self)(self.artifact, **{**self._asked, "threads": threads})

    def read_image(self, path: str | os.PathLike[str]) -> np.ndarray:
        """Read an image file as this model measures it: 8-bit BGR, or the values of one channel with all their bits.

        Raises
        ------
        ImageError
            The file cannot be read, or is not of the type that the model was trained on.
        """
        return read_frame(os.fspath(path), self._spec)

    def visible(self, image: np.ndarray) -> np.ndarray:
        """Render an image of this model for people, uint8 BGR; see `edgead.artifact.preprocess.visible_image`."""
        return visible_image(image, self._spec)

    def _open_describer(self) -> Describer:
        """Open the describer at the first request for a descriptor; most models never get one."""
        if self._describer is None:
            head, arrays, outputs = self.manifest.head, self.artifact.head_arrays(), self._runtime.outputs
            self._describer = head.open_describer(outputs, arrays, self._scorer)
        return self._describer

    def image_scores(self, paths: Iterable[str | os.PathLike[str]]) -> list[float]:
        """Measure image files, and return their scores. Raises ImageError: one cannot be read, see `read_image`."""
        return [self.measure(self.read_image(path)).image_score for path in paths]

    def measure(self, image: np.ndarray) -> Measurement:
        """Score one image without judging it; a head with state treats it as a stream of this single frame.

        Parameters
        ----------
        image : ndarray of shape (H, W, 3), uint8, BGR
            Grey, BGRA and 16-bit images are converted. For a model that reads grey16 or relief: values, (H, W) uint16
            or float32, as returned by `read_image`.

        Raises
        ------
        ValueError
            The image is empty, of another dtype or smaller than the region of interest.
        """
        (measured,) = self._measure([image], self.manifest.head.score_still)
        assert measured is not None  # score_still gives a score or raises
        return measured

    def measure_left_out(self, image: np.ndarray, fold: int | None) -> Measurement:
        """Score one image as if the model had not learnt the fold that the image belongs to.

        Parameters
        ----------
        image : ndarray of shape (H, W, 3), uint8, BGR
        fold : int, or None for an image that was not learnt

        Raises
        ------
        SettingsError
            The model did not learn in folds, or has fewer.
        ValueError
            See `measure`.
        """
        (measured,) = self._measure([image], self._score_left_out(fold))
        assert measured is not None  # score_still gives a score or raises
        return measured

    def _score_left_out(self, fold: int | None) -> Score:
        head = self.manifest.head
        if fold is None:
            return head.score_still
        if not head.leaves_out(fold):
            raise SettingsError(f"{self.artifact.path} has learnt no fold {fold} that can be left out: retrain it")

        def score(whole: Scorer, outputs: Outputs) -> Scored | None:
            """Called under the detector's lock, like opening and closing."""
            if fold not in self._left_out:
                arrays, image_size = self.artifact.head_arrays(), self._spec.image_size
                self._left_out[fold] = head.open_left_out(self._runtime.outputs, arrays, image_size, fold, whole)
            return head.score_still(self._left_out[fold], outputs)

        return score

    def _measure(
        self, images: Sequence[np.ndarray], score: Score, *, describe_above: float = math.inf
    ) -> list[Measurement | None]:
        """Score images, in batches if the engine can, and describe those whose score is above `describe_above`."""
        with self._one_frame:
            if self._closed:
                raise ClosedError(f"this detector is closed: open {self.artifact.path} again with edgead.load")
            t0 = time.perf_counter_ns()
            laid = [aligned(as_frame(image, self._spec), self._spec) for image in images]
            laid_ms = (time.perf_counter_ns() - t0) / 1e6 / len(laid)
            if self._laid.tiles is None:
                inputs = [(one.image, self._laid) for one in laid]
                measured = list(self._measure_inputs(inputs, score, lambda: describe_above))
            else:
                measured = [self._measure_tiles(one.image, score, describe_above) for one in laid]
            return [self._in_frame(*both, laid_ms) for both in zip(measured, laid, strict=True)]

    def _in_frame(self, measured: Measurement | None, laid: Aligned, laid_ms: float) -> Measurement | None:
        """Transform the map of a measurement back to the frame as the camera gave it, before its alignment."""
        if measured is None:
            return None
        begin = time.perf_counter_ns()
        found = map_of_frame(measured.anomaly_map, self._laid, laid)
        maximum = measured.map_maximum if found is measured.anomaly_map else float(found.max())
        found_ms = (time.perf_counter_ns() - begin) / 1e6
        times = measured.stage_times
        times = replace(times, preprocess_ms=times.preprocess_ms + laid_ms, smooth_ms=times.smooth_ms + found_ms)
        return replace(
            measured,
            anomaly_map=found,
            map_maximum=maximum,
            stage_times=times,
            found=laid.found,
            measured={**measured.measured, **({} if laid.correlation is None else {"alignment": laid.correlation})},
        )

    def _measure_inputs(
        self, inputs: Sequence[Input], score: Score, describe_above: Callable[[], float]
    ) -> Iterator[Measurement | None]:
        """Score the network's inputs of aligned images, in order; maps have the size of the input."""
        for some in self._in_runs(inputs):
            if len(some) > 1:
                yield from self._measure_at_once(some, score, describe_above)
            else:
                yield self._measure_input(some[0], score, describe_above)

    def _in_runs(self, those: Sequence[T]) -> Iterator[Sequence[T]]:
        """Split inputs, or images with one input each, into batches for one run of the network."""
        for begin in range(0, len(those), self.at_once):
            some = those[begin : begin + self.at_once]
            # An incomplete batch costs as much as a full one: below half of it single runs are cheaper.
            if 2 * len(some) > self.at_once:
                yield some
            else:
                yield from ([one] for one in some)

    def _measure_input(self, one: Input, score: Score, describe_above: Callable[[], float]) -> Measurement | None:
        image, spec = one
        t0 = time.perf_counter_ns()
        if self._takes_frames is not None:
            self._takes_frames.take(image, spec)
        else:
            preprocess(image, spec, out=self._runtime.input[0])
        t1 = time.perf_counter_ns()
        outputs: Outputs = self._runtime.run(self._runtime.input)
        times = StageTimes((t1 - t0) / 1e6, (time.perf_counter_ns() - t1) / 1e6, 0, 0)
        return self._scored(one, outputs, self._scorer, times, score, describe_above())

    def _measure_at_once(
        self, some: Sequence[Input], score: Score, describe_above: Callable[[], float]
    ) -> Iterator[Measurement | None]:
        """Score several inputs in one run of the network; its times are divided among them."""
        assert self._several is not None
        t0 = time.perf_counter_ns()
        self._several.take(some)
        t1 = time.perf_counter_ns()
        outputs = self._several.run()
        t2 = time.perf_counter_ns()
        times = StageTimes((t1 - t0) / 1e6 / len(some), (t2 - t1) / 1e6 / len(some), 0, 0)
        for one, of_one, scorer in zip(some, outputs, self._lanes, strict=False):
            yield self._scored(one, of_one, scorer, times, score, describe_above())

    def _scored(
        self, one: Input, outputs: Outputs, scorer: Scorer, times: StageTimes, score: Score, describe_above: float
    ) -> Measurement | None:
        """Score an input from the network's outputs for it."""
        image, spec = one
        t0 = time.perf_counter_ns()
        holes = holes_of(image, spec, outputs[self.manifest.output].shape[1:3]) if spec.relief else None
        if holes is not None:
            outputs = {**outputs, HIDDEN: holes}
        t1 = time.perf_counter_ns()
        scored = score(scorer, outputs)
        if scored is None:
            return None
        descriptor = None
        if scored.image_score > describe_above:
            descriptor = self._open_describer().describe(outputs, scored.patch_scores)
        t2 = time.perf_counter_ns()
        anomaly_map, maximum = scorer.anomaly_map(scored.patch_scores)
        if not all(map(math.isfinite, (scored.image_score, maximum, *scored.measured.values()))):  # by a plugin
            raise ValueError(NOT_FINITE)
        t3 = time.perf_counter_ns()
        infer_ms = times.infer_ms + (t1 - t0) / 1e6
        times = StageTimes(times.preprocess_ms, infer_ms, (t2 - t1) / 1e6, (t3 - t2) / 1e6)
        return Measurement(scored.image_score, anomaly_map, maximum, times, descriptor, measured=scored.measured)

    def _measure_tiles(self, image: np.ndarray, score: Score, describe_above: float) -> Measurement:
        """Score every tile of an aligned image; the descriptor is that of the tile with the highest score."""
        mosaic = self._mosaic_of(image.shape[:2])
        joined, times, joining_ns = mosaic.blank(), [], 0
        highest: Measurement | None = None

        def level() -> float:
            return describe_above if highest is None else max(describe_above, highest.image_score)

        inputs = [(image, spec) for spec in mosaic.inputs]
        for number, one in enumerate(self._measure_inputs(inputs, score, level)):
            assert one is not None  # heads that wait for more frames are refused with tiles
            times.append(one.stage_times)
            t0 = time.perf_counter_ns()
            mosaic.add(joined, number, one.anomaly_map)
            joining_ns += time.perf_counter_ns() - t0
            if highest is None or one.image_score > highest.image_score:
                highest = one
        assert highest is not None
        total = StageTimes(*(math.fsum(getattr(one, name) for one in times) for name in _STAGES))
        total = replace(total, smooth_ms=total.smooth_ms + joining_ns / 1e6)
        return replace(highest, anomaly_map=joined, map_maximum=float(joined.max()), stage_times=total)

    def _mosaic_of(self, shape: tuple[int, ...]) -> Mosaic:
        """Layout of tiles for frames of a shape; cached, as a camera's frames have one."""
        height, width = shape[:2]
        if self._mosaic is None or self._mosaic.shape != (height, width):
            grid = self._runtime.outputs[self.manifest.output].shape[1:3]
            self._mosaic = Mosaic(self._laid, grid, (height, width))
        return self._mosaic

    def close(self) -> None:
        """Release the engine after the frame in progress."""
        with self._one_frame:
            self._closed = True
            self._runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
