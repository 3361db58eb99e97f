"""Comparison of images with images that a model knows, by proportions, size and order of the colours."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

_GRID = 8
# Tolerance of the logarithm of height over width: below it images are stretched by less than a tenth.
SAME_PROPORTIONS = 0.1
_MAX_LIKENESS = 0.8
# At most half as long on a side as the others: from another camera, or cropped.
_MUCH_SMALLER = 0.5
# Mean difference of blue and red, in grey levels: below it an image is grey, and white balance may change its sign.
_FAINTEST_COLOUR = 3.0
# Files of grey images have no difference; those of colour cameras have a little everywhere.
_NO_COLOUR = 0.5
# Exchanging blue and red must bring an image closer to the others by at least this factor.
_FAR_NEARER = 0.5
Difference = Literal["proportions", "size", "small"]
"""Ways in which the size of an image may differ from those of known images."""

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
# Consequence of each difference for frames that are judged automatically.
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
    """Difference between the size of a frame and the sizes that a model learnt."""

    what: Difference
    given: Size
    learnt: Size

    @property
    def in_proportions(self) -> bool:
        """Whether the proportions differ."""
        return _have_other_proportions(self.given, self.learnt)

    @property
    def text(self) -> str:
        return (
            f"frames of {self.given.size} pixels where the model learnt {self.learnt.size}: {OF_FRAMES[self.what]}; "
            "verdicts may be wrong: has the format or the region of the camera changed?"
        )


def look_of(image: np.ndarray) -> Look:
    """Compute the look of an image of shape (H, W, 3), uint8, BGR, in less than 1 ms per megapixel.

    Values of one channel, (H, W), have a size and no colour.
    """
    if image.ndim == 2:
        return Look(image.shape[0], image.shape[1], np.zeros((_GRID, _GRID), np.float32))
    coarse = cv2.resize(image[:, :, :3], (_GRID, _GRID), interpolation=cv2.INTER_AREA).astype(np.float32)
    return Look(image.shape[0], image.shape[1], coarse[:, :, 0] - coarse[:, :, 2])


def usual_look(looks: Sequence[Look]) -> Look:
    """Compute the median of several looks."""
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
    """List warnings for images that differ from known images, with advice; one sentence for each kind of difference.

    `looks`: looks of the images, by name.
    `known`: looks of the images to compare with, at least one; may be the same images, to find odd images among them.
    `others`: name of the known images in the sentences, such as "the others".
    `in_pixels`: whether a region of interest in pixels is cropped, so that another size shows another region.
    `stretched`: whether images of other proportions are stretched, not padded.
    `share`: a difference is reported only if more than this share of the images has it.
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
    """Compare the size of a frame with known sizes by the rules of `likeness_warnings`; None if it fits.

    If the known images differ in proportions, or in size, that kind of difference is not reported.

    `known`: sizes to compare with, at least one.
    `in_pixels`, `stretched`: see `likeness_warnings`.
    """
    usual = _usual_size(known)
    one_size = len(set(known)) == 1
    what = _size_difference(size, usual, in_pixels and one_size, stretched and _have_one_shape(known, usual))
    return None if what is None or (what == "small" and not one_size) else Misfit(what, size, usual)


def odd_ones(looks: Mapping[str, Look], *, apart: bool = False, in_pixels: bool, stretched: bool) -> list[str]:
    """List warnings for images, by path, that differ from the others; with `apart`, from the others in their folder."""
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
