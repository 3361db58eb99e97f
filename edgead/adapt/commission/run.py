"""Commissioning by one command on the device: it photographs good parts, then trains on them like `edgead train`."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgead.adapt.commission.collect import CollectedImages, as_sent, collect
from edgead.adapt.methods.method import AUTO
from edgead.adapt.training.from_folder import train_from_folder
from edgead.adapt.training.good_images import GoodImages
from edgead.adapt.training.preset import preset_settings
from edgead.artifact.folder import Artifact, check_destination
from edgead.artifact.inputs import Preprocessing
from edgead.calibration.plan import choose_rates
from edgead.dataset.folders import StageProgress, check_region, no_progress
from edgead.dataset.groups import NONE
from edgead.dataset.made_sets import refuse_made
from edgead.dataset.places import Place, with_places
from edgead.errors import SettingsError
from edgead.sources import open_source, split_options, without_credentials
from edgead.types import Frame

ENDLESS = 1_000_000
DETECTOR = "patchcore"
_MAX_NAMED = 8


@dataclass(frozen=True, slots=True)
class CommissionPlan:
    """Options of a commissioning.

    Attributes
    ----------
    images : int
        Different good parts to photograph.
    preset : str, optional
        Preset of patchcore; by default the one that suits this machine, see `edgead.adapt.training.auto.suited_preset`.
    roi : (int, int, int, int), optional
        x, y, width and height, in pixels, of the region of the image to inspect.
    ignore : sequence of str, Path or ndarray
        Image areas that never count; see `edgead.dataset.places.read_ignored`. All images must then have the same size.
    align : str or Path, optional
        A golden image that parts are aligned to. All images must then have the same size.
    false_reject_rate, review_rate : float, optional
        Rates of the thresholds, as in `edgead train`.
    keep_images : Path, optional
        Folder in which the images are kept; by default they are removed.
    patience_s : float
        Longest wait for a new part, seconds.
    group : str
        Rule by which images belong together, see `edgead.dataset.groups.group_images`. By default none: one image a
        part.
    """

    images: int = 100
    preset: str | None = None
    roi: tuple[int, int, int, int] | None = None
    false_reject_rate: float | None = None
    review_rate: float | None = None
    keep_images: Path | None = None
    patience_s: float = 60
    group: str = NONE
    ignore: Sequence[Place] = ()
    align: str | Path | None = None


@dataclass(frozen=True, slots=True)
class Commissioned:
    """The finished model and the collected images."""

    artifact: Artifact
    collected: CollectedImages

    @property
    def warnings(self) -> list[str]:
        """Warnings for the operator, sentence by sentence."""
        training = self.artifact.manifest.training
        found = [*filter(None, [training.get("two_products")]), *training.get("odd_images", ())]
        if self.collected.duplicates:
            found.append(f"{self.collected.duplicates} images showed a part once more and were left out")
        if blurred := self.collected.blurred:
            more = f" and {len(blurred) - _MAX_NAMED} more" if len(blurred) > _MAX_NAMED else ""
            names = ", ".join(map(self.collected.called, blurred[:_MAX_NAMED]))
            found.append(f"blurred, left out: {names}{more}")
        return found


_USUAL = CommissionPlan()


def commission(
    source: str, destination: Path, plan: CommissionPlan = _USUAL, *, progress: StageProgress = no_progress
) -> Commissioned:
    """Make a model from good parts in front of a camera.

    `source`: any source that `edgead.sources.open_source` takes, with good parts only. The built-in line shows good
        parts only unless the URI says otherwise.
    `destination`: directory of the model.
    Raises SettingsError, SourceError, CommissionError, DatasetError, CalibrationError, ArtifactError: before anything
        is written at `destination`.
    """
    check_destination(destination)
    refuse_made(map(Path, glob.glob(split_options(source)[0])))
    choose_rates(plan.images, plan.false_reject_rate, plan.review_rate)  # errors are reported before images are taken
    with _images_folder(plan.keep_images, destination) as folder:
        with closing(open_source(_good_parts(source))) as frames:
            collected = collect(
                _that_fit(plan, frames),
                folder,
                plan.images,
                patience_s=plan.patience_s,
                progress=partial(progress, "collect good parts"),
            )
        facts = {
            "data": without_credentials(source),
            "commissioned": {
                "duplicates": collected.duplicates,
                "blurred": [collected.called(name) for name in collected.blurred],
            },
        }
        with as_sent(collected.paths, collected.files) as (named, links):
            good = GoodImages(
                named,
                paths=list(links),
                roi=plan.roi,
                false_reject_rate=plan.false_reject_rate,
                review_rate=plan.review_rate,
                group=plan.group,
                ignore=plan.ignore,
                align=plan.align,
                facts=facts,
            )
            settings, _ = preset_settings(good, DETECTOR, plan.preset or AUTO)
            artifact, _ = train_from_folder(good, destination, settings, precision=AUTO, progress=progress)
    return Commissioned(artifact, collected)


def _good_parts(source: str) -> str:
    """Return the source; for the built-in line, add options for endless good parts unless the URI sets them."""
    if not source.startswith("synthetic:"):
        return source
    path, _, query = source.partition("?")
    given = {option.partition("=")[0] for option in query.split("&") if option}
    missing = [f"{name}={value}" for name, value in (("defect_rate", 0), ("count", ENDLESS)) if name not in given]
    return f"{path}?{'&'.join([query, *missing] if query else missing)}"


def _that_fit(plan: CommissionPlan, frames: Iterable[Frame]) -> Iterator[Frame]:
    """Yield the frames; refuse one at once if region, ignored places or golden image do not fit its size."""
    spec = Preprocessing(image_size=(1, 1), roi=plan.roi)
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
    """Yield the requested folder for images, or a temporary one beside the destination."""
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
