"""Verdict together with its image, which can be drawn, saved and shown in a notebook."""

from __future__ import annotations

import logging
import os
import tempfile
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import cv2
import numpy as np

from edgead.files.user_paths import named_path
from edgead.images.files import ImageError, as_bgr, load_image, write_image
from edgead.images.inputs import Colour, checked_colour
from edgead.images.overlay import draw_overlay
from edgead.images.pairs import load_deep
from edgead.serialization import sentence
from edgead.types import Verdict

logger = logging.getLogger(__name__)

# Longest side of an image shown in a notebook, as the notebook's file stores every one.
_SHOWN_PX = 800


def drawn_name(name: str, verdict: Verdict) -> str:
    """Name the drawn image of a verdict by the judged image, suffix included, as a folder may have 1.png and 1.jpg."""
    return f"{name}_{verdict.decision}.jpg"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ImageVerdict(Verdict):
    """Verdict of `Detector.predict` on one image.

    Attributes
    ----------
    image : ndarray or Path
        The array that was judged, not a copy, so do not write to it before the verdict is drawn; or the path of its
        file, which is then read again. None if the image was left out.
    name : str
        Path of the file below the given folder. Empty for arrays.
    draw : callable
        Function that renders an image of values as uint8 BGR; None for 8-bit images.
    shape : (int, int)
        Height and width of the image. `anomaly_map` and `mask` have the size of the model's input;
        `map_in_image` and `mask_in_image` have this size.
    problem : str
        Reason why this file of several could not be judged (decision "fault", raw score NaN, no map); else empty.

    Examples
    --------
    >>> import edgead
    >>> verdict = edgead.load("out/model").predict("parts/dark.png")
    >>> verdict.plot(colour="rgb").shape  # with a strip that says the decision
    (504, 480, 3)
    >>> verdict.map_in_image().shape
    (480, 480)
    >>> verdict.sentence("de")[:10]
    'Ausschuss:'
    >>> verdict.save("judged/").as_posix()
    'judged/dark.png_reject.jpg'
    """

    image: np.ndarray | Path | None = field(default=None, compare=False)
    name: str = field(default="", compare=False)
    draw: Callable[[np.ndarray], np.ndarray] | None = field(default=None, compare=False)
    shape: tuple[int, int] = field(default=(0, 0), compare=False)
    problem: str = ""

    def map_in_image(self) -> np.ndarray:
        """Return `anomaly_map` at the size of the image: float32 (H, W), NaN outside of the model's region."""
        height, width = self.shape
        x, y, *size = self.region or (0, 0, width, height)
        found = np.full(self.shape, np.nan, np.float32)
        if self.problem:
            return found
        found[y : y + size[1], x : x + size[0]] = cv2.resize(self.anomaly_map, size, interpolation=cv2.INTER_LINEAR)
        return found

    def mask_in_image(self) -> np.ndarray:
        """Return the mask of the pixels where `map_in_image` is above `map_threshold`: bool (H, W)."""
        return self.map_in_image() > self.map_threshold

    def sentence(self, language: str = "en") -> str:
        """Describe the anomaly in one sentence; empty for an "ok" decision. See `edgead.serialization.sentence`.

        If the image could not be judged, the problem is returned, in English.
        """
        return self.problem or sentence(self.to_dict(), language)

    def load_image(self) -> np.ndarray:
        """Return the image for display: uint8, BGR, of shape (H, W, 3)."""
        if self.problem:
            raise ImageError(self.problem)
        read = load_image if self.draw is None else load_deep
        image = read(self.image) if isinstance(self.image, Path) else self.image
        return as_bgr(image) if self.draw is None else self.draw(image)  # type: ignore[arg-type]

    def plot(self, *, colour: Colour = "bgr") -> np.ndarray:
        """Draw heat map, boxes and decision over the image.

        Parameters
        ----------
        colour : {"bgr", "rgb"}
            Order of the channels: "bgr" for OpenCV, "rgb" for matplotlib, PIL and torch.

        Returns
        -------
        drawn : ndarray of shape (H + strip, W, 3), uint8
        """
        drawn = draw_overlay(self.load_image(), self, self.name)
        return drawn if checked_colour(colour) == "bgr" else np.ascontiguousarray(drawn[:, :, ::-1])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the image that `plot` draws, making folders as needed.

        Parameters
        ----------
        path : path
            An image file, by its suffix; or a folder (without a suffix, or existing), in which the file is named by the
            image and the decision, such as `scratch/007.png_reject.jpg`.

        Returns
        -------
        Path
            The file that was written.

        Raises
        ------
        ImageError
            The path is a folder and the image has no name, the suffix is unknown, or the path is the image's own file,
            or that file is gone.
        OSError
            The file cannot be written.
        """
        target = named_path(path)
        if target.is_dir() or not target.suffix:
            if not self.name:
                raise ImageError(f"{target} is no image file, and an array has no name: save it as {target}/NAME.jpg")
            target = target / drawn_name(self.name, self)
        if isinstance(self.image, Path) and target.exists() and target.samefile(self.image):
            raise ImageError(f"{target} is the judged image itself, which would be lost: name another file")
        write_image(target, self.plot())
        return target

    def show(self) -> None:
        """Open the image that `plot` draws in this computer's viewer; a notebook displays a verdict by itself.

        Raises
        ------
        ImageError
            There is no viewer, or the image's own file is gone.
        """
        path = Path(tempfile.mkdtemp(prefix="edgead-")) / "verdict.png"  # not removed, as the viewer may read it late
        write_image(path, self.plot())
        if not webbrowser.open(path.as_uri()):
            raise ImageError(f"no program shows images here: it is drawn in {path}, and save() writes where you like")

    def to_dict(self) -> dict[str, Any]:
        """Convert the verdict and the name of its image to values for JSON; arrays are left out."""
        if self.problem:
            return {"name": self.name, "decision": self.decision, "problem": self.problem}
        return {"name": self.name, **Verdict.to_dict(self)}

    def __repr__(self) -> str:
        return f"Verdict({self.decision}, {self.problem})" if self.problem else Verdict.__repr__(self)

    def _repr_png_(self) -> bytes | None:
        if self.image is None:
            return None
        drawn = self.plot()
        scale = min(1.0, _SHOWN_PX / max(drawn.shape[:2]))
        small = cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else drawn
        return cv2.imencode(".png", small)[1].tobytes()


class Verdicts(Sequence[ImageVerdict]):
    """Verdicts of `Detector.predict` and `predict_all` on many images: a sequence whose items are computed on access.

    No verdict is kept, as the maps of many images would fill the memory; use `list(verdicts)` to access them more
    than once.

    Attributes
    ----------
    advice : str
        Likely cause and next step if nearly all images are rejected, which is logged too; empty until all are judged.
    """

    def __init__(
        self,
        images: Sequence[tuple[Any, str]],
        judge_each: Callable[[Sequence[tuple[Any, str]]], Iterator[ImageVerdict]],
        advise: Callable[[Sequence[float]], str],
    ):
        self.advice = ""
        self._images, self._judge_each, self._advise = images, judge_each, advise

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> ImageVerdict: ...

    @overload
    def __getitem__(self, index: slice) -> Verdicts: ...

    def __getitem__(self, index: int | slice) -> ImageVerdict | Verdicts:
        if isinstance(index, slice):
            return Verdicts(self._images[index], self._judge_each, self._advise)
        return next(self._judge_each([self._images[index]]))

    def __iter__(self) -> Iterator[ImageVerdict]:
        scores: list[float] = []
        for verdict in self._judge_each(self._images):
            scores += [] if verdict.problem else [verdict.image_score]
            yield verdict
        self.advice = self._advise(scores)
        if self.advice:
            logger.warning("%s", self.advice)

    def __repr__(self) -> str:
        return f"Verdicts({len(self)} images, each judged when it is asked for)"
