"""A verdict together with the image that it is of: it can be drawn, saved and shown in a notebook."""

from __future__ import annotations

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
    shape : (int, int)
        Height and width of the image. `anomaly_map` and `mask` have the size that the model sees;
        `map_in_image` and `mask_in_image` have this one.

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

    def map_in_image(self) -> np.ndarray:
        """Give `anomaly_map` at the size of the image: float32 (H, W), NaN outside of the model's region."""
        height, width = self.shape
        x, y, *size = self.region or (0, 0, width, height)
        found = np.full(self.shape, np.nan, np.float32)
        found[y : y + size[1], x : x + size[0]] = cv2.resize(self.anomaly_map, size, interpolation=cv2.INTER_LINEAR)
        return found

    def mask_in_image(self) -> np.ndarray:
        """Say where `map_in_image` is above `map_threshold`: bool (H, W)."""
        return self.map_in_image() > self.map_threshold

    def sentence(self, language: str = "en") -> str:
        """Say what is anomalous in one sentence; empty for an "ok" decision. See `edgead.serialization.sentence`."""
        return sentence(self.to_dict(), language)

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
            An image file, by its suffix; or a folder, which has none or is there, where the file is named by the image
            and the decision, such as `scratch/007.png_reject.jpg`.

        Returns
        -------
        Path
            The file that was written.

        Raises
        ------
        ImageError
            A folder, and the image has no name; a suffix that is no image format's; or the image's own file is gone.
        OSError
            It cannot be written.
        """
        target = named_path(path)
        if target.is_dir() or not target.suffix:
            if not self.name:
                raise ImageError(f"{target} is no image file, and an array has no name: save it as {target}/NAME.jpg")
            target = target / drawn_name(self.name, self)
        write_image(target, self.plot())
        return target

    def show(self) -> None:
        """Open what `plot` draws in the program that shows images here; a notebook shows a verdict by itself.

        Raises
        ------
        ImageError
            There is no such program; or the image's own file is gone.
        """
        path = Path(tempfile.mkdtemp(prefix="edgead-")) / "verdict.png"  # it stays: the program may read it late
        write_image(path, self.plot())
        if not webbrowser.open(path.as_uri()):
            raise ImageError(f"no program shows images here: it is drawn in {path}, and save() writes where you like")

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


class Verdicts(Sequence[ImageVerdict]):
    """What `Detector.predict` and `predict_all` say of many images: a sequence, of which each is judged when asked for.

    None of them is kept, as the maps of many images would fill the memory: who needs them more than once takes
    `list(verdicts)`.

    Parameters
    ----------
    judge : callable
        Gives the verdict of an image and its name.
    images : sequence of (image, str)
    judge_each : callable
        Gives the verdicts of many, in their order, when they are asked for; a few of them may be judged at once.
    """

    def __init__(
        self,
        judge: Callable[[Any, str], ImageVerdict],
        images: Sequence[tuple[Any, str]],
        judge_each: Callable[[Sequence[tuple[Any, str]]], Iterator[ImageVerdict]],
    ):
        self._judge, self._images, self._judge_each = judge, images, judge_each

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> ImageVerdict: ...

    @overload
    def __getitem__(self, index: slice) -> Verdicts: ...

    def __getitem__(self, index: int | slice) -> ImageVerdict | Verdicts:
        if isinstance(index, slice):
            return Verdicts(self._judge, self._images[index], self._judge_each)
        return self._judge(*self._images[index])

    def __iter__(self) -> Iterator[ImageVerdict]:
        return self._judge_each(self._images)

    def __repr__(self) -> str:
        return f"Verdicts({len(self)} images, each judged when it is asked for)"
