"""Detector, which turns a frame into a Verdict with its stage times."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, overload

import numpy as np

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.limits import Limits
from edgead.artifact.manifest import Calibration
from edgead.artifact.preprocess import visible_image
from edgead.artifact.training_hashes import LearntImages
from edgead.calibration.cause_of_rejects import cause_of
from edgead.calibration.group_conformal import Ranking
from edgead.detector.box_sizes import in_mm
from edgead.detector.golden_likeness import FormatCheck
from edgead.detector.known_kinds import open_kinds
from edgead.detector.measurer import Measurement, Measurer, Score
from edgead.errors import SettingsError
from edgead.files.user_paths import named_path
from edgead.images.boxes import find_boxes
from edgead.images.files import ImageError
from edgead.images.inputs import (
    Colour,
    OneImage,
    PathLike,
    TorchTensor,
    check_given,
    check_type,
    checked_colour,
    each_image,
    in_bgr,
    is_one,
    is_there,
    name_of,
    read_image,
)
from edgead.images.pairs import judged_of
from edgead.images.verdict import ImageVerdict, Verdicts
from edgead.types import COLOUR, FAULT, VALUES, Box, Frame, StageTimes, Verdict

if TYPE_CHECKING:
    from typing_extensions import Self

    from edgead.images.likeness import Misfit

V = TypeVar("V", bound=Verdict)
P = TypeVar("P", bound="Predictor")


class Described(NamedTuple):
    """Verdict with a feature vector of the image's anomaly; see `Detector.describe`."""

    verdict: Verdict
    descriptor: np.ndarray


class Predictor:
    """Common interface of `Detector` and `edgead.Model` for programs: opening a model and judging images."""

    _detector: Detector

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        runtime: str = "auto",
        precision: str | None = None,
        threads: int | None = None,
        device: str | None = None,
        accept: Callable[[Artifact], object] = lambda artifact: None,
    ) -> Self:
        """Open an artifact directory.

        Parameters
        ----------
        path : path
            Folder that `edgead train -o` wrote.
        runtime : str
            See `edgead.runtime.choose_runtime`.
        precision : {"fp32", "fp16", "int8"}, optional
            Graph to use, each with its own thresholds; by default the one that the manifest names.
        threads : int, optional
            Threads of the network's engine; by default those of the kernels.
        device : None
            Refused: the error says which `runtime` to use instead.
        accept : callable
            Called with the opened artifact before its network runs; raises to refuse it.

        Raises
        ------
        ArtifactError
            The model is missing, edited, damaged, from a newer edgead, or never calibrated.
        SettingsError
            There is no graph of that precision, the runtime is unknown, or the path empty.
        """
        if device is not None:
            raise SettingsError(
                f"device={device!r}: the runtime says where a model runs: runtime='tensorrt' on an NVIDIA GPU, "
                "'onnxruntime' or 'openvino' on the CPU"
            )
        artifact = Artifact.load(named_path(path))
        accept(artifact)
        opened = cls(artifact, runtime=runtime, precision=precision, threads=threads)  # type: ignore[call-arg]
        if opened._detector.graph.calibration is None:
            opened._detector.close()
            raise ArtifactError(f"{path} has no thresholds: retrain it with `edgead train`")
        return opened

    # Strings and arrays are iterables too, but the first overload takes them.
    @overload
    def predict(self, image: OneImage, *, colour: Colour | None = None) -> ImageVerdict: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, image: Sequence[OneImage], *, colour: Colour | None = None) -> Verdicts: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, image: Iterable[OneImage], *, colour: Colour | None = None) -> Iterator[ImageVerdict]: ...

    def predict(
        self, image: OneImage | Iterable[OneImage], *, colour: Colour | None = None
    ) -> ImageVerdict | Verdicts | Iterator[ImageVerdict]:
        """Judge an image, or a list of them.

        A path or an array is always one image here, so that the type of the result is known: `predict_all` takes
        folders, patterns, volumes, and arrays of many images.

        Parameters
        ----------
        image : path, bytes, ndarray, PIL image or torch tensor; or a sequence or an iterator of these
            See `edgead.images.inputs.read_image` for the arrays that are taken.
        colour : {"bgr", "rgb"}, optional
            Order of the channels: by default BGR for arrays, as in OpenCV, and RGB for tensors. Files and PIL images
            state theirs.

        Returns
        -------
        ImageVerdict, or Verdicts for a sequence, or an iterator of ImageVerdict for an iterator
            Several images are read and judged one by one, when their verdict is requested; in a list, together with the
            next few if the engine takes batches. A file among them that cannot be judged gets a verdict with the
            decision "fault", whose `problem` says why.

        Raises
        ------
        ImageError
            The image cannot be read, is empty or of a wrong type. In a sequence, a missing file is reported at once, an
            array that is no image when its turn comes.
        SettingsError
            The image is smaller than the region of interest, it is many images, or `colour` is unknown.

        Examples
        --------
        >>> detector = Detector.load("out/model")
        >>> detector.predict(np.zeros((480, 480, 3), np.uint8), colour="rgb").decision
        'reject'
        >>> verdicts = detector.predict(["parts/dark.png", "parts/good.jpg"])
        >>> len(verdicts), verdicts[-1].name
        (2, 'good.jpg')
        """
        if isinstance(image, np.ndarray) and image.ndim < 4:  # the fast path, for frames of a device
            return self._detector._predict(image if colour is None else in_bgr(image, colour))
        checked_colour(colour)
        if isinstance(image, (str, os.PathLike)) and named_path(image).is_dir():
            raise SettingsError(f"{image} is a folder: judge its images with predict_all")
        if isinstance(image, Sequence) and not is_one(image):
            return self.predict_all(cast("Sequence[OneImage]", image), colour=colour)
        several = each_image(image)
        if several is None:
            return self._detector._predict_given(image, name_of(image), colour)
        if is_one(image):
            raise SettingsError(f"{_named(image)} is several images: judge them with predict_all")
        return (self._detector._predict_one(one, name, colour) for one, name in several)

    __call__ = predict

    def predict_all(
        self,
        images: PathLike | np.ndarray | TorchTensor | Iterable[OneImage],
        *,
        colour: Colour | None = None,
        recursive: bool = False,
    ) -> Verdicts:
        """Judge many images: those of a folder, a file pattern, a volume, a batch, or any iterable.

        Parameters
        ----------
        images : path, array or tensor of four axes, or iterable of what `predict` takes
            A folder, in natural order; a pattern of files with `*` or `?`, where `**` is any folders; a volume.
        colour : {"bgr", "rgb"}, optional
            See `predict`.
        recursive : bool
            Include the folders below a folder.

        Returns
        -------
        Verdicts
            Sequence; each image is read and judged when its verdict is requested. A file that cannot be judged gets a
            verdict with the decision "fault", whose `problem` says why. After all images the sequence's `advice` has
            the likely cause if nearly all were rejected.

        Raises
        ------
        ImageError
            A folder holds no images, or a file of a list is missing.
        SettingsError
            The argument is a single image, or `colour` is unknown.
        """
        checked_colour(colour)
        several = each_image(images, recursive=recursive)
        if several is None:
            check_type(images)
            if isinstance(images, (str, os.PathLike)) and not is_there(named_path(images)):
                raise ImageError(f"{images}: no such folder")
            raise SettingsError(f"{_named(images)} is a single image: judge it with predict, or put it in a list")
        found = list(several)
        if not is_one(images):  # otherwise the files were listed, or are parts of one array
            for image, _ in found:
                check_given(image)
        return Verdicts(found, partial(self._detector._predict_each, colour=colour), self._detector.advice)

    def set_thresholds(self, *, review: float, reject: float) -> None:
        """Use other thresholds, raw scores, from the next image on; the artifact is not changed.

        Raises
        ------
        SettingsError
            A threshold is not finite, or review is above reject.
        """
        limits, detector = Limits.checked(review=review, reject=reject), self._detector
        if detector.graph.calibration is None:
            raise ArtifactError(f"{detector.artifact.path} has no thresholds: retrain it with `edgead train`")
        method = {"method": "by_hand"} if detector.graph.calibration.method == "none" else {}
        changed = detector.graph.calibration.model_copy(update={**limits.values(), **method})
        detector.graph = replace(detector.graph, calibration=changed)

    @property
    def threshold(self) -> float | None:
        """Reject threshold: higher scores are rejected; None before the calibration."""
        limits = self._detector.graph.calibration
        return None if limits is None or limits.method == "none" else limits.reject

    def __repr__(self) -> str:
        detector = self._detector
        height, width = detector.manifest.preprocessing.image_size
        limit = "no thresholds" if self.threshold is None else f"reject > {self.threshold:.4g}"
        graph = f"{detector.graph.precision} on {detector.runtime}"
        closed = ", closed" if detector._closed else ""
        return f"{type(self).__name__}({detector.manifest.detector}, {width}x{height}, {graph}, {limit}{closed})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle by the folder's path, which is opened again, as an engine belongs to one process."""
        detector = self._detector
        opened = detector.artifact.path.absolute(), detector.manifest.manifest_sha256, detector.graph.calibration
        return _open_again, (type(self), detector._asked, *opened)


class Detector(Measurer, Predictor):
    """Loaded artifact that judges images; safe for any number of threads, one frame is processed at a time.

    `edgead.load` opens a model that can also be evaluated, calibrated, taught and exported, and hides this class.

    >>> with Detector.load("out/model") as detector:
    ...     detector.predict("parts/good.jpg").decision
    'ok'
    """

    # Whether findings of `format_check` are logged: the daemon and the commands report them in their own way.
    _warns_of_format = False

    def __init__(
        self, artifact: Artifact, *, runtime: str = "auto", precision: str | None = None, threads: int | None = None
    ):
        super().__init__(artifact, runtime=runtime, precision=precision, threads=threads)
        self._take(artifact)

    def _take(self, artifact: Artifact) -> None:
        """Take over manifest and thresholds from an artifact with the same network, while the engine keeps running."""
        self.artifact = artifact
        self.manifest = artifact.manifest
        limits = self.manifest.graphs[self.graph.precision].calibration
        self.graph = replace(self.graph, calibration=limits)
        self.format_check = FormatCheck(artifact, self.graph.golden)
        self.learnt_images = LearntImages(artifact)
        self._ranking = Ranking(limits.scores, limits.groups) if limits else Ranking([])
        self._kinds = open_kinds(artifact)
        if self._kinds:
            self._open_describer()

    def session(self) -> Session:
        """Begin a stream of frames; sessions are cheap, and any number of them may share the detector."""
        return Session(self)

    @property
    def _detector(self) -> Detector:  # type: ignore[override]  # an attribute would keep it from being released
        return self

    def predict_left_out(self, image: np.ndarray, fold: int | None) -> ImageVerdict:
        """Judge a learnt image from `read_image` as if it had not been learnt; see `measure_left_out`."""
        verdict = self._judge(image, self._score_left_out(fold), self._making(image))
        assert verdict is not None
        return verdict

    def _predict_each(self, images: Sequence[tuple[Any, str]], colour: Colour | None) -> Iterator[ImageVerdict]:
        """Judge named images in order, in batches of the engine's size; with tiles one by one."""
        for some in self._in_runs(images) if self._laid.tiles is None else ([one] for one in images):
            try:
                verdicts = self._predict_at_once(some, colour)
            except ValueError:  # raised again at the turn of the image that caused it
                verdicts = []
            if verdicts:
                yield from verdicts
            else:
                yield from (self._predict_one(image, name, colour) for image, name in some)

    def _predict_at_once(self, images: Sequence[tuple[Any, str]], colour: Colour | None) -> list[ImageVerdict]:
        """Judge images in one run; returns an empty list for a single image, which needs no batch."""
        if len(images) == 1:
            return []
        arrays = [read_image(image, colour, keep_depth=self._spec.keeps_depth) for image, _ in images]
        makes = [
            self._making(array, **_shown_of(image, name)) for array, (image, name) in zip(arrays, images, strict=True)
        ]
        return [one for one in self._judge_all(arrays, self.manifest.head.score_still, makes) if one is not None]

    def _predict_one(self, image: Any, name: str, colour: Colour | None) -> ImageVerdict:
        """Judge one of several images; the verdict on a file that cannot be judged says why, and the others go on."""
        try:
            return self._predict_given(image, name, colour)
        except (SettingsError, ImageError) as error:
            if not isinstance(image, (str, os.PathLike, bytes, bytearray)):  # an error of the program
                raise
            limits, no_map = self._limits(), np.zeros((0, 0), np.float32)
            found = math.nan, FAULT, no_map, limits.reject, limits.map_threshold, (), StageTimes(0, 0, 0, 0)
            return ImageVerdict(*found, model=self.manifest.manifest_sha256, name=name, problem=str(error))

    def _predict_given(self, image: Any, name: str, colour: Colour | None) -> ImageVerdict:
        array = read_image(image, colour, keep_depth=self._spec.keeps_depth)
        try:
            return self._predict(array, **_shown_of(image, name))
        except (SettingsError, ImageError) as error:
            if not name:
                raise
            raise type(error)(f"{image}: {error}") from error

    def _predict(self, array: np.ndarray, **shown: Any) -> ImageVerdict:
        verdict = self._judge(array, self.manifest.head.score_still, self._making(array, **shown))
        assert verdict is not None  # score_still always gives a score or raises
        return verdict

    def _making(self, array: np.ndarray, **shown: Any) -> Callable[..., ImageVerdict]:
        draw = partial(visible_image, spec=self._spec) if self._spec.keeps_depth else None
        return partial(ImageVerdict, **(shown or {"image": array}), draw=draw, shape=np.shape(array)[:2])

    def advice(self, scores: Sequence[float]) -> str:
        """Return the likely cause and the next step if nearly all of some images are rejected, otherwise ''."""
        cause = cause_of([], scores, self.graph, self.artifact.path, known_good=False)
        return "" if cause is None else cause.said

    def describe(self, image: np.ndarray) -> Described:
        """Judge an image and compute a feature vector of its anomaly, whatever the decision.

        Parameters
        ----------
        image : ndarray of shape (H, W, 3), uint8, BGR

        Returns
        -------
        Described
            Verdict with a `descriptor`, float32 (n,): images with the same kind of defect are close to each other.

        Raises
        ------
        SettingsError
            The model's head computes no such vectors; the message says what to use instead.
        """
        self.check_describes()
        (measured,) = self._measure([image], self.manifest.head.score_still, describe_above=-math.inf)
        assert measured is not None and measured.descriptor is not None
        return Described(self._verdict(measured, image, self._limits(), Verdict), measured.descriptor)

    def check_describes(self) -> None:
        """Raise SettingsError unless the model can `describe` images; the message says what to use instead."""
        self._open_describer()

    def _limits(self) -> Calibration:
        if self.graph.calibration is None:
            raise ArtifactError(f"{self.artifact.path} has no thresholds: only `measure` works")
        return self.graph.calibration

    def _judge(self, image: np.ndarray, score: Score, make: Callable[..., V]) -> V | None:
        """Judge an image by the function `score` of the network's outputs; None if that returns None."""
        return self._judge_all([image], score, [make])[0]

    def _judge_all(
        self, images: Sequence[np.ndarray], score: Score, makes: Sequence[Callable[..., V]]
    ) -> list[V | None]:
        """Judge images as `_judge` does, in batches if the engine can."""
        limits = self._limits()  # read once, as another thread may set others
        measured = self._measure(images, score, describe_above=limits.review if self._kinds else math.inf)
        verdicts: list[V | None] = []
        for image, one, make in zip(images, measured, makes, strict=True):
            if self._warns_of_format:
                self.format_check.warn(image.shape)
            verdicts.append(None if one is None else self._verdict(one, image, limits, make))
        return verdicts

    def _verdict(self, measured: Measurement, image: np.ndarray, limits: Calibration, make: Callable[..., V]) -> V:
        decision = limits.decide(measured.image_score)
        if decision == "ok" and not measured.found:  # the image differs from those that were learnt
            decision = "review"
        kind = None
        if self._kinds and decision != "ok" and measured.descriptor is not None:
            kind = self._kinds.kind_of(measured.descriptor)
        spec, anomaly_map = self._spec, measured.anomaly_map
        boxes: tuple[Box, ...] = ()
        if decision != "ok":
            region = spec.region(image.shape)
            boxes = in_mm(find_boxes(anomaly_map, limits.map_threshold, region, image.shape), image, spec)
        misfit = self.format_check.misfit(image.shape)
        return make(
            measured.image_score,
            decision,
            anomaly_map,
            limits.reject,
            limits.map_threshold,
            boxes,
            measured.stage_times,
            spec.roi,
            limits.map_typical,
            review_threshold=None if limits.method == "none" else limits.review,
            typical_score=limits.typical,
            p_value=self._ranking.p_value(measured.image_score),
            model=self.manifest.manifest_sha256,
            kind=kind and kind.name,
            kind_p_value=kind and kind.p_value,
            measured=measured.measured,
            other_format=misfit and misfit.what,
        )

    def shown(self, frame: Frame) -> Frame:
        """Return the frame for display and storage.

        For a model of heights, or of more than 8 bits, the image is drawn from these values; else they are dropped.
        """
        values = frame.others.get(VALUES)
        if values is None:
            return frame
        if not self._spec.keeps_depth:
            kept = {name: each for name, each in frame.others.items() if name not in (VALUES, COLOUR)}
            return replace(frame, others=kept)
        if self._spec.colour == "rgb_relief":
            return replace(frame, image=self.visible(judged_of(frame)))
        kept = {name: each for name, each in frame.others.items() if name != COLOUR}
        return replace(frame, image=self.visible(values), others=kept)


def _open_again(kind: type[P], asked: dict[str, Any], path: Path, sha256: str, limits: Calibration | None) -> P:
    opened = kind.load(path, **asked)
    detector = opened._detector
    if detector.manifest.manifest_sha256 != sha256:
        detector.close()
        raise ArtifactError(f"{path} was changed since this model was opened: open it again with edgead.load")
    detector.graph = replace(detector.graph, calibration=limits)  # the limits may have been set by hand
    return opened


def _shown_of(image: Any, name: str) -> dict[str, Any]:
    """Data that a verdict keeps to show its image: for a file only its name, as images would fill the memory."""
    return {"image": Path(image), "name": name} if name else {}


def _named(image: Any) -> str:
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image)
    shape = getattr(image, "shape", None)
    return type(image).__name__ if shape is None else f"{type(image).__name__} of shape {tuple(shape)}"


class Session:
    """Stream of frames judged by a detector, with the head's state for it; made by `Detector.session`.

    A gap in the frame numbers, another source or another connection begins a new stream. Use a session from one thread
    at a time.
    """

    def __init__(self, detector: Detector):
        self._detector = detector
        self._plane = detector.manifest.inputs[0].plane
        self._of_pairs = detector.manifest.preprocessing.colour == "rgb_relief"
        self.reset()

    def reset(self) -> None:
        """Forget all earlier frames."""
        self._state = self._detector.manifest.head.new_state()
        self._next: tuple[str, int, int] | None = None

    def step(self, frame: Frame) -> Verdict | None:
        """Judge the next frame.

        Returns
        -------
        Verdict or None
            None while the head needs more frames for a score.

        Raises
        ------
        ValueError
            The frame cannot be judged; see `Detector.measure`. The next one begins a new stream.
        """
        if self._next not in (None, (frame.source, frame.connection, frame.number)):
            self.reset()
        planes = frame.planes
        if self._of_pairs and COLOUR not in planes:
            raise SettingsError(
                f"the model looks at colours with heights, the frame has {', '.join(planes)}: give files in a folder "
                "rgb beside a folder height, or of four channels"
            )
        if self._plane not in planes:
            raise SettingsError(
                f"the model looks at the plane {self._plane!r}, the frame has {', '.join(planes)}: a model that reads "
                "grey16 or relief needs files of one channel with 16 bits or floats, live cameras give 8 bits"
            )
        values = frame.others.get(VALUES)
        if self._plane != VALUES and COLOUR not in planes and values is not None and values.dtype != np.uint16:
            raise SettingsError(
                "the frame has floats, and the model reads images of 8 bits: what they would be shown as depends on "
                "each frame's own lowest and highest value; train with --input grey16 or relief"
            )
        verdict = self.judge(judged_of(frame) if self._of_pairs else planes[self._plane])
        self._next = (frame.source, frame.connection, frame.number + 1)
        return verdict

    def judge(self, image: np.ndarray) -> Verdict | None:
        """Judge the next image of a stream without frame numbers; see `step` and `Detector.measure`."""
        return self._detector._judge(image, lambda scorer, outputs: scorer.score(outputs, self._state), Verdict)

    def shown(self, frame: Frame) -> Frame:
        """See `Detector.shown`."""
        return self._detector.shown(frame)

    def misfit(self, frame: Frame) -> Misfit | None:
        """See `edgead.detector.golden_likeness.FormatCheck.warn`."""
        return self._detector.format_check.warn(frame.image.shape)
