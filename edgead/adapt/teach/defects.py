"""Known defects, learnt from marked parts: their patches, and how their score joins the score of unknown defects.

The score of known defects lifts the image score, as steeply as possible: the limit must stay where the score of unknown
defects alone would put it for most of the false-reject rate. See `edgead.heads.known_defects`;
`benchmarks/known_defects.py` has the measurements behind the constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgead.adapt.patch_features import each_grid, each_outputs
from edgead.artifact.folder import Artifact
from edgead.artifact.kinds import LEAST_BAD
from edgead.artifact.manifest import Manifest
from edgead.artifact.training_hashes import content_sha256
from edgead.calibration.conformal import check_support, conformal_threshold
from edgead.calibration.group_conformal import have_several
from edgead.dataset.folders import Progress
from edgead.dataset.images import Images
from edgead.dataset.masks import find_mask
from edgead.heads.known_defects import DEFECT_KINDS, DEFECTS, MAX_DEFECTS, MAX_KINDS, NO_KIND, KnownDefects, KnownScorer
from edgead.heads.nearest import BANK, NearestScorer, in_metric, nearest_head, without_fold
from edgead.heads.patches import USUAL
from edgead.images.files import load_image

# Share of the false-reject rate that known defects may use. Of 0.1 to 0.4; this and the following values were chosen
# on tiles with cracks and unevenness and on boards.
SHARE = 0.2
# Start of the lift above the median, and its largest slope, in units of the distance from median to upper quartile. Not
# from the highest good parts: as these also make the limit, it would be too low.
START, STEEPEST = 3.0, 8.0
# If fewer good parts than this lie above the limit of unknown defects, it is too uncertain to choose by. Then all kinds
# share one start, and the unit is half of the interquartile range of each image's highest kind: with 20 images and five
# kinds, each with its own quartile and START, a limit for 10 % rejected 12 %.
_ABOVE, _START_OF_FEW, _STEEPEST_OF_FEW = 2, 6.0, 2.0
# Tried slopes, as shares of the steepest one; and the largest slope that a head may have.
_SLOPES, _TAKEN = np.geomspace(1, 1e-3, 100), 1e30
# Without a mask, so many patches with the highest scores count as the defect. Ours; no other number was tried.
PATCHES = 20
# Share of a patch that must be in the mask.
IN_MASK = 0.3
_AROUND = (3, 3)


@dataclass(frozen=True, slots=True)
class Defects:
    """Marked defects that a model knows: of each, the mean patch, float32 (n, d), the hash of the image, and the kind.

    `kinds` are the names of the folders of the images.
    """

    patches: np.ndarray
    sha256: tuple[str, ...]
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sha256)

    @property
    def are_enough(self) -> bool:
        return len(self) >= LEAST_BAD

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays for the head: kinds with fewer than `LEAST_BAD` defects are joined; if still fewer, without a kind."""
        names = [kind if self.kinds.count(kind) >= LEAST_BAD else "" for kind in self.kinds]
        named = sorted({name for name in names if names.count(name) >= LEAST_BAD or len(set(names)) == 1})[:MAX_KINDS]
        of_kind = np.array([named.index(name) if name in named else NO_KIND for name in names], np.float32)
        return {DEFECTS: self.patches, DEFECT_KINDS: of_kind[:, None]}

    def facts(self) -> list[dict[str, str]]:
        """Return the entries of the manifest: hash and kind of each defect."""
        return [{"sha256": one, "kind": kind} for one, kind in zip(self.sha256, self.kinds, strict=True)]


def known_defects(artifact: Artifact) -> Defects:
    """Return the defects that a model already knows."""
    facts: list[dict[str, Any]] = artifact.manifest.training.get(DEFECTS, [])
    if DEFECTS not in artifact.manifest.arrays:
        return Defects(np.zeros((0, artifact.array(BANK).shape[1]), np.float32), (), ())
    patches = np.array(artifact.array(DEFECTS))
    return Defects(patches, tuple(one["sha256"] for one in facts), tuple(one["kind"] for one in facts))


def learn_defects(artifact: Artifact, paths: Sequence[Path], progress: Progress | None = None) -> Defects:
    """Add marked defects to the defects that a model knows; if there are too many, the newest are kept.

    `paths`: images of defective parts, one folder for each kind. If there is a mask, in `ground_truth/KIND` as in a
        data set in MVTec layout, the patches inside it are learnt; otherwise the patches with the highest scores.
    """
    known = known_defects(artifact)
    digests = {path: content_sha256(path) for path in paths}
    once = {digest: path for path, digest in digests.items()}.values()
    new = [path for path in once if digests[path] not in known.sha256][-MAX_DEFECTS:]
    rows = [known.patches, *(row[None] for row in _mean_patches(artifact, new, progress))]
    together = Defects(
        np.concatenate(rows)[-MAX_DEFECTS:],
        (*known.sha256, *(digests[path] for path in new))[-MAX_DEFECTS:],
        (*known.kinds, *(path.absolute().parent.name for path in new))[-MAX_DEFECTS:],
    )
    return together


def _mean_patches(artifact: Artifact, paths: Sequence[Path], progress: Progress | None) -> list[np.ndarray]:
    """Return the mean patch of each image's defect, float32 (d,); for a frame in tiles, over all tiles together."""
    if not paths:
        return []
    images = Images(paths, artifact.manifest.preprocessing)
    head = nearest_head(artifact.manifest.head).model_copy(update={"known": None})
    scorer: NearestScorer | None = None
    patches: list[list[np.ndarray]] = [[] for _ in paths]
    weights: list[list[np.ndarray]] = [[] for _ in paths]
    masks = [_mask_of(path, artifact.manifest) for path in paths]
    for number, features in enumerate(each_grid(artifact, images, progress)):
        grid, origin = features.shape[:2], images.origins[number]
        mask = masks[origin]
        if mask is not None:
            drawn = np.where(load_image(mask) > 0, np.uint8(255), np.uint8(0))
            share = images.like(number, drawn)[..., 0].astype(np.float32) / 255
            weight = cv2.resize(share, grid[::-1], interpolation=cv2.INTER_AREA)
        else:
            if scorer is None:
                usual = {USUAL: artifact.array(USUAL)} if head.by_place else {}
                size = artifact.manifest.preprocessing.image_size
                scorer = NearestScorer(head, grid, size, artifact.array(BANK)).less(usual)
            scores = scorer.patch_scores({head.patches.name: features[None]})
            weight = np.full(grid, -np.inf, np.float32)
            inner = head.inner(grid)
            weight[inner] = cv2.blur(scores, _AROUND, borderType=cv2.BORDER_REPLICATE)[inner]
        enough = _of_defect(weight.reshape(-1), mask is not None)
        patches[origin].append(features.reshape(-1, features.shape[-1])[enough])
        weights[origin].append(weight.reshape(-1)[enough])
    means = []
    for origin, mask in enumerate(masks):
        weight = np.concatenate(weights[origin])
        means.append(np.concatenate(patches[origin])[_of_defect(weight, mask is not None)].mean(axis=0))
    return means


def _mask_of(path: Path, manifest: Manifest) -> Path | None:
    """Find the mask of an image; None if frames are aligned first, as masks belong to the frame before that."""
    folder = path.absolute().parent
    if manifest.preprocessing.alignment is not None or len(folder.parents) < 2:
        return None
    return find_mask(folder.parents[1] / "ground_truth" / folder.name, path)


def _of_defect(weights: np.ndarray, masked: bool) -> np.ndarray:
    """Return the indices of the defect's patches: in the mask, or without a mask with the highest scores."""
    if masked:
        return np.flatnonzero(weights >= min(IN_MASK, float(weights.max())))
    return np.argsort(weights, kind="stable")[-PATCHES:]


def join_with_unknown(
    artifact: Artifact,
    paths: Sequence[Path],
    unknown: Sequence[float],
    rate: float,
    *,
    groups: Sequence[int] = (),
    folds: Sequence[int] = (),
    progress: Progress | None = None,
) -> KnownDefects:
    """Find, on good images, how the score of known defects joins the score of unknown defects.

    `artifact`: artifact with the arrays of known defects, able to read these images.
    `unknown`: scores of the images by the head without known defects; learnt images are scored without their fold.
    `rate`: false-reject rate of the limit.
    `groups`, `folds`: see `edgead.adapt.teach.prepare.ThresholdImages`.
    """
    known = known_scores(artifact, paths, folds=folds, progress=progress)
    return fit_join(unknown, known, rate, groups)


def fit_join(unknown: Sequence[float], known: np.ndarray, rate: float, groups: Sequence[int] = ()) -> KnownDefects:
    """Find the steepest lift by known defects that leaves unknown defects their share of the false-reject rate.

    `unknown`: scores of good images, without their fold if they were learnt; for a frame in tiles the highest.
    `known` (ndarray of shape (n, kinds)): scores of the same images for each kind of known defects.
    `rate`: false-reject rate of the limit.
    `groups`: group of each image; empty if every image is a group of its own.
    Returns starts and slopes of the lift; all slopes are 0 if even the flattest lift would leave unknown defects too
        little.
    Raises CalibrationError: there are too few good images for the rate.
    """
    of_unknown = np.asarray(unknown, float)

    def limit(scores: np.ndarray, rate: float) -> float:
        return conformal_threshold(scores, rate, list(groups))

    def spread(scores: np.ndarray) -> np.ndarray:
        return np.quantile(scores, 0.75, axis=0) - np.median(scores, axis=0)

    check_support(len(of_unknown), rate, list(groups))
    left, count = (1 - SHARE) * rate, len(set(groups)) if have_several(groups) else len(of_unknown)
    few = left * (count + 1) < _ABOVE
    highest = np.inf if few else limit(of_unknown, left)
    # One more good part above it: otherwise the slope is chosen by the same parts that make the limit, and the steepest
    # slope whose limit is just low enough would give a limit too low for later parts.
    closer = max(rate - 1 / (count + 1), 1 / (count + 1))
    if few:
        known = np.repeat(known.max(axis=1, keepdims=True), known.shape[1], axis=1)
        wide = np.subtract(*np.quantile(known, (0.75, 0.25), axis=0)) / 2
    else:
        wide = spread(known)
    start = np.median(known, axis=0) + (_START_OF_FEW if few else START) * wide
    # A kind by which most good images have equal scores lifts nothing.
    unit = np.divide(spread(of_unknown), wide, out=np.zeros_like(wide), where=wide > 0)
    for steepness in ((_STEEPEST_OF_FEW if few else STEEPEST) * _SLOPES).tolist():
        slope = np.minimum(steepness * unit, _TAKEN)
        lifts = KnownDefects(start=tuple(start.tolist()), slope=tuple(slope.tolist()))
        if limit(of_unknown + lifts.lift(known.T), closer) <= highest:
            return lifts
    return lifts.model_copy(update={"slope": (0.0,) * len(start)})


def known_scores(
    artifact: Artifact, paths: Sequence[Path], *, folds: Sequence[int] = (), progress: Progress | None = None
) -> np.ndarray:
    """Score images for each kind of known defects, (images, kinds); learnt images are scored without their fold.

    For a frame in tiles the highest score counts.
    """
    images, head = Images(paths, artifact.manifest.preprocessing), nearest_head(artifact.manifest.head)
    arrays = {name: artifact.array(name) for name in {*head.arrays, DEFECTS, DEFECT_KINDS}}
    scorers: dict[int, tuple[KnownScorer, np.ndarray | None]] = {}
    scores: list[list[np.ndarray]] = [[] for _ in paths]
    for number, features in enumerate(each_grid(artifact, images, progress)):
        origin = images.origins[number]
        fold = folds[origin] if len(folds) else -1
        if fold not in scorers:
            bank, metric = (arrays[BANK], None) if fold < 0 else without_fold(arrays, fold)
            defects = in_metric(arrays[DEFECTS], metric)
            scorers[fold] = KnownScorer(head, features.shape[:2], bank, defects, arrays[DEFECT_KINDS]), metric
        scorer, metric = scorers[fold]
        patches = scorer.patch_scores(np.ascontiguousarray(in_metric(features, metric)))
        scores[origin].append(scorer.image_scores(patches))
    return np.array([np.max(of_tiles, axis=0) for of_tiles in scores])


def scores_by_others(
    artifact: Artifact, defects: Defects, paths: Sequence[Path], progress: Progress | None = None
) -> list[float]:
    """Score each marked part by the other marked defects only: an estimate for later parts with such defects.

    `artifact`: artifact that knows the defects.
    `paths`: images, each of one of the defects.
    """
    head, spec = nearest_head(artifact.manifest.head), artifact.manifest.preprocessing
    assert head.known is not None
    images = Images(paths, spec)
    bank, usual = artifact.array(BANK), {USUAL: artifact.array(USUAL)} if head.by_place else {}
    place = {digest: number for number, digest in enumerate(defects.sha256)}
    marked, kinds = defects.arrays[DEFECTS], defects.arrays[DEFECT_KINDS]
    unknown: NearestScorer | None = None
    scorers: list[KnownScorer | None] = []
    scores = np.full(len(paths), -np.inf)
    for number, outputs in enumerate(each_outputs(artifact, images, progress)):
        origin, features = images.origins[number], outputs[head.patches.name]
        grid = features.shape[1:3]
        if unknown is None:
            plain_head = head.model_copy(update={"known": None})
            unknown = NearestScorer(plain_head, grid, spec.image_size, bank).less(usual)
        if origin == len(scorers):
            own = place.get(content_sha256(paths[origin]), -1)  # -1: more were marked than are kept
            others = np.arange(len(defects)) != own
            enough = others.sum() >= LEAST_BAD
            scorers.append(KnownScorer(head, grid, bank, marked[others], kinds[others]) if enough else None)
        scored, known = unknown.score(outputs), scorers[origin]
        if known is not None:
            scored = known.join(head.known, features[0], scored)
        scores[origin] = max(scores[origin], scored.image_score)
    return scores.tolist()


def with_known(manifest: Manifest, defects: Defects, known: KnownDefects | None) -> Manifest:
    """Return the manifest with these defects and how their score is joined; with None the defects are not used."""
    arrays = {**manifest.arrays, **{name: f"{name}.npy" for name in defects.arrays}}
    head = manifest.head.model_copy(update={"known": known})
    training = {**manifest.training, DEFECTS: defects.facts()}
    return manifest.model_copy(update={"head": head, "arrays": arrays, "training": training})
