"""Files of the demo line: a data set in the layout of MVTec AD, a conveyor video and its truth."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from edgead.dataset.folders import Progress
from edgead.files.atomic import new_folder
from edgead.images.files import write_image
from edgead.synthetic.demo_defects import DEFECTS
from edgead.synthetic.line import QUALITY, part_seed, render, schedule
from edgead.synthetic.part import SIZE

_STAMP = "edgead_demo.json"
_ALL_TYPES_FROM = 60  # frames from which a video shows every type of defect


@dataclass(frozen=True, slots=True)
class FrameTruth:
    """Ground truth of one frame of a demo video; `boxes` are (x, y, width, height) in pixels."""

    frame: int
    defect: str | None
    boxes: tuple[tuple[int, int, int, int], ...]


def write_dataset(
    folder: str | os.PathLike[str],
    *,
    train_good: int = 200,
    test_good: int = 40,
    per_defect: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Write a data set of the demo part: `train/good`, `test/good`, `test/<defect>`, `ground_truth/<defect>`.

    It is written beside the folder and renamed, so that a folder is complete or absent. A folder that
    this function wrote with the same parameters is not changed.

    Returns the folder.
    Raises FileExistsError if the folder holds anything else.
    Raises OSError if a file cannot be written.
    """
    counts = {"train_good": train_good, "test_good": test_good, "per_defect": per_defect}
    for name, value in counts.items():
        if value < 0:
            raise ValueError(f"{name} is a number of images, got {value}")
    folder = Path(folder)
    stamp = {**counts, "seed": seed, "render": _render_fingerprint()}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        _check_reusable(folder, stamp)
        return folder

    with new_folder(folder) as unfinished:
        jobs = list(_dataset_parts(train_good, test_good, per_defect))
        for index, (place, defect) in enumerate(jobs):
            image, mask = render(part_seed(seed, index), defect)
            _write_jpeg(unfinished / f"{place}.jpg", image)
            if defect is not None:
                mask_place = place.replace("test/", "ground_truth/", 1)
                write_image(unfinished / f"{mask_place}_mask.png", mask.astype(np.uint8) * 255)
            if progress is not None:
                progress(index + 1, len(jobs))
        (unfinished / _STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    return folder


def write_video(
    path: str | os.PathLike[str],
    *,
    count: int = 120,
    seed: int = 1,
    defect_rate: float = 0.1,
    fps: float = 10,
    progress: Progress | None = None,
) -> Path:
    """Write a video of the conveyor: one frame for each part, as Motion JPEG, which every OpenCV reads by itself.

    In 60 frames or more every type of defect occurs at least once, unless `defect_rate` is 0.

    Returns the truth beside the video, `<stem>.truth.jsonl`, for `load_truth`.
    Raises ValueError if the path does not end in .avi or there is nothing to film.
    Raises OSError if the video cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".avi":
        raise ValueError(f"the demo video is Motion JPEG in an AVI file: name it {path.stem}.avi, not {path.name}")
    if count < 1:
        raise ValueError(f"a video needs at least one frame, got count={count}")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.unfinished.avi")
    truth_path = path.with_suffix(".truth.jsonl")
    try:
        truths = _film(unfinished, _video_parts(seed, count, defect_rate), fps, progress)
        unfinished_truth = unfinished.with_suffix(".jsonl")
        lines = [json.dumps(asdict(truth)) + "\n" for truth in truths]
        unfinished_truth.write_text("".join(lines), encoding="utf-8")
        unfinished_truth.replace(truth_path)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
        unfinished.with_suffix(".jsonl").unlink(missing_ok=True)
    return truth_path


def load_truth(path: str | os.PathLike[str]) -> list[FrameTruth]:
    """Read the truth of a demo video.

    Raises ValueError if a line is not what `write_video` writes.
    """
    truths = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(line)
            boxes = tuple((int(x), int(y), int(width), int(height)) for x, y, width, height in entry["boxes"])
            truths.append(FrameTruth(int(entry["frame"]), entry["defect"], boxes))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number} is not the truth of a frame: {line[:80]!r}") from error
    return truths


def _dataset_parts(train_good: int, test_good: int, per_defect: int) -> Iterator[tuple[str, str | None]]:
    """Yield the path (without .jpg) and the defect of every image."""
    for kind, total in (("train/good", train_good), ("test/good", test_good)):
        for i in range(total):
            yield f"{kind}/{i:03d}", None
    for defect in DEFECTS:
        for i in range(per_defect):
            yield f"test/{defect}/{i:03d}", defect


def _video_parts(seed: int, count: int, defect_rate: float) -> list[tuple[int, str | None]]:
    parts = list(schedule(seed, count, defect_rate))
    missing = [name for name in DEFECTS if name not in {defect for _, defect in parts}]
    if count < _ALL_TYPES_FROM or defect_rate == 0:
        return parts
    good = [i for i, (_, defect) in enumerate(parts) if defect is None]
    for defect, i in zip(missing, np.random.default_rng([seed, 3]).permutation(good), strict=False):
        parts[i] = (parts[i][0], defect)
    return parts


def _film(path: Path, parts: list[tuple[int, str | None]], fps: float, progress: Progress | None) -> list[FrameTruth]:
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, codec, fps, SIZE[::-1])
    if not writer.isOpened():
        raise OSError(f"cannot write a video in {path.parent}: is the folder writable?")
    writer.set(cv2.VIDEOWRITER_PROP_QUALITY, QUALITY)
    truths = []
    try:
        for index, (number, defect) in enumerate(parts):
            image, mask = render(number, defect)
            writer.write(image)
            truths.append(FrameTruth(index, defect, _boxes(mask)))
            if progress is not None:
                progress(index + 1, len(parts))
    finally:
        writer.release()
    # OpenCV reports no error when the disk is full.
    reader = cv2.VideoCapture(str(path), cv2.CAP_OPENCV_MJPEG)
    written = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
    reader.release()
    if written != len(parts):
        raise OSError(f"only {written} of {len(parts)} frames reached the disk: is {path.parent} full?")
    return truths


def _boxes(mask: np.ndarray) -> tuple[tuple[int, int, int, int], ...]:
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return tuple((int(x), int(y), int(width), int(height)) for x, y, width, height, _ in stats[1:])


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not encoded:
        raise OSError(f"cannot encode {path.name}")
    path.write_bytes(data.tobytes())


def _render_fingerprint() -> str:
    """Hash the renderer's output, so that data of a changed renderer is not taken for the same."""
    return hashlib.sha256(render(0, "scratch")[0].tobytes()).hexdigest()


def _check_reusable(folder: Path, stamp: dict[str, object]) -> None:
    advice = "choose another folder or delete it"
    if not (folder / _STAMP).is_file():
        raise FileExistsError(f"{folder} is not empty and not a demo data set: {advice}")
    try:
        found = json.loads((folder / _STAMP).read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FileExistsError(f"{folder} holds a demo data set whose {_STAMP} cannot be read: {advice}")
    different = [
        f"{key} {found.get(key)} instead of {wanted}" for key, wanted in stamp.items() if found.get(key) != wanted
    ]
    if different:
        raise FileExistsError(f"{folder} holds a demo data set with {', '.join(different)}: {advice}")
    parts = _dataset_parts(*(int(str(stamp[key])) for key in ("train_good", "test_good", "per_defect")))
    missing = [place for place, _ in parts if not (folder / f"{place}.jpg").is_file()]
    if missing:
        raise FileExistsError(f"{folder} lacks {len(missing)} images, {missing[0]}.jpg first: {advice}")
