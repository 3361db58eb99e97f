"""Preparation of a lesson, before anything is written: images, their patches, and the merged memory bank.

Thresholds come from the good images that the model keeps, or from images that the caller names.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from edgead import kernels
from edgead.adapt.finalize import GoodScores, measure_good
from edgead.adapt.kept_images import FOLDER, as_kept, keep_images, kept_images, kept_whole, measure_kept, scored_again
from edgead.adapt.memory_bank.coreset import Merged, merge, spacing
from edgead.adapt.patch_features import each_features
from edgead.adapt.recalibrate import without_copies
from edgead.adapt.teach.defects import Defects, known_defects, learn_defects
from edgead.adapt.teach.guard import Offered, examine, refuse_doubtful, warn_of_like_good, write_sheet
from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.kinds import LEAST_BAD
from edgead.artifact.manifest import FROM_GOOD, Kept, Manifest, Preprocessing
from edgead.artifact.preprocess import as_frame, read_frame
from edgead.artifact.training_hashes import content_sha256, refuse_learnt
from edgead.calibration.conformal import check_support
from edgead.calibration.group_conformal import have_several
from edgead.dataset.folders import Progress, StageProgress, check_images, no_progress, split_good
from edgead.dataset.groups import AUTO, Groups, group_images
from edgead.dataset.images import Images
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.heads.nearest import BANK, nearest_head
from edgead.images.files import ImageError
from edgead.images.pairs import load_deep
from edgead.types import score_texts

# Scores of one image on two machines differ by less; scores of different images by far more.
SAME_SCORE = 1e-2
PROBES = 5
_MAX_ROWS = 12


@dataclass(frozen=True, slots=True)
class ThresholdImages:
    """Good images to calibrate on, their groups, and for learnt images the fold left out when each is scored.

    `kept` has the manifest's entries if these are the images that the model keeps; otherwise it is empty.
    """

    paths: Sequence[Path]
    source: str
    groups: Sequence[int] = ()
    folds: Sequence[int] = ()
    kept: Sequence[Kept] = ()

    def readable(self, artifact: Artifact) -> Artifact:
        """Return the artifact for reading these images: kept images are already cropped and aligned."""
        if not self.kept or kept_whole(artifact.manifest.preprocessing):
            return artifact
        return Artifact(artifact.path, artifact.manifest.with_preprocessing(roi=None, ignored=None, alignment=None))

    def measure(self, detector: Detector, progress: Progress | None = None) -> GoodScores:
        """Score the images as if the model had not learnt them."""
        return measure_good(detector, self.paths, progress, folds=self.folds)

    def keep_in(self, draft: Artifact, scores: Sequence[float], false_reject_rate: float) -> list[Kept]:
        """Keep the images with their new scores in the draft of a new version; return the entries for its manifest."""
        if self.kept:
            return scored_again(self.kept, scores)
        shutil.rmtree(draft.path / FOLDER, ignore_errors=True)
        return keep_images(
            draft.path,
            draft.manifest,
            self.paths,
            scores,
            false_reject_rate=false_reject_rate,
            groups=self.groups,
        )


def find_calibration_images(
    artifact: Artifact, paths: Sequence[Path], *, taught: Sequence[Path], group: str
) -> ThresholdImages:
    """Return the images for calibration: the named images, or without these the images that the model keeps.

    For named images, `group` is the rule by which they and taught images belong together; see
    `edgead.dataset.groups.group_images`.

    Raises ArtifactError: the model keeps no images, or scores them differently than before; the message says what to
        do.
    Raises CalibrationError: there are too few named images for the rates that the model guarantees.
    Raises SettingsError: an image or a group is both taught and calibrated on, or the model has already learnt from an
        image.
    """
    calibration = artifact.manifest.learnt_graph.calibration
    assert calibration is not None
    if not paths:
        return _kept(artifact, taught)
    both = {path.resolve() for path in paths} & {path.resolve() for path in taught}
    if both:
        raise SettingsError(
            f"{len(both)} images are to be learnt and to calibrate on, {min(both)} first: a score of an image that is "
            "in the memory bank guarantees nothing"
        )
    refuse_learnt(artifact, paths)
    usable, _ = without_copies(check_images(paths, read=partial(read_frame, spec=artifact.manifest.preprocessing))[0])
    found = group_images([*usable, *taught], group)
    learnt = set(found.of(taught))
    shared = [path for path in usable if found.numbers[path] in learnt]
    if shared:
        raise SettingsError(
            f"{len(shared)} images to calibrate on are in groups of images to learn, {shared[0].name} first: "
            "thresholds from them would guarantee nothing; give images of other parts, or say so with --group"
        )
    groups = found.of(usable)
    if calibration.method != "by_hand":
        check_support(len(usable), calibration.false_reject_rate, groups)
    source = f"{len(usable)} images given" + f" in {len(set(groups))} groups" * have_several(groups)
    return ThresholdImages(usable, source, groups)


def _kept(artifact: Artifact, taught: Sequence[Path]) -> ThresholdImages:
    kept = artifact.manifest.kept
    advice = "in a terminal, name good images that it has not learnt from with --calibration"
    if not kept:
        raise ArtifactError(f"{artifact.path} keeps no images to calibrate on: {advice}")
    images = ThresholdImages(
        kept_images(artifact),
        "the good images that it keeps",
        [one.group for one in kept],
        [one.fold for one in kept if one.fold is not None],
        kept,
    )
    probes = [kept[i] for i in np.unique(np.linspace(0, len(kept) - 1, PROBES).round().astype(int))]
    with Detector(images.readable(artifact), runtime="onnxruntime", precision=artifact.manifest.learnt_in) as detector:
        found = np.array([measure_kept(detector, one).image_score for one in probes])
    expected = np.array([one.image_score for one in probes])
    if not (np.abs(found - expected) <= SAME_SCORE * np.abs(expected)).all():
        raise ArtifactError(
            f"{artifact.path} does not score the {len(kept)} images that it keeps as it did before: {advice}"
        )
    _refuse_kept(images, taught, artifact.manifest.preprocessing)
    return images


def _refuse_kept(images: ThresholdImages, taught: Sequence[Path], spec: Preprocessing) -> None:
    """Refuse to learn kept images; the pixels are compared, as kept images are lossless."""
    kept = {_sha256(read_frame(path, spec)) for path in images.paths}
    both = [path for path in taught if _sha256(as_kept(read_frame(path, spec), spec)) in kept]
    if both:
        raise SettingsError(
            f"thresholds are made from {len(both)} of the {len(taught)} images to learn, {both[0].name} first: a score "
            "of an image that is in the memory bank guarantees nothing. Leave them out, or name other good images with "
            "--calibration"
        )


def _sha256(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class TeachPlan:
    """Images to teach, and options of the lesson.

    Attributes
    ----------
    images : sequence of Path
        Good parts, such as false rejects; may be empty if defects are learnt.
    held_out_share : float
        Share of the images that is not learnt, to show how the model judges parts like the taught parts.
    calibration : sequence of Path
        Good images for the thresholds, neither taught nor trained on; by default the images that the model keeps.
    group : str
        Rule by which images belong together, see `edgead.dataset.groups.group_images`; a group is never divided.
    reason : str
        Reason why images far from all good parts shall be learnt (see `edgead.adapt.teach.guard`) and thresholds
        written that may miss defects (see `edgead.calibration.blind`); recorded in the manifest. Empty refuses both.
    by : str
        Person who teaches; recorded in the manifest.
    sheet : Path, optional
        File for an overview of the images to learn; written even if they are refused.
    bad : sequence of Path
        Defective parts. With the marked parts that the model knows, three or more become known defects, see
        `edgead.adapt.teach.defects`. A lesson is refused if a part that was stopped before would be ok.
    output : Path, optional
        Where the taught model is written; by default it replaces the model.
    in_force : (float, float), optional
        Limits for review and reject by which the line judges, if a person set them: the lesson compares parts by these
        limits, and afterwards by the same limits, moved by as much as the model's own limit.
    """

    images: Sequence[Path]
    held_out_share: float = 0.2
    calibration: Sequence[Path] = ()
    group: str = AUTO
    reason: str = ""
    by: str = ""
    sheet: Path | None = None
    bad: Sequence[Path] = ()
    output: Path | None = None
    in_force: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.held_out_share <= 0.5:
            raise SettingsError(f"the share of images to hold out is 0 to 0.5, found {self.held_out_share}")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared lesson, not learnt yet.

    `offered` are all good images, doubtful ones first, then by score; `digest` is a hash of their names and contents.
    Thresholds will be made from `good`. `merged` is the memory bank with the new patches, `width` the smallest distance
    between two rows of the old bank. `defects` includes the defects that the model already knows. `left_out` images
    lack the bit depth or heights that the model reads, such as older marked images. `warnings` are shown before it is
    learnt.
    """

    artifact: Artifact
    plan: TeachPlan
    taught: list[Path]
    held_out: list[Path]
    bad: list[Path]
    offered: list[Offered]
    digest: str
    good: ThresholdImages
    merged: Merged
    width: float
    defects: Defects
    left_out: int
    warnings: list[str]

    def to_dict(self) -> dict[str, object]:
        """Return what would be learnt as plain JSON types."""
        return {
            "model": str(self.artifact.path),
            "images": [one.to_dict() for one in self.offered],
            "taught": len(self.taught),
            "held_out": len(self.held_out),
            "bad": len(self.bad),
            "known_defects": len(self.defects) if self.defects.are_enough else 0,
            "bank_rows": len(self.merged.bank),
            "rows_replaced": self.merged.added,
            "left_out": self.left_out,
            "warnings": self.warnings,
            "sheet": str(self.plan.sheet) if self.plan.sheet else None,
        }

    def table(self) -> Table | Text:
        """Lay out what would be learnt for a terminal: a table of the good images, if there are any."""
        if not self.offered:
            return Text(f"{self.artifact.path}: {self._summary()}")
        table = Table("image", "score", "limit", "", title=f"{self.artifact.path}: to learn", title_justify="left")
        for one in self.offered[:_MAX_ROWS]:
            scores = score_texts(one.score, one.limit, one.typical, one.limit)
            table.add_row(str(Path(*one.path.parts[-2:])), *scores, one.doubt, style="red" if one.doubt else None)
        if len(self.offered) > _MAX_ROWS:
            table.add_row(f"and {len(self.offered) - _MAX_ROWS} more")
        table.caption, table.caption_justify = self._summary(), "left"
        return table

    def _summary(self) -> str:
        return (
            f"{len(self.taught)} images to learn, {len(self.held_out)} held out"
            + f", {len(self.bad)} bad ones to test it" * bool(self.bad)
            + f", {len(self.defects)} marked defects to know" * self.defects.are_enough
            + f"; {self.merged.added} of "
            f"{len(self.merged.bank)} rows of the memory bank are replaced."
            + f" {self.left_out} images are left out: they have not the depth that the model reads."
            * bool(self.left_out)
        )


def prepare(path: Path, plan: TeachPlan, *, progress: StageProgress = no_progress) -> Prepared:
    """Prepare a lesson from good images and marked defects; the model does not change.

    Raises SettingsError: the model has no memory bank, there is nothing to learn, a calibration image is also taught,
        or an image is both good and bad.
    Raises LessonRefusedError: some images are far from all good parts, and the plan gives no reason to learn them.
    Raises ArtifactError, CalibrationError, DatasetError: the model is damaged, there are too few images to calibrate
        on, or images cannot be read.
    """
    artifact = Artifact.load(path)
    _check(artifact)
    spec = artifact.manifest.preprocessing
    asked = len(plan.images) + len(plan.bad)
    plan = replace(plan, images=_as_deep(plan.images, spec), bad=_as_deep(plan.bad, spec))
    left_out = asked - len(plan.images) - len(plan.bad)
    if left_out == asked > 0:
        raise SettingsError(
            f"{path} reads {spec.colour}, and none of the {asked} images has that depth: mark newer parts"
        )
    only_bad = not plan.images and bool(plan.bad)
    read = partial(read_frame, spec=spec)
    first = plan.bad if only_bad else plan.images
    paths, _, digest = check_images(first, read=read, progress=partial(progress, "read images"))
    paths = [] if only_bad else paths
    bad = _check_bad(plan.bad, paths, read)
    if only_bad and spec.keeps_depth:
        raise SettingsError(
            f"{path} reads {spec.colour}, and defects of such images cannot be known yet: name good images to learn, "
            "which the marked ones test"
        )
    defects = known_defects(artifact)
    if not spec.keeps_depth:
        defects = learn_defects(artifact, bad, partial(progress, "look at defects"))
    if only_bad and not defects.are_enough:
        raise SettingsError(
            f"{len(defects)} marked defects teach nothing about others: mark at least {LEAST_BAD}, or name good images "
            "to learn, which the marked ones test"
        )
    taught, held_out = _split(paths, plan.held_out_share, group_images(paths, plan.group)) if paths else ([], [])
    good = find_calibration_images(artifact, plan.calibration, taught=paths, group=plan.group)
    with Detector(artifact, runtime="onnxruntime", precision=artifact.manifest.learnt_in) as detector:
        offered = examine(detector, paths, partial(progress, "examine images"))
        warnings = warn_of_like_good(detector, bad, partial(progress, "examine bad parts"))
        if plan.sheet:
            write_sheet(detector, offered, plan.sheet, bad)
    if not plan.reason.strip():
        refuse_doubtful(offered, plan.sheet)
    bank = artifact.array(BANK)
    width = spacing(bank)
    images = Images(taught, spec)
    new = _uncovered(artifact, bank, max(width, _harmless(artifact.manifest)), images, progress)
    merged = merge(bank, new, progress=partial(progress, "merge memory bank"))
    found = taught, held_out, bad, offered, digest, good, merged, width, defects, left_out, warnings
    return Prepared(artifact, plan, *found)


def _as_deep(paths: Sequence[Path], spec: Preprocessing) -> list[Path]:
    """Return the images with the depth that the model reads; unreadable files stay, to be reported later."""
    if not spec.keeps_depth:
        return list(paths)
    deep = []
    for path in paths:
        with suppress(ImageError):
            image = load_deep(path)
            try:
                as_frame(image, spec)
            except ImageError:
                continue
        deep.append(path)
    return deep


def _check(artifact: Artifact) -> None:
    manifest = artifact.manifest
    if BANK not in manifest.head.arrays:
        raise SettingsError(
            f"{artifact.path}, of the detector {manifest.detector}, has no memory bank to teach: retrain it with "
            "these images among the good ones, or train patchcore"
        )
    if manifest.head.in_order:
        raise SettingsError(
            f"{artifact.path} judges frames in order, and images alone teach it nothing: learn it again with `edgead "
            "cycle` and videos of what is good too beside the old ones"
        )
    for name in artifact.precisions:
        limits = artifact.graph(name).calibration
        if limits is None:
            raise ArtifactError(f"{artifact.path} has no thresholds: retrain it with `edgead train`")
        if limits.volumes is not None:
            raise SettingsError(
                f"{artifact.path} has thresholds for whole volumes, which the slices that it keeps cannot make again: "
                "retrain it with the new volumes among the good ones"
            )
        if limits.method not in (*FROM_GOOD, "by_hand"):
            raise SettingsError(
                f"the thresholds of {artifact.path} ({name}) are {limits.method.replace('_', ' ')}, which good images "
                "alone cannot make again: calibrate it for a rate that they support, then teach"
            )


def _check_bad(bad: Sequence[Path], good: Sequence[Path], read: Callable[[Path], np.ndarray]) -> list[Path]:
    """Check that the bad images can be read; raise SettingsError if one of them is also among the good ones."""
    if not bad:
        return []
    known = {content_sha256(path): path for path in good}
    for path in bad:
        same = known.get(content_sha256(path))
        if same is not None:
            raise SettingsError(
                f"{same} is to be learnt as good, and {path}, the same image, is bad: which of them is it?"
            )
    return check_images(bad, read=read)[0]


def _split(paths: list[Path], share: float, groups: Groups) -> tuple[list[Path], list[Path]]:
    """Split images into learnt and held-out ones, by whole groups; the same images always give the same split."""
    return split_good(paths, int(share * groups.count), 0, groups.of(paths))


def _harmless(manifest: Manifest) -> float:
    """Return the largest distance from the memory bank at which a patch alone cannot bring an image to review.

    Patches closer than this are not learnt, so that no old rows are dropped for them.
    """
    weight, limits = nearest_head(manifest.head).patch_weight, manifest.learnt_graph.calibration
    return 0.0 if limits is None or not weight else limits.review / weight


def _uncovered(
    artifact: Artifact, bank: np.ndarray, level: float, images: Images, progress: StageProgress
) -> np.ndarray:
    """Return the patches that are farther than `level` from the bank, float32 (n, d)."""
    search = kernels.NearestPatches(bank)
    found = [np.empty((0, bank.shape[1]), np.float32)]
    for features in each_features(artifact, images, partial(progress, "extract features")):
        distance, _ = search.search(features)
        found.append(features[distance[:, 0] > level].copy())
    return np.concatenate(found)
