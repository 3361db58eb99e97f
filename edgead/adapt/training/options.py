"""Options of a training, explained once for Python and the command line; imports no library, as `--help` needs them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from edgead.artifact.inputs import Colour


class TrainOptions(TypedDict, total=False):
    """Options of `edgead.train`: fields of `GoodImages`, and settings that most methods have.

    Attributes
    ----------
    normal_dir : str, optional
        Folder of good images below the data; by default train/good, or the data itself without a folder train. '*'
        takes every folder: one model for several products.
    paths : sequence of Path, optional
        The images, which lie in the folder or below it; by default all of it.
    roi : (int, int, int, int), default the whole image
        Region of interest in the image: x, y, width and height in pixels.
    ignore : sequence of str, Path or ndarray, default none
        Places to ignore: a rectangle X,Y,WIDTH,HEIGHT, a polygon X,Y,X,Y,X,Y,..., or a mask image (all pixels that are
        not black).
    align : str or Path, default none
        Golden image: before any other step, each part is shifted and rotated to match the part in this image.
    tiles : "auto", int or str, default none
        Cut large images into tiles of SIZE[,OVERLAP] pixels; auto: tiles at most twice the network's input size.
    false_reject_rate : float, optional
        Share of good parts that may be rejected; by default 0.05, with few images 0.1 or 0.2.
    review_rate : float, default 0.1 beside 0.05, else the false-reject rate
        Share of good parts that may be rejected or sent to review.
    guarantee : {"cross", "split"}, optional
        cross: all images are learnt; for the thresholds, each image is scored by what was learnt from the other images
        (default of patchcore). split: a fifth of the images is held out for the thresholds, and the rate has a proof
        (default of other methods).
    folds : int, default 0
        For detectors that train a network: train this many more times, to make the thresholds as cross does.
    group : str, default "auto"
        Groups of images; a group is held out as a whole, or not at all: auto, none, a CSV file (path,group), or a
        regular expression that finds the group in the file name.
    defects : sequence of Path, default none
        Images of known defects, or folders of them: never learnt, they show how many defects each limit finds.
    hold_out : float, default 0.0
        For data without a test part: share of the good images, in whole groups, that is not learnt, so that `edgead
        eval MODEL DATA` measures on it.
    skip_bad : bool, default False
        Leave out images that cannot be read.
    input : {"rgb", "grey16", "relief", "rgb_relief"}, default "rgb"
        What images are: rgb, 8-bit images; grey16, grey values of 16 bits or floats; relief, heights; rgb_relief,
        colours with heights.
    mm_per_count : float, default none
        With heights: millimetres of one count of the height map.
    mm_per_pixel : float, default none
        Millimetres of one pixel of the images: verdicts say how large a defect is.
    backbone : str, default the preset's
        Backbone, instead of the preset's.
    layers : sequence of str, default the preset's
        Layers of the backbone, such as stride16,stride32.
    image_size : int or (int, int), default the preset's
        Size of the network's input in pixels: one number, or height and width.
    memory_bank_size : int, default the preset's
        Number of patches in the memory bank.
    seed : int, default 0
        Seed of the random numbers.
    """

    normal_dir: str | None
    paths: Sequence[Path] | None
    roi: Sequence[int] | None
    ignore: str | Path | Sequence[str | Path]
    align: str | Path | None
    tiles: str | int | None
    false_reject_rate: float | None
    review_rate: float | None
    guarantee: Literal["cross", "split"] | None
    folds: int
    group: str
    defects: Sequence[Path]
    hold_out: float
    skip_bad: bool
    input: Colour
    mm_per_count: float | None
    mm_per_pixel: float | None
    backbone: str
    layers: Sequence[str]
    image_size: int | Sequence[int]
    memory_bank_size: int
    seed: int


EXPLAINED = inspect.cleandoc(TrainOptions.__doc__ or "").partition("----------\n")[2]
"""Options with their types, defaults and texts, as a section of numpydoc."""
_TEXTS = dict(re.findall(r"^(\w+) : .+\n((?:    .+\n?)+)", EXPLAINED, re.MULTILINE))


def text_of(option: str) -> str:
    """Return the text of an option in one line; empty where Python runs without docstrings."""
    return " ".join(_TEXTS.get(option, "").split())
