"""Good images of a training: found, split, and prepared in their proportions, or as tiles of large ones.

The network's input has the proportions of the images: what is squashed loses its finest defects first.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from pydantic import ValidationError

from edgead.adapt.memory_bank.folds import deal_folds
from edgead.artifact.inputs import Colour
from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import read_in_colour
from edgead.artifact.tiling import Tiling
from edgead.calibration.conformal import CalibrationError, check_rate
from edgead.calibration.plan import choose_rates, plan_calibration
from edgead.dataset.folders import find_good_images, find_test_images, rule_of, split_good, without_test_part
from edgead.dataset.groups import AUTO, Groups, group_images, leak_warning, leaks
from edgead.dataset.places import Place, with_places
from edgead.dataset.ranges import with_colour
from edgead.errors import SettingsError, tell_invalid
from edgead.images.files import ImageError, load_image
from edgead.images.likeness import SAME_PROPORTIONS, Look

if TYPE_CHECKING:
    from edgead.adapt.methods.method import Method

STEP_PX = 16  # the coarsest stride of the layers that are compared
LOOKED_AT = 50
# Where more images than this have others than the usual ones, proportions are no property of the product; fewer are odd
# ones, which the training names.
ODD_SHARE = 0.2
AUTO_TILES = "auto"
# A tile of `auto` is shrunk by so much: a defect of 10 pixels is 5 of the network's, which a patch still shows.
SHRUNK_BY = 2
# Neighbours share this part of a tile, more than the network's padding reaches and than small defects are wide.
SHARED = 1 / 8
WARN_ABOVE = 3.0
# So many tiles are learnt, but one of each image at least: of more, only a few patches would be kept each.
MAX_LEARNT = 1500


@dataclass(frozen=True, slots=True)
class Proportions:
    """The height of what the network sees in units of its width, and the reason in words.

    `mixed`: the images have different ones, and what they leave free of the input is filled with their reflection.
    """

    height: float
    reason: str
    mixed: bool = False


def find_proportions(paths: Sequence[Path], roi: tuple[int, int, int, int] | None = None) -> Proportions:
    """Find the proportions that the network's input shall have.

    Parameters
    ----------
    paths : sequence of Path
        Good images; a sample of them is read.
    roi : (int, int, int, int), optional
        x, y, width and height of the region that is looked at.

    Returns
    -------
    Proportions
        Of a square where images have different ones, or none can be read.
    """
    if roi is not None:
        return Proportions(roi[3] / roi[2], "as the region of interest")
    logarithms = []
    for pick in np.linspace(0, len(paths) - 1, min(LOOKED_AT, len(paths))).round().astype(int):
        with suppress(ImageError):  # the training reports images that cannot be read, or leaves them out
            height, width = load_image(paths[pick], keep_depth=True).shape[:2]
            logarithms.append(math.log(height / width))
    if not logarithms:
        return Proportions(1.0, "a square")
    usual = float(np.median(logarithms))
    if np.mean(np.abs(np.subtract(logarithms, usual)) > SAME_PROPORTIONS) > ODD_SHARE:
        return Proportions(1.0, "a square, filled up by reflection: the images have different proportions", mixed=True)
    return Proportions(math.exp(usual), "as the images")


def input_size(side: int, proportions: float, step: int = STEP_PX) -> list[int]:
    """Height and width with about side x side pixels in these proportions, in whole steps; [side, side] for 1."""
    if proportions == 1:
        return [side, side]
    sides = (side * math.sqrt(proportions), side / math.sqrt(proportions))
    return [max(step, step * round(length / step)) for length in sides]


def keep_proportions(settings: dict[str, Any], proportions: Proportions, step: int = STEP_PX) -> dict[str, Any]:
    """Settings with a `fill` whose square input keeps proportions, with as many pixels; a rectangle stays as it is."""
    height, width = settings["image_size"]
    if height != width:
        return settings
    fill = {"fill": "reflect"} if proportions.mixed else {}
    return {**settings, "image_size": input_size(height, proportions.height, step), **fill}


@dataclass(frozen=True, slots=True)
class AskedTiles:
    """Longer side of a tile and what neighbours share, in pixels of the images; None where that is found for them."""

    side: int | None = None
    overlap: int | None = None

    @classmethod
    def read(cls, given: str | int) -> AskedTiles:
        """Read SIZE, "SIZE,OVERLAP" or "auto"; raises SettingsError where it is none of them."""
        text = str(given).strip()
        if text == AUTO_TILES:
            return cls()
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > 2 or not all(part.isdigit() for part in parts):
            raise SettingsError(f"tiles {text!r}: expected auto, or SIZE or SIZE,OVERLAP in pixels of the images")
        return cls(*map(int, parts))

    def tiling(self, image_size: tuple[int, int], shape: tuple[int, int]) -> Tiling:
        """Make the tiling for a network's input and the smallest images, each as height and width.

        Raises
        ------
        SettingsError
            A tile is smaller than 16 pixels or larger than an image, or tiles overlap by more than half.
        """
        longer = max(image_size)
        fitting = min(length * longer // side for length, side in zip(shape, image_size, strict=True))
        side = min(SHRUNK_BY * longer, fitting) if self.side is None else self.side
        if side > fitting:
            raise SettingsError(
                f"tiles of {side} pixels do not fit in images of {shape[1]} x {shape[0]}: at most {fitting}, or leave "
                "out --tiles"
            )
        size = [round(side * length / longer) for length in image_size]
        overlap = [round(SHARED * length) if self.overlap is None else self.overlap for length in size]
        try:
            return Tiling.model_validate({"size": size, "overlap": overlap})
        except ValidationError as error:
            raise SettingsError(f"tiles of {side} pixels: {tell_invalid(error.errors())}") from error


def smallest(shapes: Sequence[tuple[int, int]], roi: Sequence[int] | None) -> tuple[int, int]:
    """Least height and least width of images, or those of the region that is looked at."""
    if roi is not None:
        return roi[3], roi[2]
    heights, widths = zip(*shapes, strict=True)
    return min(heights), min(widths)


def learnt_at_most(spec: Preprocessing, images: int) -> int:
    """How many of the inputs that so many images make are learnt."""
    return images if spec.tiles is None else max(MAX_LEARNT, images)


def shrink_warning(shape: tuple[int, int], spec: Preprocessing) -> str:
    """Say what is lost where a frame of height and width `shape` is shrunk by far; empty where it is not."""
    seen = shape if spec.tiles is None else spec.tiles.size
    factor = max(length / side for length, side in zip(seen, spec.image_size, strict=True))
    if factor <= WARN_ABOVE:
        return ""
    advice = "smaller ones" if spec.tiles else "--tiles auto, which cuts them into tiles that overlap"
    return (
        f"{'tiles' if spec.tiles else 'images'} of {seen[1]} x {seen[0]} pixels are shrunk {factor:.1f} times to "
        f"{spec.image_size[1]} x {spec.image_size[0]}: a defect of {round(5 * factor)} pixels is 5 wide for the "
        f"network, and smaller ones are lost; train with {advice}"
    )


@dataclass(frozen=True, slots=True)
class Split:
    """Images to learn from and to make thresholds from, the rates that they are for, and the groups of all.

    No image is for both, unless it `crosses`: then all are. Without a rate there are no thresholds.
    """

    training: list[Path]
    calibration: list[Path]
    rate: float | None
    review_rate: float | None
    groups: Groups
    crosses: bool = False

    def folds(self, seed: int) -> dict[Path, int]:
        """The fold of each image to make thresholds from, where those are learnt; see `memory_bank.folds`."""
        learnt = set(self.training)
        found = deal_folds(self.groups.of(self.calibration), seed, learnt=[path in learnt for path in self.calibration])
        return dict(zip(self.calibration, found.tolist(), strict=True))

    def facts(self) -> dict[str, Any]:
        """What the manifest records of the images."""
        learnt = [] if self.crosses else self.training
        warning = leak_warning(leaks(self.groups, learnt, self.calibration), len(self.calibration))
        return {
            "training_images": len(self.training),
            "calibration_images": len(self.calibration),
            "groups": {
                **self.groups.facts(self.training, self.calibration),
                **({"warning": warning} if warning else {}),
            },
        }


@dataclass(frozen=True, slots=True)
class GoodImages:
    """Which images to learn from, and what their thresholds shall guarantee.

    Attributes
    ----------
    data : Path
        MVTec layout, or a folder of good images, or any folder together with `normal_dir`.
    normal_dir : str, optional
        See `edgead.dataset.folders.find_good_images`.
    roi : (int, int, int, int), optional
        x, y, width and height of the part of the image to look at.
    false_reject_rate, review_rate : float, optional
        See `edgead.calibration.plan.choose_rates`.
    guarantee : {"cross", "split"}, optional
        How good images make thresholds: "cross" scores each by what was learnt from the others, and all are learnt;
        "split" holds some out, which a proof of the rate needs. By default "cross" where the detector can leave images
        out without another training, with `folds`, and else "split".
    skip_bad : bool
        Leave out images that cannot be read instead of stopping.
    folds : int
        Trainings of which each leaves out a part of the images, for "cross" with a detector that needs them.
    group : str
        Which images belong together and are held out together; see `edgead.dataset.groups.group_images`. For several
        products the default is "folders".
    paths : sequence of Path, optional
        The images, instead of all that lie in the folder; `data` is one that they lie in or below.
    hold_out : float
        Share of the groups of good images that is not learnt, but left for `edgead eval`, of data without a test part.
    ignore : sequence of str, Path or ndarray
        Places that never count; see `edgead.dataset.places.read_ignored`. All images are of one size then.
    align : str or Path, optional
        A golden image: parts are laid where its part lies, by shift and small rotation. Likewise.
    tiles : "auto", int or str, optional
        Cut each image, or its region, into tiles: their size, or "SIZE,OVERLAP", in pixels of the images.

    defects : sequence of Path
        Images of known defects, which are never learnt: they show what a limit finds.
    input : {"rgb", "grey16", "relief", "rgb_relief"}
        What the images are: 8-bit images, grey values of 16 bits or floats, heights, or colours with heights.
    mm_per_count : float, optional
        Of heights: how many millimetres one count is.
    mm_per_pixel : float, optional
        Of the images, at the distance of the part: verdicts say how large a defect is.
    facts : mapping
        What else the manifest records of them, as plain JSON types.

    Raises
    ------
    SettingsError
        `roi` is no region, or options that exclude each other.
    CalibrationError
        A rate is no share between 0 and 1.
    """

    data: Path
    normal_dir: str | None = None
    roi: tuple[int, int, int, int] | None = None
    false_reject_rate: float | None = None
    review_rate: float | None = None
    skip_bad: bool = False
    folds: int = 0
    group: str = AUTO
    paths: Sequence[Path] | None = None
    ignore: Sequence[Place] = ()
    align: str | Path | None = None
    tiles: AskedTiles | str | int | None = None
    guarantee: str | None = None
    defects: Sequence[Path] = ()
    hold_out: float = 0.0
    input: Colour = "rgb"
    mm_per_count: float | None = None
    mm_per_pixel: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_input()
        check_rate(self.false_reject_rate, "false-reject rate")
        check_rate(self.review_rate, "review rate")
        if not 0 <= self.hold_out < 1:
            raise SettingsError(f"--hold-out {self.hold_out:g}: give a share of the good images, such as 0.2")
        if self.guarantee not in (None, "cross", "split"):
            raise SettingsError(f"guarantee {self.guarantee!r}: choose cross or split")
        if self.guarantee == "split" and self.folds:
            raise SettingsError("--guarantee split holds images out, and --folds none: give one of them")
        if self.roi is not None:
            object.__setattr__(self, "roi", _region(self.roi))
        if isinstance(self.ignore, str | Path):
            object.__setattr__(self, "ignore", (self.ignore,))
        if self.tiles is not None and not isinstance(self.tiles, AskedTiles):
            object.__setattr__(self, "tiles", AskedTiles.read(self.tiles))
        object.__setattr__(self, "group", rule_of(self.group, self.normal_dir))

    def _check_input(self) -> None:
        if self.input not in get_args(Colour):
            raise SettingsError(f"input {self.input!r}: choose {', '.join(get_args(Colour))}")
        has_heights = self.input in ("relief", "rgb_relief")
        if (self.mm_per_count is not None) != has_heights:
            raise SettingsError("--input relief and rgb_relief need --mm-per-count, and no other input takes it")
        if self.mm_per_count is not None and not 0 < self.mm_per_count <= 1e9:
            raise SettingsError(f"--mm-per-count {self.mm_per_count:g}: give the millimetres of one count, above 0")
        if self.mm_per_pixel is not None and not 0 < self.mm_per_pixel <= 1e9:
            raise SettingsError(f"--mm-per-pixel {self.mm_per_pixel:g}: give the millimetres of one pixel, above 0")
        if self.input == "rgb":
            return
        if self.align is not None:
            raise SettingsError(f"--align looks at 8-bit images: leave it out with --input {self.input}")
        if has_heights and self.tiles is not None:
            raise SettingsError("--tiles would take a plane from each tile, and not from the part: leave it out")

    def check_method(self, method: type[Method[Any]], settings: Mapping[str, Any]) -> None:
        """Raise SettingsError where a method cannot learn from this input."""
        if method.in_order:
            raise SettingsError(
                f"{method.name} learns from videos, or folders of frames in order: take `edgead cycle VIDEO -o MODEL`"
            )
        if self.input not in method.inputs:
            takes_colours = "rgb" in method.inputs
            advice = f"leave out --input {self.input}" if takes_colours else f"add --input {' or '.join(method.inputs)}"
            raise SettingsError(
                f"{method.name} learns from {' and '.join(method.inputs)} images: {advice}, or take patchcore or mvg"
            )

    def build(self, method: type[Method[Any]], settings: Mapping[str, Any], weights: Path | None) -> Method[Any]:
        """Build the untrained detector of a method for this input; see `Method.from_settings`."""
        channels = 6 if self.input == "rgb_relief" else 3
        return method.from_settings(settings, weights=weights, channels=channels)

    def read(self, path: Path) -> np.ndarray:
        """Read an image as the model will; raises ImageError, which names it."""
        return read_in_colour(path, self.input)

    def with_input(self, spec: Preprocessing, paths: Sequence[Path]) -> Preprocessing:
        """How the values of these images are prepared, over the range that they have; see `dataset.ranges`."""
        found = with_colour(spec, self.input, self.mm_per_count, paths)
        return found.model_copy(update={"mm_per_pixel": self.mm_per_pixel})

    def with_places(self, spec: Preprocessing, paths: Sequence[Path], looks: Sequence[Look]) -> Preprocessing:
        """How these images are prepared, from what the method says, with the places that the user names.

        Raises
        ------
        SettingsError
            See `edgead.dataset.places.with_places`.
        """
        spec = spec.model_copy(update={"roi": self.roi})
        sizes = {(int(look.height), int(look.width)): path for look, path in zip(looks, paths, strict=True)}
        return with_places(spec, self.ignore, self.align, sizes)

    def prepare(self, model: Method[Any], paths: Sequence[Path], looks: Sequence[Look]) -> tuple[Preprocessing, str]:
        """Find how these images are prepared for a model, which takes note of it; and a warning, or ''."""
        spec = self.with_places(model.preprocessing, paths, looks)
        spec, shrunk = self.with_tiles(spec, [(look.height, look.width) for look in looks])
        return model.prepared(self.with_input(spec, paths)), shrunk

    def find(self) -> list[Path]:
        """List the images; raises DatasetError or ImageError where there are none."""
        found = find_good_images(self.data, self.normal_dir) if self.paths is None else list(self.paths)
        if self.hold_out and not {image.path for image in find_test_images(self.data)} & set(found):
            raise SettingsError(f"{self.data} has a test part of its own: leave out --hold-out")
        return found

    def without_test_part(self, paths: Sequence[Path]) -> list[Path]:
        """Leave out the groups that are held out to test."""
        groups = group_images(paths, self.group, self.data).of(paths) if self.hold_out else ()
        return without_test_part(paths, groups, self.hold_out) if self.hold_out else list(paths)

    def with_tiles(self, spec: Preprocessing, shapes: Sequence[tuple[float, float]]) -> tuple[Preprocessing, str]:
        """How images of these heights and widths are prepared, tile by tile if so; and a warning, or ''."""
        shape = smallest([(int(height), int(width)) for height, width in shapes], self.roi)
        assert self.tiles is None or isinstance(self.tiles, AskedTiles)
        tiles = None if self.tiles is None else self.tiles.tiling(spec.image_size, shape)
        prepared = spec.model_copy(update={"roi": self.roi, "tiles": tiles})
        return prepared, shrink_warning(shape, prepared)

    def crosses(self, leaves_out: bool) -> bool:
        """Are all images learnt and calibrated on, by a detector that leaves images out or does not?"""
        return self.guarantee == "cross" or (self.guarantee is None and (leaves_out or self.folds > 0))

    def split(self, paths: Sequence[Path], seed: int, *, leaves_out: bool) -> Split:
        """Find the groups of the images, hold some of them out or deal all to folds, and choose the rates.

        Raises
        ------
        CalibrationError
            The images are too few for the rates.
        """
        groups = group_images(paths, self.group, self.data)
        if self.crosses(leaves_out):
            rates = choose_rates(len(paths), self.false_reject_rate, self.review_rate, groups=groups.count)
            return Split(list(paths), list(paths), *rates, groups, crosses=True)
        held_out, rate = plan_calibration(groups.count, self.false_reject_rate, self.review_rate, what=groups.unit)
        learnt, calibration = split_good(paths, held_out, seed, groups.of(paths))
        return Split(learnt, calibration, rate, self.review_rate, groups)

    def check_count(self, count: int, *, leaves_out: bool) -> None:
        """Raise CalibrationError where so many images are too few, whatever their groups are."""
        if self.crosses(leaves_out):
            choose_rates(count, self.false_reject_rate, self.review_rate)
            return
        try:
            plan_calibration(count, self.false_reject_rate, self.review_rate)
        except CalibrationError as error:
            if self.guarantee is not None:  # which --folds does not go with
                raise
            try:
                choose_rates(count, self.false_reject_rate, self.review_rate)
            except CalibrationError:
                raise error from None
            raise CalibrationError(f"{error}; or cross-validate with --folds 5, which holds none out") from None

    def keep_all(self, paths: Sequence[Path], method: type[Method[Any]]) -> Split:
        """Find the groups of the images and hold none of them out: there will be no thresholds yet."""
        learnt = [] if method.learns_from == "nothing" else list(paths)
        return Split(learnt, [], None, None, group_images(paths, self.group, self.data))

    def refuse_rates(self, detector: str) -> None:
        """Raise SettingsError where thresholds are asked for of a detector that gets none from its training."""
        if self.false_reject_rate is not None or self.review_rate is not None or self.folds or self.guarantee:
            raise SettingsError(
                f"{detector} makes no thresholds in training: leave out --false-reject-rate, --review-rate, "
                "--guarantee and --folds, and give the rates to `edgead calibrate`"
            )


def _region(roi: Any) -> tuple[int, int, int, int]:
    try:
        x, y, width, height = map(operator.index, roi)
    except (TypeError, ValueError):
        pass  # no sequence, or not of four, or not of whole numbers
    else:
        if min(x, y) >= 0 and min(width, height) >= 1:
            return x, y, width, height
    raise SettingsError(
        f"roi={roi!r}: give x, y, width and height of a region, four whole numbers of pixels, such as (0, 0, 640, 480)"
    )
