"""A model as a program holds it: a Detector that can be measured, calibrated, exported and put before a camera."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.artifact.folder import Artifact
from edgead.dataset.folders import StageProgress, find_test_images, no_progress
from edgead.dataset.groups import AUTO, Groups, group_images
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.inputs import each_image

if TYPE_CHECKING:
    from edgead.dataset.folders import LabelledImage
    from edgead.learning.recalibrate import AskedRates, Recalibration
    from edgead.report.evaluate import Evaluation
    from edgead.sinks import Sink
    from edgead.sources import Source
    from edgead.stream import StreamSummary

PathLike = str | os.PathLike[str]
Paths = PathLike | Sequence[PathLike]


class Model(Detector):
    """A Detector with all else that is done to a finished model; `edgead.load` opens one.

    >>> import edgead
    >>> with edgead.load("out/model") as model:
    ...     page = model.report("dataset/", "report.html")
    ...     model.evaluate("dataset/").to_dict()["images"]
    20
    """

    def evaluate(self, data: PathLike, *, group: str = AUTO, progress: StageProgress = no_progress) -> Evaluation:
        """Judge a test set with known defects; the result's `to_dict` has the metrics.

        Parameters
        ----------
        data : path
            MVTec layout: `test/good` and `test/<defect>`, masks in `ground_truth/<defect>`.
        group : str
            Which images belong together, see `edgead.dataset.groups.group_images`.
        progress : callable, optional
            Called with (stage, done, total).
        """
        from edgead.report.evaluate import evaluate

        images, groups = _test_set(Path(data), group)
        return evaluate(self, images, groups=groups, progress=partial(progress, "judge images"))

    def report(
        self,
        data: PathLike,
        page: PathLike = "report.html",
        *,
        group: str = AUTO,
        progress: StageProgress = no_progress,
    ) -> Path:
        """Judge a test set, as `evaluate`, and write a page that can be read, printed and filed; gives its path."""
        from edgead.report import examine, report_page

        images, groups = _test_set(Path(data), group)
        found = examine(self, images, groups=groups, progress=partial(progress, "judge images"))
        text = report_page(self, found, model=self.artifact.path.resolve().name, data=Path(data).resolve().name)
        Path(page).write_text(text, encoding="utf-8")
        return Path(page)

    def calibrate(
        self,
        images: Paths,
        asked: AskedRates | None = None,
        *,
        write: bool = True,
        progress: StageProgress = no_progress,
        **rates: Any,
    ) -> Recalibration:
        """Make thresholds again from good images, and judge by them from the next image on.

        Parameters
        ----------
        images : path or sequence of paths
            Good images that the model has not learnt, or a folder of them.
        asked : AskedRates, optional
            What the thresholds shall guarantee; or its fields by name, such as `false_reject_rate=0.01`.
        write : bool
            False shows what would change: neither the model's folder nor this object does.

        Returns
        -------
        Recalibration
            Its `warnings()` belong before a person's eyes.

        Raises
        ------
        CalibrationError
            Too few images for the rate; says how many are needed.
        SettingsError
            The model has learnt some of them, or its folder was changed since it was opened.

        Examples
        --------
        >>> model = Model.load("out/model")
        >>> model.calibrate("dataset/test/good", false_reject_rate=0.2, write=False).change.images
        8
        """
        from edgead.learning.recalibrate import AskedRates, recalibrate, write_thresholds

        asked = asked or AskedRates(**rates)
        found = recalibrate(self, image_paths(images), asked, progress=partial(progress, "score good images"))
        if write:
            write_thresholds(self._unchanged(), found.change, found.calibration)
            self._take(Artifact.load(self.artifact.path))
        return found

    def export(
        self,
        precision: str,
        data: PathLike | None = None,
        *,
        normal_dir: str | None = None,
        progress: StageProgress = no_progress,
        **plan: Any,
    ) -> Model:
        """Add a graph of another precision to the model's folder, with thresholds of its own, and open it.

        Parameters
        ----------
        precision : {"fp32", "fp16", "int8", "int8_symmetric"}
            "fp32" is written again from the torch weights.
        data : path
            The folder that the model was trained on: thresholds come from images that training held out. "fp32" takes
            none.
        normal_dir : str, optional
            Folder of good images below `data`; by default `train/good` where there is one, else `data` itself.
        **plan
            See `edgead.export.precision.PrecisionPlan`: `tolerance`, `float_layers`, `make_default`.

        Raises
        ------
        SettingsError
            An unknown precision, no `data`, or the folder was changed since it was opened.
        ToleranceError
            The new graph's scores are too far from those of fp32; nothing has changed then.
        """
        path = self._unchanged().path
        if precision == "fp32":
            from edgead.export.rewrite import rewrite_graph

            artifact = rewrite_graph(path)
        else:
            from edgead.export.calibration_images import find_calibration_images
            from edgead.export.precision import PrecisionPlan, add_precision

            if data is None:
                raise SettingsError(
                    f"{precision} gets thresholds of its own, from real images: name the folder that the model was "
                    f"trained on, as in model.export({precision!r}, 'good/')"
                )
            folder = Path(data)
            images = find_calibration_images(self.artifact, folder, normal_dir, progress=progress)
            artifact = add_precision(path, PrecisionPlan(precision, **plan), images, progress=progress)
        self._take(artifact)
        return Model(artifact, precision=precision)

    def stream(self, source: Source | str, sinks: Sequence[Sink | str] = (), **options: Any) -> StreamSummary:
        """Judge every frame of a source until it ends, fails or is stopped; see `edgead.stream.run`.

        >>> with Model.load("out/model") as model:  # "camera:0" is a camera
        ...     model.stream("parts/", ["jsonl:verdicts.jsonl"]).decisions
        {'ok': 1, 'review': 0, 'reject': 1}
        """
        from edgead.stream import run

        return run(source, self, sinks, **options)

    def _unchanged(self) -> Artifact:
        """The artifact as it lies in its folder, which must be the one that was opened."""
        artifact = Artifact.load(self.artifact.path)
        if artifact.manifest.manifest_sha256 != self.manifest.manifest_sha256:
            raise SettingsError(f"{artifact.path} was changed since it was opened: open it again with edgead.load")
        return artifact


def image_paths(images: Paths) -> list[Path]:
    """List the files of a path, a folder or several of both."""
    several = each_image(images)
    if several is None:
        return [Path(images)]  # type: ignore[arg-type]
    found: list[Path] = []
    for image, _ in several:
        if not isinstance(image, (str, os.PathLike)):
            raise SettingsError(f"files or folders of images are needed, found {type(image).__name__}")
        found += image_paths(image) if Path(image).is_dir() else [Path(image)]
    return found


def _test_set(data: Path, group: str) -> tuple[list[LabelledImage], Groups]:
    images = find_test_images(data)
    return images, group_images([image.path for image in images], group, data)
