"""Result of a sorting for people: a folder for each kind, a contact sheet and tables."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.files.atomic import new_folder
from edgead.files.disk import writing
from edgead.files.table import write_csv
from edgead.images.files import load_image, lossless_suffix, write_image
from edgead.images.overlay import draw_heat
from edgead.images.sheet import Band, band_sheet
from edgead.images.volumes import volume_of
from edgead.unlabelled.sorting.describe import ScoredImage
from edgead.unlabelled.sorting.sort import Sorted, default_name, folder_name

SHEET, TABLE, PARETO = "sheet.jpg", "kinds.csv", "pareto.csv"
_SHOWN = 8
_TILE_PX = 220
_COLUMNS = ("image", "kind", "decision", "image_score", "part", "file")
_LEGEND = "the most typical images of each kind first; red boxes, or a dashed ring, where the model saw something"


def check_folder(folder: Path) -> None:
    """Raise SettingsError unless the folder is empty or absent; call it before the images are judged."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder} exists and is not empty: name another folder, or remove it")


def write_sorted(detector: Detector, found: Sorted, folder: Path, *, link: bool = False) -> None:
    """Write a folder for each kind, a sheet of all kinds and two tables; the result is complete or absent.

    `detector`: detector whose heat maps are drawn in the sheet.
    `folder`: empty or absent folder.
    `link`: write links to the images instead of copies.
    """
    check_folder(folder)
    with writing(folder), new_folder(folder) as draft:
        files = _place(found, draft, link)
        write_image(draft / SHEET, _sheet(detector, found, files))
        write_csv(draft / TABLE, _COLUMNS, _rows(found, files))
        pareto = found.pareto()
        write_csv(draft / PARETO, list(pareto[0]), pareto)


def _place(found: Sorted, draft: Path, link: bool) -> list[str]:
    """Copy or link the images; return each one's path in the folder."""
    names = _file_names([one.path for one in found.images])
    files = []
    for one, label, name in zip(found.images, found.clusters.labels, names, strict=True):
        place = draft / folder_name(int(label)) / name
        place.parent.mkdir(exist_ok=True)
        if volume_of(one.path) is not None:  # a slice is no file of its own
            values = load_image(one.path, keep_depth=True)
            place = place.with_name(place.name + lossless_suffix(values))
            write_image(place, values)
        elif link:
            place.symlink_to(os.path.abspath(one.path))
        else:
            shutil.copyfile(one.path, place)
        files.append(place.relative_to(draft).as_posix())
    return files


def _file_names(paths: Sequence[Path]) -> list[str]:
    """Make unique file names: equal names, as in an evidence store, get their folder in front."""
    for parts in (1, 2):
        names = ["_".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    width = len(str(len(paths)))
    return [f"{number:0{width}d}_{path.name}" for number, path in enumerate(paths)]


def _sheet(detector: Detector, found: Sorted, files: Sequence[str]) -> Any:
    names = {one.path: PurePosixPath(file).name for one, file in zip(found.images, files, strict=True)}
    bands: list[Band] = []
    for number, row in enumerate(found.pareto()):
        heading = f"{default_name(number)}: {row['images']} images of {row['parts']} parts, {100 * row['share']:.0f} %"
        if row["stability"] is not None:
            heading += f", stability {row['stability']:.2f}"
        shown = found.of_kind(number)[:_SHOWN]
        bands.append((heading, [(_drawn(detector, one), names[one.path]) for one in shown]))
    count = found.clusters.count
    title = f"{len(found.images)} images in {count} kind{'' if count == 1 else 's'}"
    return band_sheet((title, _LEGEND), bands, columns=_SHOWN, tile_px=_TILE_PX)


def _drawn(detector: Detector, one: ScoredImage) -> Any:
    image = detector.read_image(one.path)
    return draw_heat(detector.visible(image), detector.predict(image))


def _rows(found: Sorted, files: Sequence[str]) -> Iterable[dict[str, Any]]:
    for index, (one, file) in enumerate(zip(found.images, files, strict=True)):
        kind = default_name(int(found.clusters.labels[index]))
        yield {**_facts(one), "kind": kind, "part": found.parts[index], "file": file}
    yield from map(_facts, found.ok)


def _facts(one: ScoredImage) -> dict[str, Any]:
    return {"image": str(one.path), "decision": one.decision, "image_score": one.image_score}
