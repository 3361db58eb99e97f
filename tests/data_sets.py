"""Data sets of a few small parts of the built-in line, laid out as their authors and tools publish them."""

from __future__ import annotations

import base64
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


def real_iad(folder: Path, made: Sequence[Part]) -> Path:
    """Two views of a part; the image lists of the authors have a prefix, and null for no mask."""
    lists: dict[str, list[dict[str, str | None]]] = {"train": [], "test": []}
    for part in made:
        if part.split == "validation":
            continue
        good = part.kind == "good"
        where = "OK" if good else f"NG/{part.kind}"
        stem = f"{where}/S{part.number // 2:04d}/{part.name}_C{part.number % 2 + 1}"
        write(folder / "realiad_1024/audiojack" / f"{stem}.jpg", part.image)
        if not good:
            write(folder / "realiad_1024/audiojack" / f"{stem}_mask.png", part.mask)
        lists[part.split].append(
            {
                "category": "audiojack",
                "anomaly_class": "OK" if good else part.kind,
                "image_path": f"{stem}.jpg",
                "mask_path": None if good else f"{stem}_mask.png",
            }
        )
    content = {"meta": {"prefix": "audiojack/", "normal_class": "OK"}, **lists}
    write_json(folder / "realiad_jsons" / "audiojack.json", content)
    return folder / "realiad_1024" / "audiojack"


def manifest_line(part: Part) -> dict[str, object]:
    """The line of an image in the bucket's folder gt-job, with a mask where it is defective."""
    good = part.kind == "good"
    classed = {"class-name": "normal" if good else "anomaly", "type": "groundtruth/image-classification"}
    line: dict[str, object] = {
        "source-ref": f"s3://bucket/gt-job/{part.name}.png",
        "anomaly-label": int(good),
        "anomaly-label-metadata": {**classed, "human-annotated": "yes", "confidence": 1},
    }
    if not good:
        colours = {
            "0": {"class-name": "BACKGROUND", "hex-color": "#ffffff", "confidence": 0.0},
            "1": {"class-name": part.kind, "hex-color": "#2ca02c", "confidence": 0.0},
        }
        line["anomaly-mask-ref"] = f"s3://bucket/gt-job/masks/{part.name}.png"
        line["anomaly-mask-ref-metadata"] = {
            "internal-color-map": colours,
            "type": "groundtruth/semantic-segmentation",
            "human-annotated": "yes",
        }
    return line


def lookout(folder: Path, made: Sequence[Part], split: str = "test") -> Path:
    """The manifest of one split, as Lookout has them; masks are green on white."""
    lines = []
    for part in made:
        if part.split == split:
            write(folder / f"{part.name}.png", part.image)
            coloured = np.full((SIDE, SIDE, 3), 255, np.uint8)
            coloured[part.mask] = (0x2C, 0xA0, 0x2C)
            write(folder / "masks" / f"{part.name}.png", coloured)
            lines.append(json.dumps(manifest_line(part)))
    file = folder / f"{split}.manifest"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def runs_of(flat: np.ndarray) -> list[int]:
    """Lengths of runs of a flat mask in turns, the first unmarked."""
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *ends, flat.size]).tolist()
    return [0, *lengths] if flat[0] else lengths


def compressed(counts: Sequence[int]) -> str:
    """COCO's string of runs, as `rleToString` of cocoapi's maskApi.c makes it."""
    text = ""
    for at, count in enumerate(counts):
        rest, more = count - (counts[at - 2] if at > 2 else 0), True
        while more:
            bits, rest = rest & 31, rest >> 5
            more = rest != -1 if bits & 16 else rest != 0
            text += chr(48 + bits + 32 * more)
    return text


def boxes_of(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Rectangles x, y, width, height that together are the mask: one for each run of a row."""
    found = []
    for y, row in enumerate(mask):
        starts = np.cumsum(counts := runs_of(row))[:-1:2]
        found += [(int(x), y, width, 1) for x, width in zip(starts, counts[1::2], strict=False)]
    return found


def corners_of(box: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    x, y, width, height = box
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def subset_of(part: Part) -> str:
    return "val" if part.split == "validation" else part.split


def coco(folder: Path, made: Sequence[Part]) -> Path:
    """Polygons, runs of pixels, plain and compressed; a file for each split, as CVAT and COCO name them."""
    for subset in ("train", "val", "test"):
        images, annotations = [], []
        for part in made:
            if subset_of(part) != subset:
                continue
            write(folder / "images" / subset / f"{part.name}.png", part.image)
            images.append({"id": part.number, "file_name": f"{part.name}.png", "height": SIDE, "width": SIDE})
            if part.kind != "good":
                counts = runs_of(part.mask.T.ravel())
                segmentation = [
                    {"counts": counts, "size": [SIDE, SIDE]},
                    {"counts": compressed(counts), "size": [SIDE, SIDE]},
                    [np.ravel(corners_of(box)).tolist() for box in boxes_of(part.mask)],
                ][part.number % 3]
                of_image = {"id": part.number, "image_id": part.number, "category_id": 1 + (part.kind == "dent")}
                annotations.append({**of_image, "segmentation": segmentation, "bbox": [0, 0, 1, 1], "iscrowd": 0})
        categories = [{"id": 1, "name": "stain"}, {"id": 2, "name": "dent"}]
        content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
        write_json(folder / "annotations" / f"instances_{subset}.json", content)
    return folder


def roboflow(folder: Path, made: Sequence[Part]) -> Path:
    """A folder for each split, with its annotations."""
    coco(folder, made)
    for subset, called in (("train", "train"), ("val", "valid"), ("test", "test")):
        (folder / "images" / subset).rename(folder / called)
        (folder / f"annotations/instances_{subset}.json").rename(folder / called / "_annotations.coco.json")
    return folder


def yolo(folder: Path, made: Sequence[Part]) -> Path:
    """Boxes and polygons as shares of the image; the files of good images are empty or missing."""
    for part in made:
        where = f"{subset_of(part)}/{part.name}"
        write(folder / "images" / f"{where}.png", part.image)
        lines = []
        for number, box in enumerate(boxes_of(part.mask) if part.kind != "good" else []):
            x, y, width, height = (side / SIDE for side in box)
            corners = [side / SIDE for corner in corners_of(box) for side in corner]
            shares = corners if number % 2 else (x + width / 2, y + height / 2, width, height)
            lines.append(" ".join(map(str, (int(part.kind == "dent"), *shares))))
        if lines or part.number % 2:
            (folder / "labels" / where).parent.mkdir(parents=True, exist_ok=True)
            (folder / "labels" / f"{where}.txt").write_text("\n".join(lines), encoding="utf-8")
    listed = "".join(f"./images/train/{part.name}.png\n" for part in made if part.split == "train")
    (folder / "train.txt").write_text(listed, encoding="utf-8")
    (folder / "data.yaml").write_text(YOLO_DATA, encoding="utf-8")
    return folder


YOLO_DATA = """path: /content/parts
train: train.txt
val: images/val
test: ../images/test
nc: 2
names:
  0: stain
  1: dent
"""


def good_and_bad(folder: Path, made: Sequence[Part]) -> Path:
    """Folders of anomalib's Folder with masks, in the splits of a bucket of Lookout."""
    for part in made:
        kind = "normal" if part.kind == "good" else "anomaly"
        if part.split != "validation":
            write(folder / part.split / kind / f"{part.name}.png", part.image)
        if kind == "anomaly":
            write(folder / "ground_truth" / kind / f"{part.name}.png", part.mask)
    return folder


def anomalib_table(folder: Path, made: Sequence[Part]) -> Path:
    """A table as pandas writes the samples of anomalib's Tabular."""
    rows = [
        [number, image, "normal" if kind == "good" else kind, int(kind != "good"), mask, split.replace("idation", "")]
        for number, (image, kind, mask, _, split) in enumerate(table_rows(folder, made))
    ]
    head = ["", "image_path", "label", "label_index", "mask_path", "split"]
    return write_csv(folder / "samples.csv", [head, *rows])


def datumaro(folder: Path, made: Sequence[Part]) -> Path:
    labels = [{"name": name, "parent": "", "attributes": []} for name in ("normal", "stain", "dent")]
    for subset in ("train", "val", "test"):
        items = []
        for part in made:
            if subset_of(part) != subset:
                continue
            write(folder / "images" / subset / f"{part.name}.png", part.image)
            common = {"id": 0, "attributes": {}, "group": 0, "z_order": 0}
            if part.kind == "good":
                marks = [{**common, "type": "label", "label_id": 0}]
            elif part.kind == "stain":
                counts = compressed(runs_of(part.mask.T.ravel()))
                marks = [{**common, "type": "mask", "label_id": 1, "rle": {"counts": counts, "size": [SIDE, SIDE]}}]
            elif part.number % 2:
                marks = [{**common, "type": "bbox", "label_id": 2, "bbox": box} for box in boxes_of(part.mask)]
            else:
                corners = [np.ravel(corners_of(box)).tolist() for box in boxes_of(part.mask)]
                marks = [{**common, "type": "polygon", "label_id": 2, "points": points} for points in corners]
            image = {"path": f"{part.name}.png", "size": [SIDE, SIDE]}
            items.append({"id": part.name, "annotations": marks, "image": image})
        content = {"info": {}, "categories": {"label": {"labels": labels, "attributes": []}}, "items": items}
        write_json(folder / "annotations" / f"{subset}.json", content)
    return folder


def labelme(folder: Path, made: Sequence[Part]) -> Path:
    """Rectangles, a mask in its box, and polygons."""
    for part in made:
        if part.split == "validation":
            continue
        write(folder / part.split / f"{part.name}.png", part.image)
        shapes: list[dict[str, object]] = []
        if part.kind == "stain":
            ys, xs = np.nonzero(part.mask)
            box = part.mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].astype(np.uint8)
            encoded = base64.b64encode(cv2.imencode(".png", box)[1].tobytes()).decode()
            points = [[int(xs.min()), int(ys.min())], [int(xs.max()), int(ys.max())]]
            shapes = [{"label": part.kind, "points": points, "shape_type": "mask", "mask": encoded}]
        elif part.kind == "dent":
            for box in boxes_of(part.mask):
                corners = corners_of(box)
                if part.number % 2:
                    shapes.append({"label": "dent", "points": corners[::2], "shape_type": "rectangle"})
                else:
                    shapes.append({"label": "dent", "points": corners, "shape_type": "polygon", "flags": {}})
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{part.name}.png"}
        content |= {"imageData": None, "imageHeight": SIDE, "imageWidth": SIDE}
        write_json(folder / part.split / f"{part.name}.json", content)
    return folder


def packed(mask: np.ndarray) -> list[int]:
    """What Label Studio's brush writes: runs of RGBA values, as `encode_rle` of its SDK, the first value by itself."""
    values = np.repeat(mask.ravel().astype(np.uint8) * 255, 4)
    bits = f"{values.size:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}" + f"000000{values[0]:08b}"
    at = 1
    for count, value in zip(
        np.diff([0, *np.flatnonzero(np.diff(values)) + 1, values.size]), _firsts(values), strict=True
    ):
        count = int(count) - (at == 1)
        at += count
        if count:
            bits += f"111{count - 1:016b}{value:08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


def _firsts(values: np.ndarray) -> list[int]:
    return values[[0, *np.flatnonzero(np.diff(values)) + 1]].tolist()


def label_studio(folder: Path, made: Sequence[Part]) -> Path:
    """Brush, rectangles and polygons in percent; the test set alone, for there are no splits, and a task undone."""
    tasks: list[dict[str, object]] = []
    for part in made:
        if part.split == "train":
            continue
        write(folder / "images" / f"{part.name}.png", part.image)
        results = []
        common = {
            "original_width": SIDE,
            "original_height": SIDE,
            "image_rotation": 0,
            "from_name": "a",
            "to_name": "b",
        }
        if part.kind == "stain":
            value: dict[str, object] = {"format": "rle", "rle": packed(part.mask), "brushlabels": ["stain"]}
            results = [{**common, "type": "brushlabels", "value": value}]
        for box in boxes_of(part.mask) if part.kind == "dent" else ():
            if part.number % 2:
                sides = dict(zip(("x", "y", "width", "height"), np.multiply(box, 100 / SIDE).tolist(), strict=True))
                value = {**sides, "rotation": 0, "rectanglelabels": ["dent"]}
                results.append({**common, "type": "rectanglelabels", "value": value})
            else:
                points = np.multiply(corners_of(box), 100 / SIDE).tolist()
                results.append(
                    {**common, "type": "polygonlabels", "value": {"points": points, "polygonlabels": ["dent"]}}
                )
        done = [{"id": 1, "was_cancelled": False, "result": results}] if part.split == "test" else []
        uploaded = f"/data/upload/1/0f1e2d3c-{part.name}.png"
        tasks.append({"id": part.number, "data": {"image": uploaded}, "annotations": done, "predictions": []})
    return write_json(folder / "export.json", tasks)


def two_products(folder: Path) -> Path:
    """Twenty parts of the built-in line, and eight weaves of the same size; returns the folder."""
    folder.mkdir(parents=True)
    for number in range(20):
        cv2.imwrite(str(folder / f"line{number:02d}.png"), render(part_seed(0, number))[0])
    rng = np.random.default_rng(0)
    side = render(part_seed(0, 0))[0].shape[0]
    for number in range(8):
        across, down = (np.sin(np.arange(side) / rng.uniform(2, 5) + rng.uniform(0, 6)) for _ in range(2))
        weave = np.add.outer(across, down)
        image = np.clip(128 + 40 * weave[..., None] + rng.normal(0, 5, (side, side, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"weave{number}.png"), image)
    return folder
