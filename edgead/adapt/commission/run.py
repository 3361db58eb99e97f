"""Commissioning by one command on the device: good parts are photographed, then learnt. Without torch."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from edgead.adapt.commission.collect import collect
from edgead.adapt.commission.from_images import Commissioned, CommissionPlan, commission_images
from edgead.adapt.frozen_backbone import open_backbone
from edgead.artifact.folder import check_destination
from edgead.artifact.manifest import Preprocessing
from edgead.calibration.plan import choose_rates
from edgead.dataset.folders import StageProgress, check_region, no_progress
from edgead.dataset.made_sets import refuse_made
from edgead.dataset.places import with_places
from edgead.errors import SettingsError
from edgead.sources import open_source, split_options, without_credentials
from edgead.types import Frame

ENDLESS = 1_000_000
_USUAL = CommissionPlan()


def commission(
    source: str, destination: Path, plan: CommissionPlan = _USUAL, *, progress: StageProgress = no_progress
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
    spec = open_backbone(plan.backbone).manifest(plan.roi).preprocessing
    check_destination(destination)
    refuse_made(map(Path, glob.glob(split_options(source)[0])))
    choose_rates(plan.images, plan.false_reject_rate, plan.review_rate)  # known before an image is taken
    with _images_folder(plan.keep_images, destination) as folder:
        with closing(open_source(_good_parts(source))) as frames:
            collected = collect(
                _that_fit(plan, spec, frames),
                folder,
                plan.images,
                patience_s=plan.patience_s,
                progress=partial(progress, "collect good parts"),
            )
        data = without_credentials(source)
        return commission_images(collected, folder, destination, plan, data=data, progress=progress)


def _good_parts(source: str) -> str:
    """The source as asked for; of the built-in line, where nothing is said, good parts without an end."""
    if not source.startswith("synthetic:"):
        return source
    path, _, query = source.partition("?")
    given = {option.partition("=")[0] for option in query.split("&") if option}
    missing = [f"{name}={value}" for name, value in (("defect_rate", 0), ("count", ENDLESS)) if name not in given]
    return f"{path}?{'&'.join([query, *missing] if query else missing)}"


def _that_fit(plan: CommissionPlan, spec: Preprocessing, frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames; one that the region sticks out of, or that has no such places, is refused as soon as it comes."""
    sizes: dict[tuple[int, int], Path | str] = {}
    for frame in frames:
        name = f"frame {frame.number}"
        check_region(plan.roi, name, frame.image)
        size = (frame.image.shape[0], frame.image.shape[1])
        if size not in sizes:
            with_places(spec, plan.ignore, plan.align, sizes | {size: name})
            sizes[size] = name
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
