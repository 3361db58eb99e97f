"""Images judged and described one by one, before they are sorted or taken as examples."""

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
class Judged:
    """What a detector says of an image, without the map, and what describes it: empty where nobody asked for that."""

    path: Path
    decision: Decision
    image_score: float
    descriptor: np.ndarray


@dataclass(frozen=True, slots=True)
class Problem:
    """An image that cannot be judged, and why."""

    path: Path
    text: str


def describe_images(
    detector: Detector, paths: Sequence[Path], progress: Progress | None = None
) -> tuple[list[Judged], list[Problem]]:
    """Judge and describe images; those that cannot be read are left out.

    Raises
    ------
    SettingsError
        The model cannot describe images: says what to use beside it. Or none of them can be judged.
    """

    def judge(path: Path, image: np.ndarray) -> Judged:
        verdict, descriptor = detector.describe(image)
        return Judged(path, verdict.decision, verdict.image_score, descriptor)

    detector.check_describes()
    return judge_each(judge, paths, progress, read=detector.read_image)


def judge_each(
    judge: Callable[[Path, np.ndarray], Judged],
    paths: Sequence[Path],
    progress: Progress | None = None,
    *,
    read: Callable[[Path], np.ndarray] = load_image,
) -> tuple[list[Judged], list[Problem]]:
    """Call `judge` with each path and its image; those that cannot be read or judged are left out."""
    judged, problems = [], []
    for done, path in enumerate(paths, 1):
        try:
            judged.append(judge(path, read(path)))
        except (ImageError, SettingsError) as error:
            problems.append(Problem(path, str(error).removeprefix(f"{path}: ")))
        if progress:
            progress(done, len(paths))
    if problems and not judged:
        raise SettingsError(f"none of {len(paths)} images can be judged; {problems[0].path}: {problems[0].text}")
    return judged, problems
