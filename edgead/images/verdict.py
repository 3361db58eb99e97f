"""A verdict together with the image that it is of: it can be drawn, saved and shown in a notebook."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgead.files.user_paths import named_path
from edgead.images.files import IMAGE_SUFFIXES, ImageError, as_bgr, load_image, write_image
from edgead.images.inputs import Colour, checked_colour
from edgead.images.overlay import draw_overlay
from edgead.images.pairs import load_deep
from edgead.types import Verdict

# Longest side of what a notebook shows: its file holds every image that was shown.
_SHOWN_PX = 800


def drawn_name(name: str, verdict: Verdict) -> str:
    """Name the drawn image of a verdict by its image, with the suffix: 1.png and 1.jpg may lie side by side."""
    return f"{name}_{verdict.decision}.jpg"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ImageVerdict(Verdict):
    """What `Detector.predict` says of an image.

    Attributes
    ----------
    image : ndarray or Path
        The array that was judged, no copy of it, so that it must not be written into while the verdict is drawn; or
        the file that it came from, which is read again then. None where it was left out.
    name : str
        Of the file: its path below the folder that was given. Empty for arrays.
    draw : callable
        Makes the image, uint8 BGR, of an image that is no 8-bit image but values; None for others.

    Examples
    --------
    >>> import edgead
    >>> verdict = edgead.load("out/model").predict("parts/dark.png")
    >>> verdict.plot(colour="rgb").shape  # with a strip that says the decision
    (504, 480, 3)
    >>> verdict.save("judged/").as_posix()
    'judged/dark.png_reject.jpg'
    """

    image: np.ndarray | Path | None = field(default=None, compare=False)
    name: str = field(default="", compare=False)
    draw: Callable[[np.ndarray], np.ndarray] | None = field(default=None, compare=False)

    def load_image(self) -> np.ndarray:
        """Give the image as it is shown: uint8, BGR, of shape (H, W, 3)."""
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
        """Write what `plot` draws, and the folders that it needs.

        Parameters
        ----------
        path : path
            An image file, by its suffix; or a folder, where the file is named by the image and the decision, such as
            `scratch/007.png_reject.jpg`.

        Returns
        -------
        Path
            The file that was written.

        Raises
        ------
        ImageError
            A folder, and the image has no name; or the image's own file is gone.
        OSError
            It cannot be written.
        """
        target = named_path(path)
        if target.suffix.lower() not in IMAGE_SUFFIXES:
            if not self.name:
                raise ImageError(f"{target} is no image file, and an array has no name: save it as {target}/NAME.jpg")
            target = target / drawn_name(self.name, self)
        write_image(target, self.plot())
        return target

    def to_dict(self) -> dict[str, Any]:
        """Describe the verdict in values that JSON knows, beside the name of its image; arrays are left out."""
        return {"name": self.name, **Verdict.to_dict(self)}

    def _repr_png_(self) -> bytes | None:
        if self.image is None:
            return None
        drawn = self.plot()
        scale = min(1.0, _SHOWN_PX / max(drawn.shape[:2]))
        small = cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else drawn
        return cv2.imencode(".png", small)[1].tobytes()
