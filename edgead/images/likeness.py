"""Likeness of images to those that a model knows: proportions, size, order of the colours."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

_GRID = 8
# Logarithm of height over width: what differs by less is stretched by less than a tenth.
SAME_PROPORTIONS = 0.1
_MAX_LIKENESS = 0.8
# Half as long on a side as the others: another camera's image, or a cutting.
_MUCH_SMALLER = 0.5
# Mean difference of blue and red, in grey levels: below it an image is grey, and a camera's white balance can turn it.
_FAINTEST_COLOUR = 3.0
# Files of grey images have none; those of cameras for colour have a little everywhere.
_NO_COLOUR = 0.5
# Exchanged, blue and red must come at least so much nearer to those of the others.
_FAR_NEARER = 0.5
Difference = Literal["proportions", "size", "small"]
"""In what the size of an image may differ from those that are known."""

_WORDS = {
    "colours": "look as if red and blue were exchanged, beside {others}: write them with the right order of channels; "
    'in Python, arrays are BGR unless colour="rgb" says otherwise',
    "grey": "are grey, and {others} have colours: give images in colour, or train a model on grey ones",
    "proportions": "have other proportions ({given} pixels) than {others} ({usual}): they are stretched; give whole "
    "frames in one format of the camera",
    "size": "have another size ({given} pixels) than {others} ({usual}): the region of interest, which is in pixels, "
    "shows something else of them; give frames of that size",
    "small": "are much smaller ({given} pixels) than {others} ({usual}): they are enlarged and show nothing finer; "
    "give whole frames in one format of the camera",
}
# What comes of it where frames are judged that nobody has looked at.
OF_FRAMES: dict[Difference, str] = {
    "proportions": "parts are cut off or squeezed",
    "size": "the region of interest, which is in pixels, shows something else",
    "small": "fine defects are not seen",
}


@dataclass(frozen=True, slots=True)
class Size:
    """Height and width in pixels."""

    height: float
    width: float

    @property
    def proportions(self) -> float:
        return math.log(self.height / self.width)

    @property
    def size(self) -> str:
        return f"{self.width:.0f} x {self.height:.0f}"


@dataclass(frozen=True, slots=True)
class Look(Size):
    """Size and, in a coarse grid of shape (8, 8), blue minus red."""

    blue_over_red: np.ndarray


@dataclass(frozen=True, slots=True)
class Misfit:
    """In what the size of a frame differs from those that a model learnt."""

    what: Difference
    given: Size
    learnt: Size

    @property
    def in_proportions(self) -> bool:
        """Whether the proportions differ, whatever else does."""
        return _have_other_proportions(self.given, self.learnt)

    @property
    def text(self) -> str:
        return (
            f"frames of {self.given.size} pixels where the model learnt {self.learnt.size}: {OF_FRAMES[self.what]}; "
            "verdicts may be wrong: has the format or the region of the camera changed?"
        )


def look_of(image: np.ndarray) -> Look:
    """Take the look of an image of shape (H, W, 3), uint8, BGR; less than 1 ms for a megapixel.

    Values of one channel, (H, W), have a size and no colour.
    """
    if image.ndim == 2:
        return Look(image.shape[0], image.shape[1], np.zeros((_GRID, _GRID), np.float32))
    coarse = cv2.resize(image[:, :, :3], (_GRID, _GRID), interpolation=cv2.INTER_AREA).astype(np.float32)
    return Look(image.shape[0], image.shape[1], coarse[:, :, 0] - coarse[:, :, 2])


def usual_look(looks: Sequence[Look]) -> Look:
    """The median of several looks."""
    size = _usual_size(looks)
    return Look(size.height, size.width, np.median([look.blue_over_red for look in looks], axis=0))


def _usual_size(sizes: Sequence[Size]) -> Size:
    height, width = (float(np.median([getattr(size, side) for size in sizes])) for side in ("height", "width"))
    return Size(height, width)


def likeness_warnings(
    looks: Mapping[str, Look],
    known: Sequence[Look],
    others: str,
    *,
    in_pixels: bool = False,
    stretched: bool = True,
    share: float = 0.0,
) -> list[str]:
    """Name images that do not look as known ones, and say what to do; one sentence for each kind of difference.

    Parameters
    ----------
    looks : mapping of str to Look
        Of the images, by name.
    known : sequence of Look
        Of the images that they are compared with, at least one; the same to find the odd ones among them.
    others : str
        What the known images are, such as "the others".
    in_pixels : bool
        A region of interest is cut out, so that another size shows another region.
    stretched : bool
        Images of other proportions are stretched; False where each keeps its own.
    share : float
        Of the images; a difference that no more of them have is left out.
    """
    usual = usual_look(known)
    stretched = stretched and _have_one_shape(known, usual)
    found: dict[str, list[str]] = {}
    for name, look in looks.items():
        for what in _differences(look, usual, in_pixels, stretched):
            found.setdefault(what, []).append(name)
    return [
        f"{len(names)} of {len(looks)} images, {names[0]} first, "
        + _WORDS[what].format(given=looks[names[0]].size, others=others, usual=usual.size)
        for what, names in found.items()
        if len(names) > share * len(looks)
    ]


def misfit(size: Size, known: Sequence[Size], *, in_pixels: bool, stretched: bool) -> Misfit | None:
    """Find in what the size of a frame differs from known ones, as `likeness_warnings` does.

    Images that are known in several proportions, or sizes, speak against none of the same kind.

    Parameters
    ----------
    size : Size
    known : sequence of Size
        At least one.
    in_pixels, stretched : bool
        See `likeness_warnings`.
    """
    usual = _usual_size(known)
    one_size = len(set(known)) == 1
    what = _size_difference(size, usual, in_pixels and one_size, stretched and _have_one_shape(known, usual))
    return None if what is None or (what == "small" and not one_size) else Misfit(what, size, usual)


def odd_ones(looks: Mapping[str, Look], *, apart: bool = False, in_pixels: bool, stretched: bool) -> list[str]:
    """Name images that do not look as the others, by their paths; with `apart`, as the others in the same folder."""
    folders: dict[str, dict[str, Look]] = {}
    for name, look in looks.items():
        folders.setdefault(os.path.dirname(name) if apart else "", {})[name] = look
    return [
        warning
        for own in folders.values()
        for warning in likeness_warnings(
            own, list(own.values()), "the others", in_pixels=in_pixels, stretched=stretched
        )
    ]


def _differences(look: Look, usual: Look, in_pixels: bool, stretched: bool) -> list[str]:
    in_size = _size_difference(look, usual, in_pixels, stretched)
    found: list[str] = [] if in_size is None else [in_size]
    own, known = look.blue_over_red, usual.blue_over_red
    if np.abs(known).mean() >= _FAINTEST_COLOUR:
        if np.abs(own + known).mean() < _FAR_NEARER * np.abs(own - known).mean():
            found.append("colours")
        elif np.abs(own).mean() < _NO_COLOUR:
            found.append("grey")
    return found


def _size_difference(size: Size, usual: Size, in_pixels: bool, stretched: bool) -> Difference | None:
    if in_pixels and (size.height, size.width) != (usual.height, usual.width):
        return "size"
    if stretched and _have_other_proportions(size, usual):
        return "proportions"
    return "small" if max(size.height / usual.height, size.width / usual.width) < _MUCH_SMALLER else None


def _have_other_proportions(size: Size, usual: Size) -> bool:
    return abs(size.proportions - usual.proportions) > SAME_PROPORTIONS


def _have_one_shape(known: Sequence[Size], usual: Size) -> bool:
    alike = np.mean([abs(look.proportions - usual.proportions) < SAME_PROPORTIONS for look in known])
    return bool(alike > _MAX_LIKENESS)
