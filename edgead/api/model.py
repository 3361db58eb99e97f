"""Model for programs: one object to judge with, measure, calibrate, teach, export and run on a camera."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.api.errors import names_parameters
from edgead.api.options import RateOptions, StreamOptions, TeachOptions, check_options
from edgead.api.paths import Paths, image_paths
from edgead.artifact.folder import Artifact
from edgead.dataset.folders import StageProgress, no_progress
from edgead.dataset.groups import AUTO
from edgead.detector import Detector, Predictor
from edgead.errors import SettingsError
from edgead.files.user_paths import named_path
from edgead.images.inputs import PathLike

if TYPE_CHECKING:
    from edgead.export.standalone import Standalone
    from edgead.export.verify import Parity
    from typing_extensions import Self, Unpack

    from edgead.adapt.recalibrate import AskedRates, Recalibration
    from edgead.adapt.teach import Lesson
    from edgead.report.evaluate import Evaluation
    from edgead.sinks import Sink
    from edgead.sources import Source
    from edgead.stream import StreamSummary
    from edgead.unlabelled.sorting.name_kinds import Named
    from edgead.unlabelled.sorting.sort import Sorted


logger = logging.getLogger(__name__)


class _Opened(Detector):
    _warns_of_format = True


class Model(Predictor):
    """Finished model, with methods for every task on it; `edgead.load` opens one.

    Other attributes of `edgead.Detector`, such as `session`, work here too, but are not listed. The methods call
    `progress` with (stage, done, total).

    >>> import edgead
    >>> with edgead.load("out/model") as model:
    ...     page = model.report("dataset/", "report.html")
    ...     model.evaluate("dataset/").to_dict()["images"]
    20
    """

    def __init__(
        self, artifact: Artifact, *, runtime: str = "auto", precision: str | None = None, threads: int | None = None
    ):
        self._detector = _Opened(artifact, runtime=runtime, precision=precision, threads=threads)

    if not TYPE_CHECKING:  # to which every name would be known

        def __getattr__(self, name: str) -> Any:
            return getattr(object.__getattribute__(self, "_detector"), name)

    def close(self) -> None:
        """Release the engine, once no image is being judged."""
        self._detector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def info(self) -> dict[str, Any]:
        """Return facts about the model as values for JSON; sizes are [width, height] in pixels.

        >>> Model.load("out/model").info()["detector"]
        'patchcore'
        """
        opened, manifest = self._detector, self._detector.manifest
        spec, limits, training = manifest.preprocessing, opened.graph.calibration, manifest.training
        height, width = spec.image_size
        return {
            "path": str(opened.artifact.path),
            "model": manifest.manifest_sha256,
            "detector": manifest.detector,
            "settings": training.get("settings", {}),
            "input": spec.colour,
            "input_size": [width, height],
            "region": spec.roi,
            "precision": opened.graph.precision,
            "precisions": list(manifest.graphs),
            "runtime": opened.runtime,
            "threshold": self.threshold,
            "review_threshold": None if self.threshold is None or limits is None else limits.review,
            "false_reject_rate": None if self.threshold is None or limits is None else limits.false_reject_rate,
            "training_images": training.get("training_images"),
            "versions": manifest.versions,
        }

    @names_parameters
    def evaluate(
        self, data: PathLike, *, group: str = AUTO, left_out: bool = False, progress: StageProgress = no_progress
    ) -> Evaluation:
        """Judge a test set with known defects; metrics are in `to_dict`, `counts`, and causes of rejects in `advice`.

        Parameters
        ----------
        data : path
            Data set in MVTec layout: `test/good` and `test/<defect>`, masks in `ground_truth/<defect>`; or a folder
            that itself holds `good` and the kinds of defects; or another layout.
        group : str
            Groups of images that belong together, see `edgead.dataset.groups.group_images`.
        left_out : bool
            Measure learnt images too, each by the other folds; otherwise the result's `learnt_account` counts them.

        Raises
        ------
        DatasetError, SettingsError
            All good or all defective images were learnt; or `left_out`, and the model has no folds.
        """
        from edgead.report.folder import evaluate_folder

        self._detector.artifact.check_unchanged()
        return evaluate_folder(self._detector, named_path(data), group, progress, left_out=left_out)

    @names_parameters
    def report(
        self,
        data: PathLike,
        page: PathLike = "report.html",
        *,
        group: str = AUTO,
        left_out: bool = False,
        progress: StageProgress = no_progress,
    ) -> Path:
        """Judge a test set like `evaluate`, write a report as one HTML page, and return its path."""
        from edgead.report.folder import report_folder

        self._detector.artifact.check_unchanged()
        report_folder(self._detector, named_path(data), named_path(page), group, progress, left_out=left_out)
        return Path(page)

    @names_parameters
    def calibrate(
        self,
        images: Paths,
        asked: AskedRates | None = None,
        *,
        bad: Paths = (),
        write: bool = True,
        reason: str = "",
        progress: StageProgress = no_progress,
        **rates: Unpack[RateOptions],
    ) -> Recalibration:
        """Make new thresholds from good images, and judge by them from the next image on.

        Parameters
        ----------
        images : path or sequence of paths
            Good images that the model has not learnt, or a folder of them.
        asked : AskedRates, optional
            Rates that the thresholds shall keep to; or its fields by name, such as `false_reject_rate=0.01`.
        bad : path or sequence of paths
            Defects, or a folder of them: thresholds that pass one which is stopped now are refused.
        write : bool
            False shows what would change, even if scores are far above the others like those of defects: neither the
            model's folder nor this object changes.
        reason : str
            Reason why thresholds that may pass defects are right, for example after a new lamp; the model keeps it.
            Without a reason such thresholds are refused.

        Returns
        -------
        Recalibration
            Show its `warnings()` to a person.

        Raises
        ------
        CalibrationError
            Too few images for the rate; the message says how many are needed.
        BlindLimitError
            The thresholds may pass defects, and no reason was given.
        SettingsError
            The model has learnt some of the images, a bad part would be ok, its folder was changed since it was opened,
            or both `asked` and rates by name are given.

        Examples
        --------
        >>> model = Model.load("out/model")
        >>> model.calibrate("dataset/test/good", false_reject_rate=0.2, write=False).change.images
        8
        """
        from edgead.adapt.recalibrate import AskedRates, recalibrate, write_thresholds

        check_options(self.calibrate, rates, RateOptions)
        if asked is not None and rates:
            raise SettingsError(f"{', '.join(rates)} and AskedRates are given: put all into AskedRates, or none")
        self._detector.artifact.check_unchanged()
        asked = asked or AskedRates(**rates)
        asked = replace(asked, accept_outliers=asked.accept_outliers or not write)
        paths, defects, scored = image_paths(images), image_paths(bad), partial(progress, "score good images")
        found = recalibrate(self._detector, paths, asked, bad=defects, progress=scored)
        if write:
            artifact = self._detector.artifact
            write_thresholds(artifact, found.change, found.calibration, reason=reason, found=found)
            self._follow(Artifact.load(artifact.path))
        return found

    @names_parameters
    def teach(
        self,
        images: Paths,
        *,
        bad: Paths = (),
        calibration: Paths = (),
        sheet: PathLike | None = None,
        progress: StageProgress = no_progress,
        **plan: Unpack[TeachOptions],
    ) -> Lesson:
        """Teach good parts, such as false rejects; `undo` puts the version before back, which is kept beside the model.

        This object judges by the lesson from the next image on. A model that is open elsewhere stays as it was.

        Parameters
        ----------
        images : path or sequence of paths
            Good images, or a folder of them. A defect among them would pass as good from then on.
        bad : path or sequence of paths
            Defects, or a folder of them: none that is stopped now may pass afterwards; three or more are learnt.
        calibration : path or sequence of paths
            Good images that thresholds are made from; by default those that the model keeps.
        sheet : path, optional
            File for an overview image of the parts to be learnt.
        **plan
            Other fields of `edgead.adapt.teach.TeachPlan`, such as `held_out_share`.

        Returns
        -------
        Lesson
            The learnt parts, and verdicts before and after.
        """
        from edgead.adapt.teach import TeachPlan, teach

        check_options(self.teach, plan, TeachOptions)
        artifact, shown = self._detector.artifact, None if sheet is None else named_path(sheet)
        defects, good = image_paths(bad), image_paths(calibration)
        asked = TeachPlan(image_paths(images), bad=defects, calibration=good, sheet=shown, **plan)
        artifact.check_unchanged()
        lesson = teach(artifact.path, asked, progress=progress)
        self._open_again()
        return lesson

    @names_parameters
    def undo(self) -> None:
        """Put the version before the last lesson back, with its thresholds, and judge by it from the next image on."""
        from edgead.adapt.teach import undo

        self._detector.artifact.check_unchanged()
        undo(self._detector.artifact.path)
        self._open_again()

    def _open_again(self) -> None:
        before = self._detector
        artifact = Artifact.load(before.artifact.path)
        kept = before._asked if before.graph.precision in artifact.precisions else before._asked | {"precision": None}
        self._detector = _Opened(artifact, **kept)
        before.close()

    @names_parameters
    def verify(self, images: Paths = (), *, progress: StageProgress = no_progress) -> dict[str, Parity]:
        """Compare the deployed graph with the torch network, or its reference, on `images` or the golden images.

        Returns a dict of comparisons by name; each has an attribute `passed`.
        """
        from edgead.export.verify import verify

        return verify(self._detector.artifact, image_paths(images), progress)

    @names_parameters
    def export(
        self,
        precision: str,
        data: PathLike | None = None,
        *,
        normal_dir: str | None = None,
        group: str | None = None,
        tolerance: float | None = None,
        make_default: bool = False,
        progress: StageProgress = no_progress,
    ) -> Model:
        """Add a graph of another precision to the model's folder, with thresholds of its own, and open it.

        A `patchcore` has one precision: it is learnt again, and the version before stays in `MODEL.versions`. If the
        new graph replaces the one that this object has open, this object is closed.

        Parameters
        ----------
        precision : {"fp32", "fp16", "int8", "int8_symmetric"}
            "fp32" is written again from the torch weights.
        data : path
            Folder that the model was trained on: thresholds come from images that training held out. "fp32" keeps its
            own thresholds, and takes only `make_default` of the parameters below.
        normal_dir : str, optional
            Folder of good images below `data`; by default as in the training.
        group : str, optional
            Groups of images that belong together, see `edgead.dataset.groups.group_images`; by default as in training.
        tolerance, make_default
            See `edgead.export.precision.PrecisionPlan`.

        Raises
        ------
        SettingsError
            An unknown precision, no `data`, or the folder was changed since it was opened.
        ToleranceError
            The new graph's scores are too far from those of fp32; nothing has changed then.
        """
        from edgead.adapt.build import TOLERANCES

        if precision not in (known := ("fp32", *TOLERANCES)):
            one_file = "for one ONNX file call export_standalone"
            raise SettingsError(f"there is no precision {precision!r}: choose one of {', '.join(known)}; {one_file}")
        from edgead.export.add_graph import add_graph
        from edgead.export.precision import PrecisionPlan

        self._detector.artifact.check_unchanged()
        artifact = add_graph(
            self._detector.artifact.path,
            PrecisionPlan(precision, tolerance, make_default=make_default),
            None if data is None else named_path(data),
            normal_dir=normal_dir,
            group=group,
            progress=progress,
        )
        self._follow(artifact)
        return Model(artifact, precision=precision)

    @names_parameters
    def export_standalone(
        self, file: PathLike, *, precision: str | None = None, size: tuple[int, int] | None = None, batch: bool = False
    ) -> Standalone:
        """Write an ONNX file from a decoded image to map, score and decision, which runs without edgead.

        Show the result's `warning` to a person. For parameters and errors see
        `edgead.export.standalone.write_standalone`; a file that is there is replaced.
        """
        from edgead.export.standalone import write_standalone

        return write_standalone(self._detector.artifact, named_path(file), precision=precision, size=size, batch=batch)

    @names_parameters
    def stream(
        self, source: Source | PathLike, sinks: Sequence[Sink | str] | str = (), **options: Unpack[StreamOptions]
    ) -> StreamSummary:
        """Judge every frame of a source until it ends, fails or is stopped; see `edgead.stream.run`.

        >>> with Model.load("out/model") as model:  # "camera:0" is a camera, "watch:parts" waits for files
        ...     model.stream("parts/", ["jsonl:verdicts.jsonl"]).decisions
        {'ok': 1, 'review': 0, 'reject': 1}
        """
        from edgead.stream import run

        check_options(self.stream, options, StreamOptions)
        opened = os.fspath(source) if isinstance(source, os.PathLike) else source
        if not isinstance(opened, str) and not hasattr(opened, "counters"):
            sources = '"camera:0", "watch:FOLDER", a video or a folder'
            raise SettingsError(f"a stream has one source, such as {sources}: call predict for several images")
        summary = run(opened, self._detector, sinks, **options)
        if summary.advice:
            logger.warning("%s", summary.advice)
        return summary

    @names_parameters
    def sort(
        self,
        images: Paths,
        folder: PathLike | None = None,
        *,
        link: bool = False,
        count: int | None = None,
        everything: bool = False,
        group: str = AUTO,
        seed: int = 0,
        method: str = "residuals",
        settings: Mapping[str, Any] | None = None,
        progress: StageProgress = no_progress,
    ) -> Sorted:
        """Sort rejected and reviewed images into kinds of defects, without labels.

        Parameters
        ----------
        images : path or sequence of paths
            Images, or a folder of them; images that are judged ok are left out.
        folder : path, optional
            Folder to write: a folder of images for each kind, a sheet of all kinds, and tables.
        link : bool
            Whether the folders hold links to the images instead of copies.
        count, everything, group, seed, method, settings
            See `edgead.unlabelled.sorting.sort.SortPlan`.

        Returns
        -------
        Sorted
            Its `pareto()` has the kinds, the largest first; `of_kind(0)` the images of the largest.

        Raises
        ------
        SettingsError
            The model cannot tell kinds apart, nothing is rejected, the folder is not empty, or settings do not fit
            the method.
        """
        from edgead.unlabelled.sorting.folders import check_folder, write_sorted
        from edgead.unlabelled.sorting.sort import SortPlan, sort_images

        target = None if folder is None else named_path(folder)
        if target is not None:
            check_folder(target)
        plan = SortPlan(count, everything, group, seed, method, settings or {})
        found = sort_images(self._detector, image_paths(images), plan, progress=progress)
        if target is not None:
            write_sorted(self._detector, found, target, link=link)
        return found

    @names_parameters
    def name_kinds(
        self,
        names: Mapping[str, str] | None = None,
        examples: PathLike | None = None,
        *,
        replace: bool = False,
        group: str = AUTO,
        unknown_level: float | None = None,
        progress: StageProgress = no_progress,
    ) -> Named:
        """Name kinds of rejects; verdicts have the kind from the next image on. The old version is kept.

        Parameters
        ----------
        names : mapping of str to str, optional
            New names by folder, such as "kind-01", or by earlier name; kinds with equal names become one.
        examples : path, optional
            Folder with a folder of rejects for each kind, as `sort` writes it. Without it, known kinds get new names.
        replace, group, unknown_level
            See `edgead.unlabelled.sorting.name_kinds.NamePlan`.

        Returns
        -------
        Named
            Show its `warnings()` to a person.

        Raises
        ------
        SettingsError
            A name or an example cannot be used, or the model's folder was changed since it was opened.
        """
        from edgead.unlabelled.sorting.name_kinds import NamePlan, name_kinds

        self._detector.artifact.check_unchanged()
        given = None if examples is None else named_path(examples)
        plan = NamePlan(names or {}, given, replace, group, unknown_level)
        named = name_kinds(self._detector.artifact.path, plan, progress=progress)
        self._follow(named.artifact)
        return named

    def _follow(self, artifact: Artifact) -> None:
        """Continue with the newly written artifact if it still has the graph that is open; otherwise close."""
        graph = self._detector.graph
        if graph.precision in artifact.precisions and artifact.graph(graph.precision).sha256 == graph.sha256:
            self._detector._take(artifact)
        else:
            self.close()  # the thresholds there are another graph's


_Opened.__name__ = Model.__name__  # which an AttributeError names
