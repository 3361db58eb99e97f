"""Collection of good parts from a source: one lossless image of each, on disk, without repeated and blurred images.

Blurred images are found by a comparison with the sharpness of all other images.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from edgead.dataset.folders import Progress
from edgead.errors import EdgeadError
from edgead.images.files import as_bgr, natural_key, write_image
from edgead.images.repeats import Repeats
from edgead.metrics.robust import deviations_above
from edgead.types import Frame

# Limit in robust standard deviations below the median.
FAR = 6.0
# Blurred images must also be less than half as sharp as the others, which may be nearly equal.
MIN_SHARPNESS = 0.5
BLURRED = "blurred"


def sharpness(image: np.ndarray) -> float:
    """Variance of the Laplacian of an image, uint8 BGR (H, W, 3) (Pech-Pacheco et al., ICPR 2000)."""
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_32F).var())


def find_blurred(sharpnesses: list[float]) -> list[int]:
    """Mark the images that are far less sharp than the others."""
    values = np.log(np.maximum(sharpnesses, 1e-9))
    below = deviations_above(-values) > FAR
    return np.flatnonzero(below & (values < np.median(values) + np.log(MIN_SHARPNESS))).tolist()


class CommissionError(EdgeadError):
    """Lack of images from the source; the message says what was found and what to do."""


@dataclass(frozen=True, slots=True)
class CollectedImages:
    """Images to learn from, number of repeated images, and names of images left out as blurred.

    `files` maps an image's name to the name of the file that it came from, if it came from a file.
    """

    paths: list[Path]
    duplicates: int
    blurred: list[str]
    files: Mapping[str, str] = field(default_factory=dict)

    def called(self, name: str) -> str:
        """Name that people know an image by: the name of its original file, if it has one."""
        return self.files.get(name, name)


def collect(
    frames: Iterable[Frame], folder: Path, wanted: int, *, patience_s: float, progress: Progress | None = None
) -> CollectedImages:
    """Collect images until there are enough of different parts, or the source ends.

    `frames`: good parts only.
    `folder`: gets `NUMBER.png`, by the number of the frame; blurred images go to its subfolder `blurred`.
    `patience_s`: longest wait for a new part, seconds.
    `progress`: called with (done, wanted).
    Raises CommissionError: no new part came for `patience_s`, or the source has no image.
    """
    seen, paths, sharpnesses, duplicates = Repeats(), [], [], 0
    files: dict[str, str] = {}
    last_s = time.monotonic()
    for frame in frames:
        image = as_bgr(frame.image)
        name = f"{frame.number:06d}.png"
        if seen.take(name, image) is None:
            paths.append(folder / name)
            write_image(paths[-1], image)
            sharpnesses.append(sharpness(image))
            files |= {name: frame.name} if frame.name else {}
            last_s = time.monotonic()
            if progress:
                progress(len(paths), wanted)
        else:
            duplicates += 1
        if len(paths) == wanted:
            break
        if time.monotonic() - last_s > patience_s:
            raise CommissionError(
                f"no new part in front of the camera for {patience_s:g} s, {len(paths)} of {wanted} collected: keep "
                "the line running, or ask for fewer with --images"
            )
    if not paths:
        raise CommissionError("the source ended without an image")
    blurred = {paths[i] for i in find_blurred(sharpnesses)}
    for path in blurred:  # moved away, so that a later export from the folder does not take them
        (folder / BLURRED).mkdir(exist_ok=True)
        path.rename(folder / BLURRED / path.name)
    sharp = [path for path in paths if path not in blurred]
    return CollectedImages(sharp, duplicates, sorted(path.name for path in blurred), files)


@contextmanager
def as_sent(paths: Sequence[Path], files: Mapping[str, str]) -> Iterator[tuple[Path, dict[Path, str]]]:
    """Yield a folder of links to the images, named like their original files, and the image's name for each link.

    The links have the order in which `edgead train` lists a folder; as there, names can say which images belong
    together.
    """
    with tempfile.TemporaryDirectory(prefix="edgead.") as work:
        folder = Path(work)
        name_of: dict[Path, str] = {}
        for path in paths:
            link = folder / Path(files.get(path.name, path.name)).name
            if link in name_of:
                link = folder / path.name
            link.symlink_to(path.absolute())
            name_of[link] = path.name
        yield folder, {link: name_of[link] for link in sorted(name_of, key=natural_key)}
