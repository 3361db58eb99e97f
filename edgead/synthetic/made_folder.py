"""A folder of made defects as it is written: `test/KIND`, `ground_truth/KIND`, the parts, copies of the rejects."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgead.artifact.training_hashes import content_sha256
from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import GOOD, common_folder
from edgead.dataset.groups import group_images
from edgead.dataset.made_sets import MadeImage, Reject, Transform
from edgead.images.files import write_image
from edgead.synthetic.rejects import RealDefect

Real = Sequence[tuple[RealDefect, Reject]]
"""Rejects with a marked defect, and what `made.json` says of each."""


class Made(NamedTuple):
    """A made image, its mask, and what is said of it."""

    image: np.ndarray
    mask: np.ndarray
    kind: str
    good: Path
    reject: str | None = None
    transform: Transform | None = None


def keep_rejects(rejects: Sequence[RealDefect], group: str, draft: Path) -> list[tuple[RealDefect, Reject]]:
    """Copy the rejects that have a marked defect, and their masks, into `real` in the draft.

    Raises
    ------
    DatasetError
        There are rejects, and none has a marked defect.
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
    """What a reject and its mask are called in the draft; x.png and x.jpg would share a mask."""
    stem = reject.path.stem
    if f"real/ground_truth/{reject.kind}/{stem}_mask.png" in masks:
        stem += f"_{reject.path.suffix[1:]}"
    folder = f"{reject.kind}/{stem}"
    return f"real/test/{folder}{reject.path.suffix}", f"real/ground_truth/{folder}_mask.png"


def write_made(draft: Path, name: str, one: Made) -> MadeImage:
    """Write an image and its mask."""
    image, mask = f"test/{one.kind}/{name}.png", f"ground_truth/{one.kind}/{name}_mask.png"
    write_image(draft / image, one.image)
    write_image(draft / mask, one.mask.astype(np.uint8) * 255)
    return MadeImage(
        image=image,
        mask=mask,
        kind=one.kind,
        good=_good_name(one.good),
        reject=one.reject,
        transform=one.transform,
    )


def copy_part(path: Path, draft: Path) -> None:
    """Copy a good part that defects are on."""
    _copy(path, draft / _good_name(path))


def _good_name(path: Path) -> str:
    return f"test/{GOOD}/{path.name}"


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, to)
