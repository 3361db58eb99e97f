"""The sets whose kinds of defects are known, laid out under names that say nothing."""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass
from pathlib import Path

from edgead.dataset.groups import group_images
from edgead.images.files import list_images, load_image, write_image

GOOD_FOLDER = "learn"
_CROP_PX = 96
_GOOD_CROPS = 2
_BOARD_KINDS = ("open", "short", "mousebite", "spur", "copper", "pin-hole")


@dataclass(frozen=True, slots=True)
class KindImage:
    """A test image, its true kind, and the number of the part that it shows."""

    path: Path
    kind: str
    part: int


@dataclass(frozen=True, slots=True)
class KindSet:
    """A folder with good images in `good`, whose groups are in the file `groups`, and test images."""

    folder: Path
    good: str
    groups: Path
    test: list[KindImage]


def tiles_by_tile(tiles: Path, folder: Path, split: int) -> KindSet:
    """The magnetic tiles: a fifth of the captures without a defect is tested, drawn by the number of the split."""
    with (tiles / "groups.csv").open(newline="") as lines:
        rows = [(tiles / row["path"], Path(row["path"]).parts[1], int(row["group"])) for row in csv.DictReader(lines)]
    defective = {group for _, kind, group in rows if kind != "good"}
    rest = sorted({group for _, _, group in rows} - defective)
    random.Random(split).shuffle(rest)
    tested = defective | set(rest[: len(rest) // 5])
    learn = [(path, group) for path, _, group in rows if group not in tested]
    return _lay_out(folder, learn, [row for row in rows if row[2] in tested], seed=split)


def mvtec_kinds(data: Path, folder: Path) -> KindSet:
    """A set in MVTec layout without its good test images; parts are distinguished by their images."""
    good = list_images(data / "train" / "good")
    kinds = sorted(path for path in (data / "test").iterdir() if path.is_dir() and path.name != "good")
    tests = [(path, kind.name) for kind in kinds for path in list_images(kind)]
    parts = group_images([path for path, _ in tests], "auto").numbers
    found = [(path, kind, parts[path]) for path, kind in tests]
    return _lay_out(folder, [(path, number) for number, path in enumerate(good)], found, seed=0)


def board_crops(boards: Path, boxes: Path, folder: Path) -> KindSet:
    """DeepPCB: crops of 96 px around the boxes, whose types are known, and as large ones of good boards anywhere."""
    crops = folder / "crops"
    rng = random.Random(0)
    learn, tests = [], []
    for number, path in enumerate(list_images(boards / "train" / "good")):
        image = load_image(path)
        for turn in range(_GOOD_CROPS):
            x, y = (rng.randrange(side - _CROP_PX) for side in (image.shape[1], image.shape[0]))
            learn.append((_write_crop(crops / f"{path.stem}-{turn}.png", image, x, y), number))
    for number, path in enumerate(list_images(boards / "test" / "defective")):
        image = load_image(path)
        for turn, line in enumerate((boxes / f"{path.stem.removesuffix('_test')}.txt").read_text().splitlines()):
            left, top, right, bottom, kind = map(int, line.replace(",", " ").split())
            x = min(max((left + right - _CROP_PX) // 2, 0), image.shape[1] - _CROP_PX)
            y = min(max((top + bottom - _CROP_PX) // 2, 0), image.shape[0] - _CROP_PX)
            file = _write_crop(crops / f"{path.stem}-{turn}.png", image, x, y)
            tests.append((file, _BOARD_KINDS[kind - 1], number))
    return _lay_out(folder, learn, tests, seed=0)


def _write_crop(file: Path, image, x: int, y: int) -> Path:
    if not file.exists():
        write_image(file, image[y : y + _CROP_PX, x : x + _CROP_PX])
    return file


def _lay_out(folder: Path, learn: list[tuple[Path, int]], tests: list[tuple[Path, str, int]], *, seed: int) -> KindSet:
    """Link the images under numbers in random order; the groups of the good ones go into a file."""
    rng = random.Random(seed)
    groups = folder / "groups.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with groups.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("path", "group"))
        for number, (path, group) in enumerate(rng.sample(learn, len(learn))):
            link = _link(folder / GOOD_FOLDER / f"{number:05d}{path.suffix}", path)
            table.writerow((link.relative_to(folder).as_posix(), group))
    test = [
        KindImage(_link(folder / "test" / f"{number:05d}{path.suffix}", path), kind, part)
        for number, (path, kind, part) in enumerate(rng.sample(tests, len(tests)))
    ]
    return KindSet(folder, GOOD_FOLDER, groups, test)


def _link(link: Path, target: Path) -> Path:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(target.resolve())
    return link
