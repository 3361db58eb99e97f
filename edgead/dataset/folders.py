"""Folders of images: MVTec layout (train/good, test/<type>, ground_truth/<type>) or a plain folder of good images.

A test set may also be a folder of its own, with `good` and a folder for each kind of defect. A data set may also have
another layout, or be a file that lists images: see `edgead.dataset.layouts`.

If a folder contains the folders `rgb` and `height`, or `xyz` as in MVTec 3D-AD, the images are in `rgb`.

Folders of several products are selected by a pattern, never guessed, as a folder of defects may lie beside them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from glob import glob
from math import ceil
from pathlib import Path

import cv2
import numpy as np

from edgead.artifact.training_hashes import content_sha256
from edgead.dataset.errors import DatasetError
from edgead.dataset.groups import AUTO, FOLDERS
from edgead.dataset.labelled import GOOD, LabelledImage
from edgead.dataset.layouts.mvtec_ad import BESIDE, read_mvtec_tests
from edgead.dataset.layouts.place import contents
from edgead.dataset.layouts.registry import DataSet, read_layout
from edgead.dataset.made_sets import refuse_made
from edgead.images.files import ImageError, is_image_path, list_images, load_image, natural_key, refuse_video
from edgead.images.pairs import colour_folder
from edgead.images.volumes import is_volume


def is_pattern(normal_dir: str | None) -> bool:
    """Whether `normal_dir` is a pattern with wildcards, for folders of several products."""
    return normal_dir is not None and any(sign in normal_dir for sign in "*?[")


def rule_of(group: str, normal_dir: str | None) -> str:
    """Choose the rule of grouping if the user gave none: for several products, groups within each folder."""
    return FOLDERS if group == AUTO and is_pattern(normal_dir) else group


def find_images(data: Path, pattern: str) -> list[Path]:
    """List the images of every folder below `data` that matches a pattern, folder by folder.

    Raises DatasetError: no folder matches.
    Raises ImageError: a matching folder holds no images.
    """
    folders = sorted(filter(Path.is_dir, map(data.joinpath, glob(pattern, root_dir=data))), key=natural_key)
    if not folders:
        raise DatasetError(f"no folder of {data} matches {pattern}; it holds {contents(data)}")
    return [path for folder in folders for path in list_images(colour_folder(folder))]


Progress = Callable[[int, int], None]
"""Progress callback, called with (done, total)."""

StageProgress = Callable[[str, int, int], None]
"""Progress callback, called with (name of the stage, done, total)."""


def no_progress(stage: str, done: int, total: int) -> None:
    """StageProgress that does nothing."""


def common_folder(paths: Sequence[Path]) -> Path:
    """Return the deepest common folder of all paths, absolute."""
    return Path(os.path.commonpath([os.path.abspath(path.parent) for path in paths]))


def name_in(top: Path, path: Path) -> str:
    """Name of an image in messages: its path relative to `top`."""
    return os.path.relpath(os.path.abspath(path), top)


def find_good_images(data: Path, normal_dir: str | None = None) -> list[Path]:
    """List the good images to learn from, in natural order.

    `data`: data set in MVTec layout or one of `edgead.dataset.layouts`; or a folder of good images, without a folder
        `train`; or any folder together with `normal_dir`.
    `normal_dir`: folder of good images below `data`; "." is `data` itself. With wildcards, such as "*" or
        "*/train/good", all matching folders, each of another product.
    """
    refuse_video(data)
    if normal_dir is None and (listed := _listed(data)) is not None:
        learnt = listed.learnt()
        if not learnt:
            raise DatasetError(f"{data}, read as {listed.layout}, lists no good images to learn from")
        return learnt
    if not data.is_dir():
        raise DatasetError(f"{data}: no such folder")
    if normal_dir is None:
        normal_dir = "." if _is_plain(data) or colour_folder(data) != data else f"train/{GOOD}"
    if is_pattern(normal_dir) and not (data / normal_dir).is_dir():
        found = find_images(data, normal_dir)
        refuse_made(found)
        return found
    folder = data / normal_dir
    refuse_made([folder / GOOD])
    if not folder.is_dir():
        several = "" if (data / GOOD).is_dir() else "; with '*' those of several products"
        raise DatasetError(
            f"{data} has no folder {normal_dir}; it holds {contents(data)}. Put the good images into the folder "
            f"itself, or use the MVTec layout (train/good/*.png), or name their folder with --normal-dir{several}"
        )
    return list_images(colour_folder(folder))


def _is_plain(data: Path) -> bool:
    if (data / "train").is_dir():
        return False
    return is_volume(data) or any(is_volume(one) or (is_image_path(one) and one.is_file()) for one in data.iterdir())


def is_test_set(data: Path) -> bool:
    """Whether a folder is a test set: it holds `good` and a folder for a kind of defect, and no training images."""
    names = {entry.name for entry in data.iterdir() if entry.is_dir()}
    return GOOD in names and not names & {"train", "test"} and len(names - {GOOD, *BESIDE}) > 0 and not _is_plain(data)


def find_test_images(data: Path) -> list[LabelledImage]:
    """List the test images of a data set: good ones first, then type by type.

    Slices of a defective volume are good if its mask marks nothing there; without a mask all count as defective.

    `data`: data set in MVTec layout, or its folder `test`, or any other folder that holds `good` beside a folder for
        each kind of defect, and perhaps `ground_truth`.
    Raises DatasetError: the folder is none of these, or has no good or no defective image.
    """
    listed = _listed(data)
    if listed is not None:
        return _both_kinds(listed.tested(), data)
    return _both_kinds(read_mvtec_tests(data), data)


def _listed(data: Path) -> DataSet | None:
    found = read_layout(data)
    if found is not None:
        refuse_made(image.path for image in found.images)
    return found


def _both_kinds(images: list[LabelledImage], where: Path) -> list[LabelledImage]:
    if len({image.is_defective for image in images}) < 2:
        kinds = ", ".join(dict.fromkeys(image.defect for image in images)) or "nothing"
        raise DatasetError(
            f"{where} must hold good and defective images ({GOOD} and a folder for each kind of defect), found {kinds}"
        )
    return images


def split_good(
    paths: Sequence[Path], held_out: int, seed: int, groups: Sequence[int] | None = None
) -> tuple[list[Path], list[Path]]:
    """Split good images into images to learn from and images held out for thresholds, deterministically.

    With `groups`, the group of each image, `held_out` is a number of whole groups. The choice does not depend on sizes
    of groups: only then are held-out groups exchangeable with new groups.
    """
    kept, rest = deal_groups(range(len(paths)) if groups is None else groups, (held_out,), seed)
    return [paths[i] for i in sorted(rest)], [paths[i] for i in sorted(kept)]


def deal_groups(groups: Sequence[int], counts: Sequence[int], seed: int) -> list[list[int]]:
    """Distribute whole groups at random to lists: a given number to each list, and the rest to a last list.

    `groups`: group of each image, numbered from 0 on as they first appear.
    `counts`: number of groups for each list except the last.
    Returns the lists: indices of images, in the order in which their groups were drawn.
    """
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    dealt = [list(members.values())[i] for i in np.random.default_rng(seed).permutation(len(members))]
    ends = [0, *np.cumsum(counts).tolist(), len(dealt)]
    return [[index for group in dealt[a:b] for index in group] for a, b in zip(ends[:-1], ends[1:], strict=True)]


def without_test_part(paths: Sequence[Path], groups: Sequence[int], share: float) -> list[Path]:
    """Hold out a share of the groups, rounded up, for tests; the rest is learnt.

    The choice depends on no seed: trainings of the same images are tested on the same images.
    """
    return [paths[index] for index in sorted(deal_groups(groups, (ceil(share * len(set(groups))),), seed=0)[1])]


def check_images(
    paths: Sequence[Path],
    *,
    roi: Sequence[int] | None = None,
    skip_bad: bool | None = None,
    look: Callable[[Path, np.ndarray], object] | None = None,
    read: Callable[[Path], np.ndarray] = load_image,
    progress: Progress | None = None,
) -> tuple[list[Path], list[str], str]:
    """Decode every image once, to find bad ones before a long training.

    `roi`: x, y, width and height of a region that must lie inside every image.
    `skip_bad`: leave out images that cannot be read; None if the caller has no such option to suggest.
    `look`: called with each usable image and its path.
    `read`: function that reads an image for the model, or raises ImageError.
    Returns (list of Path, list of str, str): usable images, faults of the others, and the sha256 over names and
        contents of the usable ones.
    Raises DatasetError: an image cannot be read and `skip_bad` is not True, no image is left, the region is not inside
        an image, or the images are made defects.
    """
    refuse_made(paths)
    usable, problems, digest = [], [], hashlib.sha256()
    for done, path in enumerate(paths, 1):
        try:
            image = read(path)
        except ImageError as error:
            problems.append(str(error))
        else:
            check_region(roi, path, image)
            if look:
                look(path, image)
            usable.append(path)
            digest.update(os.fsencode(path.name) + b"\0" + bytes.fromhex(content_sha256(path)))
        if progress:
            progress(done, len(paths))
    if problems and not skip_bad:
        shown = "\n".join(problems[:5]) + ("\n..." if len(problems) > 5 else "")
        or_skip = "" if skip_bad is None else ", or leave them out with --skip-bad"
        raise DatasetError(f"{len(problems)} of {len(paths)} images cannot be read: remove them{or_skip}:\n{shown}")
    if not usable:
        first = f", the first: {problems[0]}" if problems else ""
        raise DatasetError(f"none of {len(paths)} images can be read{first}")
    return usable, problems, digest.hexdigest()


def tell_unreadable(problems: Sequence[str], read: int) -> list[str]:
    """Warn of images that cannot be read, the first ones by name, beside the number of those that were read."""
    shown = f"{'; '.join(problems[:3])}{' ...' * (len(problems) > 3)}"
    total = len(problems) + read
    return [f"{len(problems)} of {total} images cannot be read and do not count: {shown}"] if problems else []


def check_region(roi: Sequence[int] | None, name: Path | str, image: np.ndarray) -> None:
    """Raise DatasetError, naming the image, if a region of interest (x, y, width, height) is not inside it."""
    height, width = image.shape[:2]
    if roi is not None and (roi[0] + roi[2] > width or roi[1] + roi[3] > height):
        raise DatasetError(
            f"the region of interest {','.join(map(str, roi))} (x, y, width, height) ends at {roi[0] + roi[2]}, "
            f"{roi[1] + roi[3]}, but {name} has {width} x {height} pixels: choose a region inside all images"
        )


def resize_map(anomaly_map: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize an anomaly map linearly to the shape (rows, columns) of a mask."""
    return cv2.resize(anomaly_map, shape[::-1], interpolation=cv2.INTER_LINEAR)
