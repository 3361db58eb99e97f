"""Good images of a training: search, split, and preparation in their proportions, or as tiles of large images.

The network's input has the proportions of the images: squashed images lose their finest defects first.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
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
from edgead.calibration.plan import choose_rates, counted, plan_calibration
from edgead.dataset.folders import check_region, find_good_images, find_test_images, rule_of, split_good
from edgead.dataset.groups import AUTO, Groups, group_images, leak_warning, leaks, most_groups
from edgead.dataset.places import Place, with_places
from edgead.dataset.ranges import with_colour
from edgead.errors import SettingsError, tell_invalid
from edgead.images.files import ImageError, load_image
from edgead.images.likeness import SAME_PROPORTIONS, Look

if TYPE_CHECKING:
    from edgead.adapt.methods.method import Method

STEP_PX = 16  # the coarsest stride of the layers that are compared
LOOKED_AT = 50
# If a larger share of images has unusual proportions, these are no property of the product; a smaller share are odd
# images, which the training names.
ODD_SHARE = 0.2
AUTO_TILES = "auto"
# Factor by which tiles of `auto` are shrunk: a defect of 10 pixels becomes 5, which a patch still shows.
SHRUNK_BY = 2
# Share of a tile that neighbours have in common: more than the network's padding reaches, wider than small defects.
SHARED = 1 / 8
WARN_ABOVE = 3.0
# Most tiles to learn, but at least one of each image: of more tiles, only a few patches each would be kept.
MAX_LEARNT = 1500


@dataclass(frozen=True, slots=True)
class Proportions:
    """Height of the network's input divided by its width, and the reason in words.

    `mixed`: images differ in proportions; the free area of the input is filled with their reflection.
    """

    height: float
    reason: str
    mixed: bool = False


def find_proportions(paths: Sequence[Path], roi: tuple[int, int, int, int] | None = None) -> Proportions:
    """Find suitable proportions for the network's input.

    `paths`: good images; a sample of them is read.
    `roi`: x, y, width and height of the region of interest, pixels.
    Returns a square's proportions if images differ in proportions, or none can be read.
    """
    logarithms = []
    for pick in np.linspace(0, len(paths) - 1, min(LOOKED_AT, len(paths))).round().astype(int):
        with suppress(ImageError):  # the training reports or leaves out unreadable images
            image = load_image(paths[pick], keep_depth=True)
            check_region(roi, paths[pick], image)
            if roi is not None:
                return Proportions(roi[3] / roi[2], "in proportion to the region of interest")
            logarithms.append(math.log(image.shape[0] / image.shape[1]))
    if not logarithms:
        return Proportions(1.0, "a square")
    usual = float(np.median(logarithms))
    if np.mean(np.abs(np.subtract(logarithms, usual)) > SAME_PROPORTIONS) > ODD_SHARE:
        return Proportions(1.0, "a square, filled up by reflection: the images have different proportions", mixed=True)
    return Proportions(math.exp(usual), "in proportion to the images")


def input_size(side: int, proportions: float, step: int = STEP_PX) -> list[int]:
    """Return height and width in these proportions, about side x side pixels in steps; [side, side] for 1."""
    if proportions == 1:
        return [side, side]
    sides = (side * math.sqrt(proportions), side / math.sqrt(proportions))
    return [max(step, step * round(length / step)) for length in sides]


def keep_proportions(settings: dict[str, Any], proportions: Proportions, step: int = STEP_PX) -> dict[str, Any]:
    """Adapt a square input to the proportions, with as many pixels, and set `fill`; a rectangle stays unchanged."""
    height, width = settings["image_size"]
    if height != width:
        return settings
    fill = {"fill": "reflect"} if proportions.mixed else {}
    return {**settings, "image_size": input_size(height, proportions.height, step), **fill}


@dataclass(frozen=True, slots=True)
class AskedTiles:
    """Requested tiles: longer side and overlap of neighbours, in pixels of the images; None to choose automatically."""

    side: int | None = None
    overlap: int | None = None

    @classmethod
    def read(cls, given: str | int) -> AskedTiles:
        """Read SIZE, "SIZE,OVERLAP" or "auto"; raises SettingsError for any other text."""
        text = str(given).strip()
        if text == AUTO_TILES:
            return cls()
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > 2 or not all(part.isdigit() for part in parts):
            raise SettingsError(f"tiles {text!r}: expected auto, or SIZE or SIZE,OVERLAP in pixels of the images")
        return cls(*map(int, parts))

    def tiling(self, image_size: tuple[int, int], shape: tuple[int, int]) -> Tiling:
        """Make the tiling for a network's input size and the smallest image size, each as height and width.

        Raises SettingsError: a tile is smaller than 16 pixels or larger than an image, or tiles overlap by more than
            half.
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
    """Return the least height and least width of the images, or height and width of the region of interest."""
    if roi is not None:
        return roi[3], roi[2]
    heights, widths = zip(*shapes, strict=True)
    return min(heights), min(widths)


def learnt_at_most(spec: Preprocessing, images: int) -> int:
    """Number of inputs (images or tiles) that a training learns, given the number of images."""
    return images if spec.tiles is None else max(MAX_LEARNT, images)


def shrink_warning(shape: tuple[int, int], spec: Preprocessing) -> str:
    """Warn if a frame of height and width `shape` is shrunk so much that small defects are lost; else return ''."""
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
    """Images to learn and to calibrate on, the rates of the thresholds, and the groups of all images.

    No image is in both lists, unless the split `crosses`: then all images are in both. No rate means no thresholds.
    """

    training: list[Path]
    calibration: list[Path]
    rate: float | None
    review_rate: float | None
    groups: Groups
    crosses: bool = False

    def folds(self, seed: int) -> dict[Path, int]:
        """Assign a fold to each calibration image, if these are also learnt; see `memory_bank.folds`."""
        learnt = set(self.training)
        found = deal_folds(self.groups.of(self.calibration), seed, learnt=[path in learnt for path in self.calibration])
        return dict(zip(self.calibration, found.tolist(), strict=True))

    def facts(self) -> dict[str, Any]:
        """Return what the manifest records about the images."""
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


@dataclass(frozen=True)
class GoodImages:
    """Selection of the images to learn from, and the rates that their thresholds shall guarantee.

    The other attributes are options of `edgead.train`, which explains them.

    `data`: MVTec layout, or a folder of good images, or any folder together with `normal_dir`.
    `facts`: further facts about the images for the manifest, as plain JSON types.
    Raises SettingsError: `roi` is no region, or options exclude each other.
    Raises CalibrationError: a rate is not between 0 and 1.
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

    def check_method(self, method: type[Method[Any]]) -> None:
        """Raise SettingsError if a method cannot learn from this input."""
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
        if self.tiles is not None and method.compares_places:
            raise SettingsError(f"{method.name} compares a part place by place, and tiles show any: leave out --tiles")

    def build(self, method: type[Method[Any]], settings: Mapping[str, Any], weights: Path | None) -> Method[Any]:
        """Build the untrained detector of a method for this input; see `Method.from_settings`."""
        channels = 6 if self.input == "rgb_relief" else 3
        return method.from_settings(settings, weights=weights, channels=channels)

    def read(self, path: Path) -> np.ndarray:
        """Read an image as the model will read it; raises ImageError with its name."""
        return read_in_colour(path, self.input)

    def with_input(self, spec: Preprocessing, paths: Sequence[Path]) -> Preprocessing:
        """Add the type of the images and the range of their values to a preprocessing; see `dataset.ranges`."""
        found = with_colour(spec, self.input, self.mm_per_count, paths)
        return found.model_copy(update={"mm_per_pixel": self.mm_per_pixel})

    def with_places(self, spec: Preprocessing, paths: Sequence[Path], looks: Sequence[Look]) -> Preprocessing:
        """Add region, ignored places and alignment of the user to the method's preprocessing.

        Raises SettingsError: see `edgead.dataset.places.with_places`.
        """
        spec = spec.model_copy(update={"roi": self.roi})
        sizes = {(int(look.height), int(look.width)): path for look, path in zip(looks, paths, strict=True)}
        return with_places(spec, self.ignore, self.align, sizes)

    def prepare(self, model: Method[Any], paths: Sequence[Path], looks: Sequence[Look]) -> tuple[Preprocessing, str]:
        """Find the preprocessing for these images and pass it to the model; return it, and a warning or ''."""
        spec = self.with_places(model.preprocessing, paths, looks)
        spec, shrunk = self.with_tiles(spec, [(look.height, look.width) for look in looks])
        return model.prepared(self.with_input(spec, paths)), shrunk

    def find(self) -> list[Path]:
        """List the images; the folder is searched only once. Raises DatasetError or ImageError if there are none."""
        return list(self._found)

    @cached_property
    def _found(self) -> list[Path]:
        found = find_good_images(self.data, self.normal_dir) if self.paths is None else list(self.paths)
        if self.hold_out and not {image.path for image in find_test_images(self.data)} & set(found):
            raise SettingsError(f"{self.data} has a test part of its own: leave out --hold-out")
        return found

    def with_tiles(self, spec: Preprocessing, shapes: Sequence[tuple[float, float]]) -> tuple[Preprocessing, str]:
        """Add the tiling for images of these heights and widths, if requested; return a warning or '' as well."""
        shape = smallest([(int(height), int(width)) for height, width in shapes], self.roi)
        assert self.tiles is None or isinstance(self.tiles, AskedTiles)
        tiles = None if self.tiles is None else self.tiles.tiling(spec.image_size, shape)
        prepared = spec.model_copy(update={"roi": self.roi, "tiles": tiles})
        return prepared, shrink_warning(shape, prepared)

    def crosses(self, leaves_out: bool) -> bool:
        """Whether all images are both learnt and calibrated on; `leaves_out` is the method's attribute."""
        return self.guarantee == "cross" or (self.guarantee is None and (leaves_out or self.folds > 0))

    def split(self, paths: Sequence[Path], seed: int, *, leaves_out: bool) -> Split:
        """Find the groups of the images, hold some out unless the split crosses, and choose the rates.

        Raises CalibrationError: there are too few images for the rates.
        """
        groups = group_images(paths, self.group, self.data)
        if self.crosses(leaves_out):
            rates = choose_rates(len(paths), self.false_reject_rate, self.review_rate, groups=groups.count)
            return Split(list(paths), list(paths), *rates, groups, crosses=True)
        held_out, rate = plan_calibration(groups.count, self.false_reject_rate, self.review_rate, what=groups.unit)
        learnt, calibration = split_good(paths, held_out, seed, groups.of(paths))
        return Split(learnt, calibration, rate, self.review_rate, groups)

    def check_count(self, paths: Sequence[Path], *, leaves_out: bool) -> None:
        """Raise CalibrationError if the images are too few for the rates; they are grouped by names alone."""
        images, groups = len(paths), most_groups(paths, self.group, self.data)
        if self.crosses(leaves_out):
            choose_rates(images, self.false_reject_rate, self.review_rate, groups=groups)
            return
        count, what = counted(images, groups)
        try:
            plan_calibration(count, self.false_reject_rate, self.review_rate, what=what)
        except CalibrationError as error:
            if self.guarantee is not None:  # --guarantee excludes --folds
                raise
            try:
                choose_rates(images, self.false_reject_rate, self.review_rate, groups=groups)
            except CalibrationError:
                raise error from None
            raise CalibrationError(f"{error}; or cross-validate with --folds 5, which holds none out") from None

    def keep_all(self, paths: Sequence[Path], method: type[Method[Any]]) -> Split:
        """Find the groups of the images and hold none out, as no thresholds are made yet."""
        learnt = [] if method.learns_from == "nothing" else list(paths)
        return Split(learnt, [], None, None, group_images(paths, self.group, self.data))

    def refuse_rates(self, detector: str) -> None:
        """Raise SettingsError if rates are given for a detector whose training makes no thresholds."""
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
