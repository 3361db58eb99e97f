"""Judgement and description of single images, before they are sorted or used as examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgead.dataset.folders import Progress
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.files import ImageError, load_image
from edgead.types import Decision


@dataclass(frozen=True, slots=True)
class ScoredImage:
    """Verdict on an image, without the map, and the image's descriptor, which is empty unless requested."""

    path: Path
    decision: Decision
    image_score: float
    descriptor: np.ndarray


@dataclass(frozen=True, slots=True)
class ImageProblem:
    """Image that cannot be judged, with the reason."""

    path: Path
    text: str


def describe_images(
    detector: Detector, paths: Sequence[Path], progress: Progress | None = None
) -> tuple[list[ScoredImage], list[ImageProblem]]:
    """Judge and describe images; return the described images, and problems of the others.

    Raises SettingsError: the model cannot describe images (says what to use instead), or none can be judged.
    """

    def judge(path: Path, image: np.ndarray) -> ScoredImage:
        verdict, descriptor = detector.describe(image)
        return ScoredImage(path, verdict.decision, verdict.image_score, descriptor)

    detector.check_describes()
    return judge_each(judge, paths, progress, read=detector.read_image)


def judge_each(
    judge: Callable[[Path, np.ndarray], ScoredImage],
    paths: Sequence[Path],
    progress: Progress | None = None,
    *,
    read: Callable[[Path], np.ndarray] = load_image,
) -> tuple[list[ScoredImage], list[ImageProblem]]:
    """Call `judge` with each path and its image; return the results, and problems of images that failed."""
    judged, problems = [], []
    for done, path in enumerate(paths, 1):
        try:
            judged.append(judge(path, read(path)))
        except (ImageError, SettingsError) as error:
            problems.append(ImageProblem(path, str(error).removeprefix(f"{path}: ")))
        if progress:
            progress(done, len(paths))
    if problems and not judged:
        raise SettingsError(f"none of {len(paths)} images can be judged; {problems[0].path}: {problems[0].text}")
    return judged, problems
