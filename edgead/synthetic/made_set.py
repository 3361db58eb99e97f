"""Test set of made (artificial) defects on good parts, drawn or by a plug-in: MVTec layout, and a record of how."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from edgead.artifact.training_hashes import content_sha256
from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import GOOD, Progress, check_images, common_folder
from edgead.dataset.groups import AUTO, group_images
from edgead.dataset.made_sets import FILE, Learnt, MadeImage, MadeSet, Reject
from edgead.errors import SettingsError
from edgead.files.atomic import new_folder
from edgead.images.files import load_image, write_image
from edgead.synthetic.drawn_defects import KINDS, draw_kind
from edgead.synthetic.rejects import RealDefect

Real = Sequence[tuple[RealDefect, Reject]]
"""Rejects with a marked defect, each with its entry in `made.json`."""
Shapes = Mapping[Path, tuple[int, int]]
"""Good parts, and the height and width of each."""
DRAWN = "drawn"
_FAINTEST = 3  # grey values by which a pixel must differ to belong to a drawn defect


class Made(NamedTuple):
    """Made image, its mask, and its entry in the record."""

    image: np.ndarray
    mask: np.ndarray
    kind: str
    good: Path


def keep_rejects(rejects: Sequence[RealDefect], group: str, draft: Path) -> list[tuple[RealDefect, Reject]]:
    """Copy the rejects that have a marked defect, and their masks, into `real` in the draft.

    Raises DatasetError: none of the rejects has a marked defect.
    """
    kept: list[tuple[RealDefect, Reject]] = []
    paths = [reject.path for reject in rejects]
    groups = group_images(paths, group, common_folder(paths) if paths else None)
    for reject in rejects:
        _, mask = reject.load()
        if mask is None:
            continue
        name, of_mask = _names_of(reject, {record.mask for _, record in kept})
        _copy(reject.path, draft / name)
        write_image(draft / of_mask, mask.astype(np.uint8) * 255)
        record = Reject(
            image=name,
            mask=of_mask,
            kind=reject.kind,
            group=groups.numbers[reject.path],
            sha256=content_sha256(reject.path),
            label=reject.label,
        )
        kept.append((reject, record))
    if rejects and not kept:
        raise DatasetError(
            f"none of {len(rejects)} rejects has a marked defect, {rejects[0].path} first: give masks (--masks), boxes "
            "(--boxes) or a model that finds them (--model)"
        )
    return kept


def _names_of(reject: RealDefect, masks: set[str]) -> tuple[str, str]:
    """Choose names for a reject and its mask in the draft, as x.png and x.jpg would share a mask."""
    stem = reject.path.stem
    if f"real/ground_truth/{reject.kind}/{stem}_mask.png" in masks:
        stem += f"_{reject.path.suffix[1:]}"
    folder = f"{reject.kind}/{stem}"
    return f"real/test/{folder}{reject.path.suffix}", f"real/ground_truth/{folder}_mask.png"


def write_made(draft: Path, name: str, one: Made) -> MadeImage:
    """Write a made image and its mask; return its entry in the record."""
    image, mask = f"test/{one.kind}/{name}.png", f"ground_truth/{one.kind}/{name}_mask.png"
    write_image(draft / image, one.image)
    write_image(draft / mask, one.mask.astype(np.uint8) * 255)
    return MadeImage(image=image, mask=mask, kind=one.kind, good=_good_name(one.good))


def copy_part(path: Path, draft: Path) -> None:
    """Copy a good part on which defects were made."""
    _copy(path, draft / _good_name(path))


def _good_name(path: Path) -> str:
    return f"test/{GOOD}/{path.name}"


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, to)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings for making defects.

    `count`: total number of images, spread evenly over the kinds.
    `method`: "drawn", which takes no rejects; or a method of another package, see `edgead.synthetic.makers`.
    `where`: mask of the places where defects may be; by default they are near their places on the rejects.
    `group`: rule by which rejects belong together, see `edgead.dataset.groups.group_images`; recorded in `made.json`.
    """

    count: int = 300
    method: str = DRAWN
    where: Path | None = None
    group: str = AUTO
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise SettingsError(f"--count {self.count}: at least 1 is needed")
        if self.method == DRAWN and self.where is not None:
            raise SettingsError(
                "--where says where defects like the rejects' may be: drawn ones come anywhere, leave it out"
            )


Maker = Callable[[Real, Shapes], Iterator[Made]]
"""Function that takes rejects and good parts with their (height, width), and yields the made images."""


def make_defects(
    good: Sequence[Path],
    rejects: Sequence[RealDefect],
    folder: Path,
    recipe: Recipe = Recipe(),
    *,
    make: Maker | None = None,
    learnt: Learnt | None = None,
    progress: Progress | None = None,
) -> MadeSet:
    """Write a folder of made defects: `test/KIND` and `ground_truth/KIND`, the parts in `test/good`, rejects in `real`.

    `good`: good parts of one folder, preferably not learnt by the model.
    `rejects`: rejects; those without a marked defect are left out.
    `folder`: new or empty folder; it becomes complete or stays absent.
    `make`: function that makes the images, for every method except "drawn"; see `Maker`.
    `learnt`: weights and settings of a trained `make`, for the record.
    Raises DatasetError: no reject has a marked defect, images cannot be read, or are in a folder of made defects.
    Raises SettingsError: there are rejects for drawn defects, or none for other methods.
    Raises FileExistsError: the folder is not empty.
    """
    if (make is None) == bool(rejects):
        raise SettingsError("drawn defects come of no rejects: leave --from out" if rejects else "name rejects: --from")
    shapes: dict[Path, tuple[int, int]] = {}
    check_images(good, look=lambda path, image: shapes.update({path: (image.shape[0], image.shape[1])}))
    with new_folder(folder) as draft:
        real = keep_rejects(rejects, recipe.group, draft)
        if make is None:
            make = partial(_drawn, recipe)
        images, used = [], set()
        for number, one in enumerate(make(real, shapes)):
            images.append(write_made(draft, f"{number:05d}", one))
            used.add(one.good)
            if progress:
                progress(number + 1, recipe.count)
        for path in used:
            copy_part(path, draft)
        records = tuple(record for _, record in real)
        result = MadeSet(method=recipe.method, seed=recipe.seed, learnt=learnt, rejects=records, images=tuple(images))
        (draft / FILE).write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return result


def _drawn(recipe: Recipe, _: Real, shapes: Shapes) -> Iterator[Made]:
    """Draw one defect per image, the kinds in turn."""
    parts = list(shapes)
    for number in range(recipe.count):
        rng = np.random.default_rng([recipe.seed, number])
        kind, part = KINDS[number % len(KINDS)], parts[int(rng.integers(len(parts)))]
        good = load_image(part)
        image, mask = good, np.zeros(good.shape[:2], bool)
        while not mask.any():  # a moved piece may have the colour of what it covers
            image = draw_kind(good, kind, rng)
            mask = cv2.absdiff(image, good).max(axis=2) >= _FAINTEST
        yield Made(image, mask, kind, part)
