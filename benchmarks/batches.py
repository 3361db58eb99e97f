"""The built-in line in batches: a data set whose test parts are of other batches, and scores of many unseen batches.

    python -m benchmarks batches OUT --batches 40 --parts 10

writes OUT in MVTec layout. Images are called batchNN_MMM.png, so that `(batch\\d+)_` groups them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgead.dataset.folders import GOOD
from edgead.detector import Detector
from edgead.images.files import write_image
from edgead.synthetic.demo_defects import DEFECTS
from edgead.synthetic.line import part_seed, render

# Seeds of the conveyor, so that no part and no batch of the scores is in a data set.
SCORED_SEED = 79
PER_DEFECT = 8


def batch_scores(
    model: Path, batches: int, parts: int, *, cache: Path | None = None, seed: int = SCORED_SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Score good parts of many batches that are in no data set, with the shipped detector.

    Parameters
    ----------
    model : Path
        An artifact.
    batches, parts : int
        Number of batches, and of parts in each.
    cache : Path, optional
        A file in the .npz format: read if it is there, else written.
    seed : int
        Another seed gives other batches.

    Returns
    -------
    scores : ndarray of shape (batches * parts,), float64
    groups : ndarray of shape (batches * parts,), int64
        The batch of each score, from 0.
    """
    if batches < 1 or parts < 1:
        raise SystemExit(f"scores need at least one batch and one part in it, found {batches} and {parts}")
    with Detector.load(model) as detector:
        stamp = np.array([str(detector.manifest.manifest_sha256), str(batches), str(parts), str(seed)])
        if cache is not None and cache.exists():
            return _cached(cache, stamp)
        images = (
            render(
                part_seed(seed, batch * parts + part, on_conveyor=True), batch=part_seed(seed, batch, on_conveyor=True)
            )[0]
            for batch in range(batches)
            for part in range(parts)
        )
        scores = np.array([detector.measure(image).image_score for image in images])
    groups = np.repeat(np.arange(batches), parts)
    if cache is not None:
        with cache.open("wb") as file:  # savez would add .npz to a name without it
            np.savez(file, scores=scores, groups=groups, stamp=stamp)
    return scores, groups


def write_batches(
    folder: Path, *, batches: int, parts: int, test_batches: int, per_defect: int = PER_DEFECT, seed: int = 0
) -> Path:
    """Write a data set of the line in batches; the folder is complete or absent.

    Parameters
    ----------
    folder : Path
        Must not exist, or be empty.
    batches, parts : int
        Batches to learn from, and good parts in each.
    test_batches : int
        Batches to test, all of them others, with as many good parts each. The defective parts of every type,
        `per_defect` of it, are of these batches in turn.
    """
    if min(batches, parts, test_batches) < 1 or per_defect < 0:
        raise SystemExit(
            f"a data set needs at least one batch, one part in it and one other batch to test, found {batches}, "
            f"{parts} and {test_batches}, with {per_defect} parts of each defect"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SystemExit(f"{folder} exists and is not an empty folder: name another")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".batches-", dir=folder.parent) as draft:
        unfinished = Path(draft) / folder.name
        places = _places(batches, parts, test_batches, per_defect)
        for index, (kind, batch, number, defect) in enumerate(places):
            image, mask = render(part_seed(seed, index), defect, part_seed(seed, batch))
            name = f"batch{batch:02d}_{number:03d}"
            write_image(unfinished / kind / (defect or GOOD) / f"{name}.png", image)
            if defect:
                write_image(unfinished / "ground_truth" / defect / f"{name}_mask.png", mask.astype(np.uint8) * 255)
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    return folder


def main(arguments: list[str]) -> None:
    """Write a data set."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks batches", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="folder of the data set")
    parser.add_argument("--batches", type=int, default=40, help="to learn from")
    parser.add_argument("--parts", type=int, default=10, help="good parts of each batch")
    parser.add_argument("--test-batches", type=int, default=20, help="other batches, to test")
    parser.add_argument("--per-defect", type=int, default=PER_DEFECT, help="defective parts of each type")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    sizes = {name: getattr(options, name) for name in ("batches", "parts", "test_batches", "per_defect", "seed")}
    folder = write_batches(options.output, **sizes)
    print(
        f"{folder}: {options.batches} batches of {options.parts} good parts to learn from, {options.test_batches} "
        f"others to test, with {options.per_defect} defective parts of each type among them"
    )


def _places(batches: int, parts: int, test_batches: int, per_defect: int) -> Iterator[tuple[str, int, int, str | None]]:
    """Yield train or test, the batch, the number within it and the defect of every image."""
    for batch in range(batches + test_batches):
        for number in range(parts):
            yield ("train" if batch < batches else "test"), batch, number, None
    following = [parts] * test_batches
    for place in range(len(DEFECTS) * per_defect):
        batch = place % test_batches
        yield "test", batches + batch, following[batch], DEFECTS[place // per_defect]
        following[batch] += 1


def _cached(cache: Path, stamp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.load(cache, allow_pickle=False) as found:
        if "stamp" not in found or not np.array_equal(found["stamp"], stamp):
            raise SystemExit(f"{cache} holds scores of another model or of other batches: name another file")
        return found["scores"], found["groups"]
