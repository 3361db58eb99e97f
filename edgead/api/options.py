"""What `edgead.train` takes by name beside its first parameters, as editors and type checkers read it."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.artifact.inputs import Colour
    from edgead.calibration.operating_point import Costs


class ImageOptions(TypedDict, total=False):
    """Which images are learnt, and what their thresholds shall guarantee; `GoodImages` explains each."""

    normal_dir: str | None
    roi: Sequence[int] | None
    false_reject_rate: float | None
    review_rate: float | None
    skip_bad: bool
    folds: int
    group: str
    paths: Sequence[Path] | None
    clean: bool
    ignore: str | Path | Sequence[str | Path]
    align: str | Path | None
    tiles: str | int | None
    guarantee: Literal["cross", "split"] | None
    defects: Sequence[Path]
    costs: Costs | None
    input: Colour
    mm_per_count: float | None
    mm_per_pixel: float | None


class TrainOptions(ImageOptions, total=False):
    """All of `ImageOptions`, and the settings that most methods have; a method's others are `settings`."""

    backbone: str
    layers: Sequence[str]
    image_size: int | Sequence[int]
    memory_bank_size: int
    seed: int


def parted(options: TrainOptions, known: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part options into those of images and settings of the method.

    Raises
    ------
    SettingsError
        There is no option of a name, nor among the `known` ones.
    """
    names = TrainOptions.__annotations__
    for wrong in options.keys() - names.keys():
        near = get_close_matches(wrong, [*known, *names], 1)
        meant = f": is {near[0]} meant? A" if near else ": a"
        raise SettingsError(f"there is no option {wrong!r}{meant} setting of the detector is given in settings={{...}}")
    of_images = {name: value for name, value in options.items() if name in ImageOptions.__annotations__}
    return of_images, {name: value for name, value in options.items() if name not in of_images}
