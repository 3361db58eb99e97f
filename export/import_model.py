"""Import of another tool's model as a finished artifact: its wrapped graph, limits from good images, golden images.

Nothing is learnt. All good images are used for the limits, as in split conformal prediction: the false-reject rate
holds as for edgead's own models if the model has not learnt from these images, which the graph cannot show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from edgead.export.foreign import (
    CHANNELS,
    ForeignGraph,
    Input,
    Outputs,
    Run,
    check_format,
    check_pixels,
    find_layout,
    find_outputs,
    find_size,
    image_port,
)
from edgead.export.foreign_facts import GraphFacts, known_of
from edgead.export.foreign_ir import IrGraph
from edgead.export.foreign_onnx import OnnxGraph
from edgead.export.versions import export_versions

from edgead.adapt.finalize import CalibrationPlan, GoodScores, complete_artifact
from edgead.artifact.files import file_sha256
from edgead.artifact.folder import Artifact, check_destination, new_artifact
from edgead.artifact.inputs import Preprocessing
from edgead.artifact.manifest import Manifest, read_manifest
from edgead.artifact.preprocess import preprocess, read_frame
from edgead.artifact.training_hashes import content_sha256, keep_learnt
from edgead.calibration.conformal import score_scale
from edgead.calibration.plan import choose_rates
from edgead.dataset.folders import StageProgress, check_images, find_good_images, no_progress
from edgead.dataset.groups import AUTO, group_images
from edgead.dataset.layouts.registry import read_layout
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.heads import Head
from edgead.heads.map import MapHead
from edgead.heads.patches import NOT_FINITE
from edgead.workstation.methods.imported import IMPORTED

# Number of images on which the finished model is compared with the original graph, and the largest relative difference.
# Engines may compute in more bits than a graph demands.
COMPARED = 20
TOLERANCES = {"float16": 1e-3}
TOLERANCE = 1e-4
# Number of good images with the same highest score that shows clipping by the graph. Many tools clip at 1.
_TIED, _CUT_AT = 3, 1.0
_MIN_STD = 1e-6


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """User's settings for a graph; None or empty takes what the graph states. See `edgead.export.foreign.Input`.

    `outputs` names the `map` and the `score`, `size` is height and width.
    """

    outputs: Mapping[str, str | None] = field(default_factory=dict)
    colour: str | None = None
    layout: str | None = None
    white: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Good:
    """Good images that the model has not learnt from, and the rates of the limits.

    `data` and `normal_dir` are as for `edgead.dataset.folders.find_good_images`, `group` as for
    `edgead.dataset.groups.group_images`; rates as for `edgead.calibration.plan.choose_rates`. `roi` is the region of
    interest: x, y, width, height. `learnt` are images that the model has learnt from, recorded so that they never
    make limits.
    """

    data: Path
    normal_dir: str | None = None
    group: str = AUTO
    false_reject_rate: float | None = None
    review_rate: float | None = None
    skip_bad: bool = False
    roi: tuple[int, int, int, int] | None = None
    mm_per_pixel: float | None = None
    learnt: Sequence[Path] = ()


def import_model(
    path: Path, destination: Path, good: Good, asked: ImportSettings, *, progress: StageProgress = no_progress
) -> tuple[Artifact, list[str]]:
    """Make an artifact from another tool's graph.

    `path`: ONNX file, or XML file of an OpenVINO IR, for which the device needs OpenVINO.
    Returns (Artifact, list of str): the artifact, and messages on skipped images.
    Raises SettingsError: the file is no such graph, its inputs or outputs are unclear (says which option decides), or
        it clips scores of good images.
    Raises CalibrationError, DatasetError: the images cannot support the rate, or cannot be read.
    """
    check_destination(destination)
    graph = read_graph(path)
    known = known_of(graph)
    given = find_input(graph, known, asked)
    size = find_size(given.port, given.layout, asked.size)
    if good.normal_dir is None:
        _refuse_split(good.data)
    paths = find_good_images(good.data, good.normal_dir)
    _refuse_learnt(paths, good.learnt)
    choose_rates(len(paths), good.false_reject_rate, good.review_rate)
    shapes: set[tuple[int, ...]] = set()
    paths, problems, digest = check_images(
        paths,
        roi=good.roi,
        skip_bad=good.skip_bad,
        look=lambda _, image: shapes.add(image.shape[:2]),
        progress=partial(progress, "read images"),
    )
    groups = group_images(paths, good.group, good.data)
    rates = choose_rates(len(paths), good.false_reject_rate, good.review_rate, groups=groups.count)
    opened = _open(graph, known, asked, given, size or _own_size(shapes, good.roi))
    spec = Preprocessing(image_size=opened.size, roi=good.roi, mm_per_pixel=good.mm_per_pixel)
    facts = {
        "data": good.data.name,
        "data_sha256": digest,
        "training_images": len(good.learnt),
        "calibration_images": len(paths),
        "groups": groups.facts([], paths),
        "skipped_images": len(problems),
    }
    manifest = Manifest.draft(
        IMPORTED,
        spec,
        head_for(opened.outputs),
        graphs={"fp32": graph.record},
        training={"settings": {}, IMPORTED: opened.facts(graph, known, asked, size is None), **facts},
        versions=export_versions(),
    )
    with new_artifact(destination) as draft:
        graph.write(draft, manifest, given, opened.outputs)
        keep_learnt(draft, good.learnt, spec)
        plan = CalibrationPlan(paths, *rates, groups=groups.of(paths))
        try:
            scores = complete_artifact(draft, manifest, plan, progress=partial(progress, "calibrate"))
        except ValueError as error:
            if str(error) != NOT_FINITE:
                raise
            raise SettingsError(f"{path}, of a good image: {error}; export it again, in float32") from error
        draft_artifact = Artifact(draft, read_manifest(draft))
        _check_limits(draft_artifact, scores, paths)
        _check_same(draft_artifact, opened, paths[:COMPARED], progress)
    return Artifact.load(destination), problems


def _refuse_split(data: Path) -> None:
    listed = read_layout(data)
    if (data / "train").is_dir() or (listed is not None and listed.has_splits):
        what = "lists images to learn from" if listed is not None else "has a folder train"
        raise SettingsError(
            f"{data} {what}, from which the model has probably learnt: name a folder of other good images with --good, "
            "or with --normal-dir one below it, such as test/good"
        )


def _refuse_learnt(paths: Sequence[Path], learnt: Sequence[Path]) -> None:
    known = set(map(content_sha256, learnt))
    both = [path for path in paths if known and content_sha256(path) in known]
    if both:
        raise SettingsError(
            f"{len(both)} of {len(paths)} good images are among those that the model has learnt from, the first "
            f"{both[0]}: they score too low for a limit; give others with --good"
        )


def read_graph(path: Path) -> ForeignGraph:
    """Open a file of another tool; raises SettingsError for unsupported formats, and for edgead's own graphs."""
    check_format(path)
    graph = IrGraph(path) if path.suffix.lower() == ".xml" else OnnxGraph(path)
    if any(name.startswith("edgead.") for name in graph.properties):
        raise SettingsError(f"{path} is a graph of edgead's own: use the model's folder, which has its limits")
    return graph


def find_input(graph: ForeignGraph, known: GraphFacts, asked: ImportSettings) -> Input:
    """Determine the input format of a graph: as requested, or as recorded in its files.

    Raises SettingsError: the format is unknown (says which option sets it), or the requested one is impossible.
    """
    port = image_port(graph)
    layout = find_layout(port, asked.layout)
    colour = asked.colour or known.colour
    if colour is None:
        raise SettingsError(
            f"{graph.path} does not say in which order it takes colours: add --colour rgb or --colour bgr"
        )
    if port.dtype == "uint8":
        if asked.white is not None or asked.mean or asked.std:
            raise SettingsError(f"the graph takes {port}, images as they are: leave out --white, --mean and --std")
        return Input(port, layout, colour, 255.0)
    white = asked.white or known.white
    if white is None:
        raise SettingsError(
            f"{graph.path} does not say which values it takes: add --white 1 or --white 255, the value of white before "
            "--mean is subtracted and the result divided by --std; leave these two out where the graph does that"
        )
    mean, std = asked.mean or known.mean, asked.std or known.std
    if known.white not in (None, white) and ((known.mean and not asked.mean) or (known.std and not asked.std)):
        raise SettingsError(
            f"--white {white:g}: mean {list(known.mean)} and std {list(known.std)} of {known.source} are for white "
            f"{known.white:g}: give --mean and --std too (0 and 1 for none), or leave out --white"
        )
    sound = math.isfinite(white) and white > 0 and all(map(math.isfinite, (*mean, *std)))
    if not sound or not {len(mean), len(std)} <= {0, CHANNELS} or any(abs(one) < _MIN_STD for one in std):
        raise SettingsError(
            f"{graph.path} cannot be given values with white {white:g}, mean {list(mean)} and std {list(std)}: each "
            f"needs {CHANNELS} numbers, and nothing can be divided by 0; say others with --white, --mean and --std"
        )
    return Input(port, layout, colour, white, mean, std)


def head_for(outputs: Outputs) -> Head:
    """Make the head that uses the graph's scores and maps unchanged."""
    if outputs.both:
        return MapHead(sigma_px=0.0, patch_weight=0.0, graph_weight=1.0)
    return MapHead(sigma_px=0.0)


@dataclass(frozen=True, slots=True)
class Opened:
    """Original graph, opened for one input size, with the roles (map, score) of its outputs."""

    run: Run
    given: Input
    outputs: Outputs
    size: tuple[int, int]

    def score(self, image: np.ndarray, spec: Preprocessing) -> float:
        """Compute the original graph's score of a frame, uint8 BGR (H, W, 3)."""
        found = self.run(self.given.make(preprocess(image, spec)))
        return float(np.max(found[self.outputs.score or self.outputs.map or ""]))

    def facts(self, graph: ForeignGraph, known: GraphFacts, asked: ImportSettings, any_size: bool) -> dict[str, Any]:
        """Facts on the import for the manifest."""
        height, width = self.size
        of_asked = "what was asked" if asked.colour or asked.white else ""
        return {
            "file": graph.path.name,
            "sha256": file_sha256(graph.path),
            "format": graph.format,
            "producer": graph.producer,
            "input": f"{self.given.port.name}, {self.given.layout}, {self.given.colour}, {self.given.port.dtype}",
            **({"batch": self.given.batch} if self.given.batch > 1 else {}),
            "white": self.given.white,
            "mean": list(self.given.mean),
            "std": list(self.given.std),
            "input_known_from": "; ".join(filter(None, (of_asked, known.source))),
            "size": f"{width} x {height}, " + ("that of the images" if any_size else "that of the graph"),
            "map": self.outputs.map or "none",
            "score": self.outputs.score or "the highest value of the map",
        }


def _open(graph: ForeignGraph, known: GraphFacts, asked: ImportSettings, given: Input, size: tuple[int, int]) -> Opened:
    check_pixels(size)
    run = graph.open(given, size)
    outputs = find_outputs(run(given.make(np.zeros((*size, 3), np.uint8))), asked.outputs, known.outputs)
    if outputs.grid[0] > size[0] or outputs.grid[1] > size[1]:
        height, width = outputs.grid
        raise SettingsError(
            f"the map has {width} x {height} pixels, more than the input of {size[1]} x {size[0]}: name a larger one "
            f"with --size {height},{width}, or give larger images"
        )
    return Opened(run, given, outputs, size)


def _own_size(shapes: set[tuple[int, ...]], roi: Sequence[int] | None) -> tuple[int, int]:
    """Choose height and width for a graph that takes any size: the size of the images, or of the region."""
    if roi is not None:
        return roi[3], roi[2]
    if len(shapes) > 1:
        listed = ", ".join(f"{shape[1]} x {shape[0]}" for shape in sorted(shapes)[:4])
        raise SettingsError(
            f"the graph takes any size, and the images have several ({listed}): say which it is to be given with "
            "--size HEIGHT,WIDTH"
        )
    ((height, width),) = shapes
    return height, width


def _check_limits(artifact: Artifact, good: GoodScores, paths: Sequence[Path]) -> None:
    """Raise SettingsError if good images have the highest score that the graph can give, as no defect exceeds it.

    Equal scores may have other reasons, so images unlike any part are tested too: if these score higher, nothing is
    raised.
    """
    highest = max(good.scores)
    tied = sum(score == highest for score in good.scores)
    calibration = artifact.graph("fp32").calibration
    assert calibration is not None
    if calibration.reject < highest or (tied < _TIED and not highest <= _CUT_AT <= calibration.reject):
        return
    with Detector(artifact) as detector:
        image = detector.read_image(paths[0])
        noise = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
        others = [detector.measure(other).image_score for other in (255 - image, np.zeros_like(image), noise)]
    if max(others) <= calibration.reject:
        raise SettingsError(
            f"{tied} of {len(good.scores)} good images have the highest score, {highest:g}, and the limit would be "
            f"{calibration.reject:g}: the graph cuts scores off, so that no defect could have a higher one. Export it "
            "with scores that are not cut off; with anomalib, after `model.post_processor.enable_normalization = False`"
        )


def _check_same(artifact: Artifact, opened: Opened, paths: Sequence[Path], progress: StageProgress) -> None:
    """Raise SettingsError unless the finished model gives images the same scores as the original graph."""
    calibration = artifact.graph("fp32").calibration
    assert calibration is not None
    allowed = TOLERANCES.get(opened.given.port.dtype, TOLERANCE)
    with Detector(artifact) as detector:
        for done, path in enumerate(paths, 1):
            image = read_frame(path, artifact.manifest.preprocessing)
            expected = opened.score(image, artifact.manifest.preprocessing)
            found = detector.measure(image).image_score
            error = abs(found - expected) / float(score_scale(expected, calibration.scores))
            if not error <= allowed:
                raise SettingsError(
                    f"{path} scores {found:.6g} by the imported model and {expected:.6g} by the graph itself, "
                    f"{error:.2g} apart where {allowed:g} is allowed: the runtimes here compute it differently"
                )
            progress("compare with the graph", done, len(paths))
