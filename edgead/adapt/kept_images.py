"""Kept images: good parts stored in a model; thresholds are made from them again when its memory bank changes.

Kept images come from the last calibration from images, or from training, and are lossless: at the size of the network's
input, or whole if the network sees tiles or more than 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import Kept, Manifest, Preprocessing
from edgead.artifact.preprocess import preprocess, read_frame
from edgead.calibration.conformal import images_needed
from edgead.dataset.folders import deal_groups
from edgead.detector import Detector, Measurement
from edgead.images.files import lossless_suffix, write_image

FOLDER = "calibration"
# An image of 320 x 320 pixels takes 0.1 to 0.2 MiB. Of learnt images, perhaps hundreds, this number is enough, if
# some lie above the threshold. If more than the maximum would be needed, none are kept.
ENOUGH, ABOVE, MAX_KEPT = 60, 3, 200
MAX_PIXELS = 200_000_000  # of images that are kept uncut


def kept_images(artifact: Artifact) -> list[Path]:
    """List the kept images in the order of their scores: lowest first."""
    return [artifact.path / one.image for one in artifact.manifest.kept]


def made_from_kept(manifest: Manifest, precision: str) -> bool:
    """Whether the thresholds of a graph come from the images that the model keeps now.

    The thresholds do not if a person set them, if another graph was calibrated later, or if the calibration had too
    many images to keep.
    """
    changes = manifest.threshold_changes
    replaced = next((change for change in reversed(changes) if change.kept), None)
    last = next((change for change in reversed(changes) if change.precision == precision), None)
    if last is None:
        return replaced is None
    limits = manifest.graphs[precision].calibration
    if limits is None or limits.values() != last.after.values():  # the graph was exported again since
        return False
    if last.verb == "teach" and last.images:
        return replaced is None or changes.index(last) > changes.index(replaced)
    return last.kept and replaced is not None and last.images_sha256 == replaced.images_sha256


def keep_images(
    draft: Path,
    manifest: Manifest,
    paths: Sequence[Path],
    scores: Sequence[float],
    *,
    false_reject_rate: float,
    groups: Sequence[int] = (),
    folds: Sequence[int] = (),
    prefix: str = "",
) -> list[Kept]:
    """Write the images that a model with a memory bank was calibrated on; return the manifest's entries.

    There are none if the images are too many. The `scores` are by the graph that was learnt; the kept images must
    support the `false_reject_rate` again. `groups` is empty if there are none, `folds` if no image was learnt.
    """
    group_of = list(groups) if len(groups) else list(range(len(paths)))
    picks = _enough(group_of, false_reject_rate) if len(folds) else list(range(len(paths)))
    spec = manifest.preprocessing
    if not can_keep(manifest, len(picks)):
        return []
    if kept_whole(spec) and len(picks) * math.prod(read_frame(paths[0], spec).shape[:2]) > MAX_PIXELS:
        return []
    kept = []
    for rank, pick in enumerate(sorted(picks, key=lambda pick: scores[pick])):
        image = as_kept(read_frame(paths[pick], spec), spec)
        name = f"{FOLDER}/{prefix}{rank:03d}{lossless_suffix(image)}"
        write_image(draft / name, image)
        fold = folds[pick] if len(folds) else None
        kept.append(Kept(image=name, group=group_of[pick], fold=fold, image_score=scores[pick]))
    return kept


def can_keep(manifest: Manifest, images: int) -> bool:
    """Whether the model can be taught, and is able to keep this number of images."""
    return manifest.head.grows and images <= MAX_KEPT


def others_kept(model: Path, named: Iterable[str]) -> list[str]:
    """List the files in a model's folder of kept images that are not in `named`."""
    names = (file.relative_to(model).as_posix() for file in (model / FOLDER).glob("*"))
    return sorted(set(names) - set(named))


def _enough(groups: Sequence[int], false_reject_rate: float) -> list[int]:
    """Choose groups at random, enough to support the rate, and return their images."""
    needed = ABOVE * images_needed(false_reject_rate)
    picks: list[int] = []
    for taken, members in enumerate(deal_groups(groups, [1] * len(set(groups)), seed=0)):
        if taken >= needed and len(picks) >= ENOUGH:
            break
        picks += members
    return picks


def as_kept(image: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """Return an image in the form that is kept: the network's input, uint8 BGR, or the whole image if `kept_whole`."""
    return image if kept_whole(spec) else preprocess(image, spec)[..., ::-1]


def kept_whole(spec: Preprocessing) -> bool:
    """Whether images are kept whole: if they are cut into tiles, or have more than 8 bits."""
    return spec.tiles is not None or spec.keeps_depth


def measure_kept(detector: Detector, one: Kept) -> Measurement:
    """Score a kept image as if it had not been learnt."""
    return detector.measure_left_out(detector.read_image(detector.artifact.path / one.image), one.fold)


def scored_again(kept: Sequence[Kept], scores: Sequence[float]) -> list[Kept]:
    """Return the kept images with new scores, lowest first."""
    again = [one.model_copy(update={"image_score": score}) for one, score in zip(kept, scores, strict=True)]
    return sorted(again, key=lambda one: one.image_score)
