"""The lines that the demo inspects: the built-in one on video, or a user's own test images."""

from __future__ import annotations

import glob
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edgead.cli.console import StageProgress
from edgead.dataset.folders import GOOD, find_test_images
from edgead.sources import Source, open_source
from edgead.sources.paths import FolderSource
from edgead.synthetic.recording import load_truth, write_video
from edgead.types import Frame


@dataclass(frozen=True, slots=True)
class Line:
    """What the camera loop is shown, and what is known of it: the defect of a frame, and where it is."""

    source: Source
    truth: Callable[[Frame], str | None]
    mask: Callable[[Frame], np.ndarray | None]


def built_in_line(output: Path, progress: StageProgress) -> Line:
    """The built-in line on video."""
    video = output / "line.avi"
    truths = load_truth(write_video(video, progress=partial(progress, "film the line")))

    def mask(frame: Frame) -> np.ndarray:
        marked = np.zeros(frame.image.shape[:2], bool)
        for x, y, width, height in truths[frame.number].boxes:
            marked[y : y + height, x : x + width] = True
        return marked

    return Line(open_source(video), lambda frame: truths[frame.number].defect, mask)


def own_line(data: Path) -> Line:
    """All test images of a data set in MVTec layout, one after the other."""
    source = FolderSource(f"{glob.escape(str(data))}/test/*/*")
    tests = {(image.defect, image.path.name): image for image in find_test_images(data)}

    def truth(frame: Frame) -> str | None:
        kind = source.paths[frame.number].parent.name
        return None if kind == GOOD else kind

    def mask(frame: Frame) -> np.ndarray | None:
        path = source.paths[frame.number]
        return tests[path.parent.name, path.name].load_mask(frame.image.shape[:2])

    return Line(source, truth, mask)
