"""From a camera to a calibrated model, on the device: images, features, a memory bank, thresholds. Without torch."""

from __future__ import annotations

import glob
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgead.artifact.folder import Artifact, check_destination, new_artifact
from edgead.artifact.training_hashes import keep_learnt
from edgead.calibration.outliers import stand_apart
from edgead.calibration.plan import plan_calibration
from edgead.dataset.folders import StageProgress, check_images, check_region, no_progress, split_good
from edgead.dataset.groups import NONE, group_images
from edgead.dataset.images import Images
from edgead.dataset.made import refuse_made
from edgead.errors import SettingsError
from edgead.learning.commission.backbone import open_backbone
from edgead.learning.commission.collect import Collected, collect
from edgead.learning.commission.learn import learn
from edgead.learning.finalize import CalibrationPlan, complete_artifact
from edgead.sources import open_source, without_credentials
from edgead.sources.paths import split_options
from edgead.types import Frame

ENDLESS = 1_000_000


@dataclass(frozen=True, slots=True)
class CommissionPlan:
    """What to commission.

    Attributes
    ----------
    images : int
        Different good parts to photograph.
    backbone : str
        A packaged one, or the directory of a patchcore model; see `edgead.learning.commission.backbone`.
    roi : (int, int, int, int), optional
        x, y, width and height of the part of the image to look at.
    false_reject_rate, review_rate : float, optional
        As in `edgead train`.
    keep_images : Path, optional
        Where the images go and stay; by default they are removed.
    patience_s : float
        How long to wait for a part that is not there yet.
    group : str
        Which images belong together, see `edgead.dataset.groups.group_images`. By default none: each image shows
        another part.
    """

    images: int = 100
    backbone: str = "fast"
    roi: tuple[int, ...] | None = None
    false_reject_rate: float | None = None
    review_rate: float | None = None
    keep_images: Path | None = None
    patience_s: float = 60.0
    group: str = NONE


@dataclass(frozen=True, slots=True)
class Commissioned:
    """The finished model, and what its images were like.

    Attributes
    ----------
    odd : list of str
        Images that are far from all others; they are not in the memory bank.
    odd_held_out : list of str
        The same among those that thresholds come from. They stay: without them the thresholds would guarantee too much.
    """

    artifact: Artifact
    collected: Collected
    odd: list[str]
    odd_held_out: list[str]

    @property
    def warnings(self) -> list[str]:
        """What the operator should know, sentence by sentence."""
        found = []
        if self.collected.duplicates:
            found.append(f"{self.collected.duplicates} images showed a part once more and were left out")
        if self.collected.blurred:
            found.append(f"blurred, left out: {_named(self.collected.blurred)}")
        if self.odd:
            found.append(f"unlike the other parts, not learnt: {_named(self.odd)}; are they good?")
        if self.odd_held_out:
            found.append(
                f"unlike the other parts, and thresholds are made to let them pass: {_named(self.odd_held_out)}; "
                "if they are not good, commission again without them"
            )
        return found


def commission(
    source: str, destination: Path, plan: CommissionPlan = CommissionPlan(), *, progress: StageProgress = no_progress
) -> Commissioned:
    """Make a model from good parts in front of a camera.

    Parameters
    ----------
    source : str
        Any that `edgead.sources.open_source` takes, showing good parts only. The built-in line shows good parts only
        unless the URI says otherwise.
    destination : Path
        Directory of the model.
    plan : CommissionPlan
    progress : callable, optional
        Called with (stage, done, total).

    Raises
    ------
    SettingsError, SourceError, CommissionError, DatasetError, CalibrationError, ArtifactError
        Before anything is written at `destination`.
    """
    started = time.perf_counter()
    backbone = open_backbone(plan.backbone)
    check_destination(destination)
    refuse_made(map(Path, glob.glob(split_options(source)[0])))
    plan_calibration(plan.images, plan.false_reject_rate, plan.review_rate)  # known before an image is taken
    with ExitStack() as stack:
        folder = stack.enter_context(_images_folder(plan.keep_images, destination))
        with closing(open_source(_good_parts(source))) as frames:
            collected = collect(
                _that_hold(plan.roi, frames),
                folder,
                plan.images,
                patience_s=plan.patience_s,
                progress=partial(progress, "collect good parts"),
            )
        paths, _, digest = check_images(collected.paths, progress=partial(progress, "read images"))
        groups = group_images(paths, plan.group, folder)
        held_out, rate = plan_calibration(groups.count, plan.false_reject_rate, plan.review_rate, what=groups.unit)
        training, calibration = split_good(paths, held_out, backbone.settings["seed"], groups.of(paths))
        draft = stack.enter_context(new_artifact(destination))
        manifest = backbone.manifest(plan.roi)
        images = Images(training, manifest.preprocessing)
        odd = [training[i].name for i in learn(draft, manifest, backbone, images, progress)]
        facts = {
            "data": without_credentials(source),
            "data_sha256": digest,
            "training_images": len(training),
            "calibration_images": len(calibration),
            "groups": groups.facts(training, calibration),
            "commissioned": {"duplicates": collected.duplicates, "blurred": collected.blurred, "odd": odd},
            "fit_seconds": round(time.perf_counter() - started, 1),
        }
        manifest = manifest.model_copy(update={"training": {**manifest.training, **facts}})
        keep_learnt(draft, training)
        completed = CalibrationPlan(calibration, rate, plan.review_rate, groups=groups.of(calibration))
        good = complete_artifact(draft, manifest, completed, progress=partial(progress, "calibrate"))
    odd_held_out = [calibration[i].name for i in stand_apart(good.scores)]
    return Commissioned(Artifact.load(destination), collected, odd, odd_held_out)


def _good_parts(source: str) -> str:
    """The source as asked for; of the built-in line, where nothing is said, good parts without an end."""
    if not source.startswith("synthetic:"):
        return source
    path, _, query = source.partition("?")
    given = {option.partition("=")[0] for option in query.split("&") if option}
    missing = [f"{name}={value}" for name, value in (("defect_rate", 0), ("count", ENDLESS)) if name not in given]
    return f"{path}?{'&'.join([query, *missing] if query else missing)}"


def _that_hold(roi: tuple[int, ...] | None, frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames; one that the region sticks out of is refused as soon as it comes."""
    for frame in frames:
        check_region(roi, f"frame {frame.number}", frame.image)
        yield frame


@contextmanager
def _images_folder(images: Path | None, destination: Path) -> Iterator[Path]:
    """The folder that was asked for, or one beside the destination that is gone afterwards."""
    if images is not None:
        if images.is_dir() and any(images.iterdir()):
            raise SettingsError(f"{images} is not empty: its images would be mixed with those to come")
        images.mkdir(parents=True, exist_ok=True)
        yield images
        return
    beside = destination.absolute().parent
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{destination.name}.images.", dir=beside) as folder:
        yield Path(folder)


def _named(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
