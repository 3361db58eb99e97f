"""Data sets of a few small parts of the built-in line, laid out as their authors and tools publish them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgead.synthetic.line import part_seed, render

SIDE = 64


@dataclass(frozen=True, slots=True)
class Part:
    """An image, uint8 BGR (64, 64, 3), its defect, bool (64, 64), and what both are for."""

    split: str
    kind: str
    number: int
    image: np.ndarray
    mask: np.ndarray

    @property
    def name(self) -> str:
        return f"{self.number:03d}"


def parts() -> list[Part]:
    """Six parts to learn, one to validate, two good ones and three defects to test."""
    wanted = [("train", None)] * 6 + [("validation", None)] + [("test", None)] * 2
    wanted += [("test", kind) for kind in ("stain", "dent", "dent")]
    made = []
    for number, (split, kind) in enumerate(wanted):
        image, mask = render(part_seed(11, number), kind)
        small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        marked = cv2.resize(mask.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA) > 0.3
        made.append(Part(split, kind or "good", number, small, marked))
    return made


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image.astype(np.uint8) * 255 if image.dtype == bool else image)
    return path


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def mvtec_ad(folder: Path, made: Sequence[Part]) -> Path:
    for part in made:
        if part.split != "validation":
            write(folder / part.split / part.kind / f"{part.name}.png", part.image)
        if part.kind != "good":
            write(folder / "ground_truth" / part.kind / f"{part.name}_mask.png", part.mask)
    return folder


def mvtec_ad_2(folder: Path, made: Sequence[Part]) -> Path:
    for part in made:
        split = "test_public" if part.split == "test" else part.split
        kind = "good" if part.kind == "good" else "bad"
        write(folder / split / kind / f"{part.name}_regular.png", part.image)
        if kind == "bad":
            write(folder / "test_public/ground_truth/bad" / f"{part.name}_regular_mask.png", part.mask)
    write(folder / "test_private" / "000_regular.png", made[0].image)
    return folder


def mvtec_loco(folder: Path, made: Sequence[Part]) -> Path:
    """Each mask is split in two files: a defect each."""
    for part in made:
        kind = {"good": "good", "stain": "logical_anomalies"}.get(part.kind, "structural_anomalies")
        write(folder / part.split / kind / f"{part.name}.png", part.image)
        if kind != "good":
            halves = np.array_split(part.mask, 2)
            for number, half in enumerate(halves):
                one = np.zeros_like(part.mask)
                one[32 * number : 32 * number + 32] = half
                write(folder / "ground_truth" / kind / part.name / f"{number:03d}.png", one)
    return folder


def btad(folder: Path, made: Sequence[Part]) -> Path:
    for part in made:
        kind = "ok" if part.kind == "good" else "ko"
        if part.split != "validation":
            write(folder / part.split / kind / f"{part.name}.bmp", part.image)
        if kind == "ko":
            write(folder / "ground_truth" / kind / f"{part.name}.png", part.mask)
    return folder


def visa(folder: Path, made: Sequence[Part]) -> Path:
    """Masks are of small numbers, one for each kind of defect."""
    rows = [["object", "split", "label", "image", "mask"], ["candle", "train", "normal", "candle/0.JPG", ""]]
    for part in made:
        if part.split == "validation":
            continue
        good = part.kind == "good"
        image = f"pcb1/Data/Images/{'Normal' if good else 'Anomaly'}/{part.name}.JPG"
        write(folder / image, part.image)
        mask = "" if good else f"pcb1/Data/Masks/Anomaly/{part.name}.png"
        if mask:
            write(folder / mask, part.mask.astype(np.uint8) * 2)
        rows.append(["pcb1", part.split, "normal" if good else "anomaly", image, mask])
    write_csv(folder / "split_csv" / "1cls.csv", rows)
    return folder / "pcb1"


def visa_one_class(folder: Path, made: Sequence[Part]) -> Path:
    """What VisA's own prepare_data.py writes for its one-class split."""
    for part in made:
        kind = "good" if part.kind == "good" else "bad"
        if part.split != "validation":
            write(folder / part.split / kind / f"{part.name}.JPG", part.image)
        if kind == "bad":
            write(folder / "ground_truth" / kind / f"{part.name}.png", part.mask)
    return folder


def table_rows(folder: Path, made: Sequence[Part]) -> list[list[str]]:
    """Images and masks in two folders, and the rows of a table of them; two images of a group each."""
    rows = []
    for part in made:
        write(folder / "images" / f"{part.name}.png", part.image)
        mask = "" if part.kind == "good" else f"masks/{part.name}.png"
        if mask:
            write(folder / mask, part.mask)
        rows.append([f"images/{part.name}.png", part.kind, mask, f"part {part.number // 2}", part.split])
    return rows


COLUMNS = ["path", "label", "mask", "group", "split"]


def table(folder: Path, made: Sequence[Part]) -> Path:
    return write_csv(folder / "parts.csv", [COLUMNS, *table_rows(folder, made)])


def parquet_table(folder: Path, made: Sequence[Part]) -> Path:
    import pyarrow
    import pyarrow.parquet

    rows = [[cell or None for cell in row] for row in table_rows(folder, made)]
    columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
    pyarrow.parquet.write_table(
        pyarrow.table({name: list(cells) for name, cells in columns.items()}), folder / "p.parquet"
    )
    return folder / "p.parquet"
