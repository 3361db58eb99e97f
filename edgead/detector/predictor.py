"""Judge of images as a program calls it: what the device's `Detector` and `edgead.Model` have in common."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import numpy as np

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.limits import Limits
from edgead.artifact.manifest import Calibration
from edgead.errors import SettingsError
from edgead.files.user_paths import named_path
from edgead.images.files import ImageError
from edgead.images.inputs import (
    Colour,
    OneImage,
    PathLike,
    Tensor,
    check_given,
    check_type,
    checked_colour,
    each_image,
    in_bgr,
    is_one,
    is_there,
    name_of,
)
from edgead.images.verdict import ImageVerdict, Verdicts

if TYPE_CHECKING:
    from typing_extensions import Self

    from edgead.detector.detector import Detector

P = TypeVar("P", bound="Predictor")


class Predictor(ABC):
    """Judge of images, by its `_detector`."""

    @abstractmethod
    def __init__(
        self, artifact: Artifact, *, runtime: str = "auto", precision: str | None = None, threads: int | None = None
    ): ...

    @property
    @abstractmethod
    def _detector(self) -> Detector: ...

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
            What `edgead train -o` wrote.
        runtime : str
            See `edgead.runtime.choose_runtime`.
        precision : {"fp32", "fp16", "int8"}, optional
            Which of the artifact's graphs, each with thresholds of its own; by default the one that the manifest names.
        threads : int, optional
            Threads of the network's engine; by default those of the kernels.
        device : None
            Not taken: the error says which `runtime` runs where.
        accept : callable
            Is given the opened artifact before its network runs, and raises where it is not to be used.

        Raises
        ------
        ArtifactError
            Missing, edited, damaged, from a newer edgead, or never calibrated.
        SettingsError
            No graph of that precision, an unknown runtime, or an empty path.
        """
        if device is not None:
            raise SettingsError(
                f"device={device!r}: the runtime says where a model runs: runtime='tensorrt' on an NVIDIA GPU, "
                "'onnxruntime' or 'openvino' on the CPU"
            )
        artifact = Artifact.load(named_path(path))
        accept(artifact)
        opened = cls(artifact, runtime=runtime, precision=precision, threads=threads)
        if opened._detector.graph.calibration is None:
            opened._detector.close()
            raise ArtifactError(f"{path} has no thresholds: retrain it with `edgead train`")
        return opened

    # A text and an array are iterables too, but the first overload has them.
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

        A path and an array are one image here, so that their verdict has a type: `predict_all` takes folders, patterns,
        volumes, and arrays of many images.

        Parameters
        ----------
        image : path, bytes, ndarray, PIL image or torch tensor; or a sequence or an iterator of these
            See `edgead.images.inputs.read_image` for the arrays that are taken.
        colour : {"bgr", "rgb"}, optional
            Order of the channels of arrays, by default BGR as OpenCV has it, and of tensors, by default RGB. Files and
            PIL images know theirs.

        Returns
        -------
        ImageVerdict, or Verdicts of a sequence, or an iterator of ImageVerdict of an iterator
            Of many, each is read and judged when its verdict is asked for; of a list, with the next few that go with it
            in one run of an engine for batches.

        Raises
        ------
        ImageError
            It cannot be read, or is empty or of another type; of a sequence, what lacks a file is known at once, and
            other things when its turn comes.
        SettingsError
            It is smaller than the region of interest, it is many images, or an unknown `colour`.

        Examples
        --------
        >>> detector = Detector.load("out/model")
        >>> image_rgb = np.zeros((480, 480, 3), np.uint8)
        >>> detector.predict(image_rgb, colour="rgb").decision
        'reject'
        >>> verdicts = detector.predict(["parts/dark.png", "parts/good.jpg"])
        >>> len(verdicts), verdicts[-1].name
        (2, 'good.jpg')
        """
        if isinstance(image, np.ndarray) and image.ndim < 4:  # a device's frames: no more is asked of them
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
        return (self._detector._predict_given(one, name, colour) for one, name in several)

    __call__ = predict

    def predict_all(
        self,
        images: PathLike | np.ndarray | Tensor | Iterable[OneImage],
        *,
        colour: Colour | None = None,
        recursive: bool = False,
    ) -> Verdicts:
        """Judge many images: of a folder, that a pattern matches, of a volume, a batch, or any iterable.

        Parameters
        ----------
        images : path, array or tensor of four axes, or iterable of what `predict` takes
            A folder, in natural order; a pattern of files with `*` or `?`, where `**` is any folders; a volume.
        colour : {"bgr", "rgb"}, optional
            See `predict`.
        recursive : bool
            Of a folder, judge what lies in the folders below it too.

        Returns
        -------
        Verdicts
            A sequence; each image is read and judged when its verdict is asked for.

        Raises
        ------
        ImageError
            No images, or one of a list has no file.
        SettingsError
            A single image, or an unknown `colour`.

        Examples
        --------
        >>> detector = Detector.load("out/model")
        >>> [verdict.name for verdict in detector.predict_all("parts/")]
        ['dark.png', 'good.jpg']
        >>> detector.predict_all("parts/*.jpg")[0].decision
        'ok'
        """
        checked_colour(colour)
        several = each_image(images, recursive=recursive)
        if several is None:
            check_type(images)
            if isinstance(images, (str, os.PathLike)) and not is_there(named_path(images)):
                raise ImageError(f"{images}: no such folder")
            raise SettingsError(f"{_named(images)} is a single image: judge it with predict, or put it in a list")
        found = list(several)
        if not is_one(images):  # else they were found, or are parts of one array
            for image, _ in found:
                check_given(image)
        judge, judge_each = self._detector._predict_given, self._detector._predict_each
        return Verdicts(partial(judge, colour=colour), found, partial(judge_each, colour=colour))

    def set_thresholds(self, *, review: float, reject: float) -> None:
        """Judge by other thresholds than the artifact's, from the next image on; the artifact stays as it is.

        Raises
        ------
        SettingsError
            Thresholds that are not finite, or of which review lies above reject.
        """
        limits, detector = Limits.checked(review=review, reject=reject), self._detector
        if detector.graph.calibration is None:
            raise ArtifactError(f"{detector.artifact.path} has no thresholds: retrain it with `edgead train`")
        method = {"method": "by_hand"} if detector.graph.calibration.method == "none" else {}
        changed = detector.graph.calibration.model_copy(update={**limits.values(), **method})
        detector.graph = replace(detector.graph, calibration=changed)

    @property
    def threshold(self) -> float | None:
        """Scores above it are rejected; None before the calibration."""
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
        """A copy, and what comes of a pickle, opens the folder again: engines and their memory are of one process."""
        detector = self._detector
        opened = detector.artifact.path.absolute(), detector.manifest.manifest_sha256, detector.graph.calibration
        return _open_again, (type(self), detector._asked, *opened)


def _open_again(kind: type[P], asked: dict[str, Any], path: Path, sha256: str, limits: Calibration | None) -> P:
    opened = kind.load(path, **asked)
    detector = opened._detector
    if detector.manifest.manifest_sha256 != sha256:
        detector.close()
        raise ArtifactError(f"{path} was changed since this model was opened: open it again with edgead.load")
    detector.graph = replace(detector.graph, calibration=limits)  # which may have been set by hand
    return opened


def _named(image: Any) -> str:
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image)
    shape = getattr(image, "shape", None)
    return type(image).__name__ if shape is None else f"{type(image).__name__} of shape {tuple(shape)}"
