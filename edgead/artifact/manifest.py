"""Manifest of a finished detector: the sections, and the reading of the file, whose content is protected by a hash.

Unknown keys are refused.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from edgead.artifact.files import ArtifactError, not_a_model, refuse_missing
from edgead.artifact.inputs import Preprocessing, TensorInput
from edgead.artifact.kinds import Kinds
from edgead.artifact.limits import HIGHEST, LOWEST, Limits
from edgead.artifact.strict_section import StrictSection
from edgead.errors import tell_invalid
from edgead.files.regular_files import MissingFileError, UnreadableFileError, read_regular
from edgead.heads import Head, HeadError, read_head
from edgead.types import VALUES

SCHEMA_VERSION: Literal[5] = 5

# int8 is for CPUs: unsigned activations, whose zero points take the place of ReLU. int8_symmetric is for TensorRT,
# which takes no zero points.
PRECISIONS = ("fp32", "fp16", "int8", "int8_symmetric")

# Limits that no sound model exceeds. A manifest is read before anything else of a model is checked, so it must not be
# able to demand unbounded memory or time.
MAX_GOLDEN = 100
MAX_FILES = 4096
# Twenty times the tolerance of an int8 graph: with more the self-test would test nothing.
MAX_TOLERANCE = 0.2

_Score = Annotated[float, Field(ge=LOWEST, le=HIGHEST)]  # sums and differences of two such values are still finite
Rate = Annotated[float, Field(gt=0, le=1)]


# split_conformal and, by group, group_conformal keep their rates by proof. cross_conformal keeps its rate by
# experience: a detector learnt from the other images scores each good one, and the shipped one has learnt from all;
# cross_validated is the same with separately trained detectors. unlabelled keeps the rate if no more parts were
# defective than stated. by_hand guarantees nothing: a person set the thresholds, or a lesson moved them without the
# images they came from. none: no good image was scored yet, so everything goes to review.
CalibrationMethod = Literal[
    "split_conformal",
    "group_conformal",
    "cross_conformal",
    "cross_validated",
    "unlabelled",
    "by_hand",
    "none",
]

PROVEN: tuple[CalibrationMethod, ...] = ("split_conformal", "group_conformal")
# Their scores come from detectors that learnt a little less than the shipped one, and are a little higher.
CROSS: tuple[CalibrationMethod, ...] = ("cross_conformal", "cross_validated")
# Methods whose thresholds can be recalibrated from good images alone.
FROM_GOOD: tuple[CalibrationMethod, ...] = (*PROVEN, "cross_conformal")
MANIFEST = "manifest.json"
_MAX_BYTES = 16 << 20


class Thresholds(Limits):
    """Two thresholds, the method that found them and the false reject rates that they are set for."""

    method: CalibrationMethod = "split_conformal"
    false_reject_rate: Rate
    review_rate: Rate


class VolumeCalibration(Limits):
    """Thresholds of whole volumes, for the same rates as the slices' thresholds, and ascending scores of good volumes.

    `groups` has the group of each volume; it is empty if every volume is a group of its own. See
        `edgead.calibration.volumes`.
    """

    scores: Annotated[list[_Score], Field(min_length=1)]
    groups: list[int] = []


class Calibration(Thresholds):
    """Thresholds and the scores of good images that they come from, ascending; see `edgead.calibration.conformal`.

    For thresholds that were set by hand, the rates are estimated from the scores. `groups` has the group of each score;
    it is empty if every image is a group of its own. `most_defective` is the largest share of the images, or of the
    groups, that may be defective, as the user stated: 0 if all are known to be good. `volumes` has the thresholds of
    whole volumes, if images are slices. Without scores (`method` "none", until thresholds are set by hand) rates and
    p-values are 1.
    """

    map_threshold: float
    map_typical: float
    scores: list[_Score]
    groups: list[int] = []
    most_defective: Annotated[float, Field(ge=0, lt=1)] = 0.0
    volumes: VolumeCalibration | None = None

    @model_serializer(mode="wrap")
    def _without_unused(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit `volumes` if there are none, so that manifests without them keep their bytes and hashes."""
        return {name: value for name, value in plain(self).items() if value is not None or name != "volumes"}

    @model_validator(mode="after")
    def _fits_together(self) -> Calibration:
        if any(later < earlier for earlier, later in pairwise(self.scores)):
            raise ValueError("the scores do not ascend: where a score ranks among them would be wrong")
        if self.groups and len(self.groups) != len(self.scores):
            raise ValueError(f"{len(self.scores)} scores have {len(self.groups)} groups")
        if not self.scores and self.method not in ("none", "by_hand"):
            raise ValueError(f"{self.method} thresholds come from scores, there are none")
        if self.method == "none" and (self.scores or (self.review, self.reject) != (LOWEST, HIGHEST)):
            raise ValueError("there are thresholds or scores, and yet the method is none")
        return self

    @property
    def typical(self) -> float | None:
        """The median of the scores: 0 on the scale of `edgead.types.scaled_score`; None without scores."""
        count = len(self.scores)
        return (self.scores[(count - 1) // 2] + self.scores[count // 2]) / 2 if count else None

    @classmethod
    def none_yet(cls, map_threshold: float, map_typical: float) -> Calibration:
        """Make a calibration without scores: every image goes to review; the map's levels only serve the display."""
        return cls(
            method="none",
            review=LOWEST,
            reject=HIGHEST,
            false_reject_rate=1.0,
            review_rate=1.0,
            map_threshold=map_threshold,
            map_typical=map_typical,
            scores=[],
        )


class ThresholdChange(StrictSection):
    """Record of one change of a graph's thresholds on the device: the command and, if given, who made it and why.

    `images` is the number of good images that were scored and `images_sha256` their hash: 0 for thresholds set by hand,
    or moved by a lesson without images of its own. With `kept`, the model keeps the images of this calibration.
    `same_scores_p_value` compares the images' scores with the scores of the previous calibration. `doubts` are the
    warnings about the new thresholds, see `edgead.calibration.blind`; `reason` is why the user accepted them
    nevertheless.
    """

    changed_at: datetime
    precision: str
    verb: Literal["calibrate", "teach"] = "calibrate"
    by: str = ""
    images: Annotated[int, Field(ge=0)] = 0
    images_sha256: str = ""
    kept: bool = False
    same_scores_p_value: float | None = None
    doubts: list[str] = []
    reason: str = ""
    before: Thresholds
    after: Thresholds

    @property
    def author(self) -> str:
        """Name to show for who or what changed the thresholds."""
        return f"edgead {self.verb}" + (f" ({self.by})" if self.by else "")


class Golden(StrictSection):
    """Golden image: a real image and the score that the shipped detector gave it; paths are inside the artifact."""

    image: str
    anomaly_map: str
    image_score: _Score


class Kept(StrictSection):
    """Good image that the model keeps, so that thresholds can be recalibrated when the memory bank changes.

    `image` is the path inside the artifact, `image_score` the score by the graph that was learnt. A learnt image has
    the number of its `fold`, which is left out when it is scored; images of one part have the same `group`.
    """

    image: str
    group: Annotated[int, Field(ge=0)]
    fold: Annotated[int, Field(ge=0)] | None = None
    image_score: _Score


class CameraView(StrictSection):
    """Brightness and sharpness relative to the golden images, and the centroid of all edges in pixels of the image."""

    brightness: _Score
    sharpness: _Score
    x_px: _Score
    y_px: _Score


GoldenImages = Annotated[list[Golden], Field(max_length=MAX_GOLDEN)]


class GraphRecord(StrictSection):
    """Record of one graph: its files, how it was made and how closely it follows the torch network.

    `score_tolerance` and `map_tolerance` bound how far scores and maps may be from the torch network's
    (`edgead.export.verify`): the largest relative differences for fp32, the mean ones for other precisions. `method`
    says how the graph was made and what was measured. `arrays` names the manifest's arrays that are its inputs after
    the image. With a file of `constants` the graph is an OpenVINO IR, which only OpenVINO loads; otherwise it is ONNX.
    """

    file: str = "model.onnx"
    constants: str | None = None
    arrays: tuple[str, ...] = ()
    calibration: Calibration | None = None
    golden: GoldenImages = []
    score_tolerance: Annotated[float, Field(gt=0, le=MAX_TOLERANCE)] = 1e-4
    map_tolerance: Annotated[float, Field(gt=0)] = 1e-3
    method: dict[str, Any] = {}

    @model_serializer(mode="wrap")
    def _without_unused(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit `constants` if there are none, so that manifests without them keep their bytes and hashes."""
        return {name: value for name, value in plain(self).items() if value is not None or name != "constants"}


def _known_head(content: object) -> Head:
    try:
        return read_head(content)
    except ValidationError as error:  # of the head's own options: nested in another one it would lose their names
        raise ValueError(tell_invalid(error.errors()[:1])) from error


LearnsFrom = Literal["good", "unlabelled", "nothing"]


class Manifest(StrictSection):
    """Content of manifest.json: everything that a device needs to know of a model.

    Attributes
    ----------
    precision : str
        Precision of the graph that is opened by default.
    inputs : tuple of TensorInput
        Inputs of the graph; today exactly one.
    head : Head
        Options of the head, which turns outputs into scores; `kind` names the head.
    learnt_in : str
        Precision of the graph that the model was learnt with: arrays and limits are based on its outputs. This graph
        is always present.
    graphs : dict of GraphRecord
        The graphs, by precision.
    arrays : dict of str
        Files of learnt arrays, by name: arrays that the head needs, and arrays that are inputs of graphs.
    learns_from : {"good", "unlabelled", "nothing"}
        Kind of images that the method learns from.
    kinds : Kinds
        The kinds of rejects that the model knows; None if nobody named any.
    kept : list of Kept
        Good images that the model keeps, in the order of their scores; see `edgead.adapt.kept_images`.
    views : list of CameraView
        Camera views of good images, one of each group, with which a camera's first images are compared.
    """

    schema_version: Literal[5] = SCHEMA_VERSION
    detector: str
    precision: str = "fp32"
    learnt_in: str = "fp32"
    inputs: Annotated[tuple[TensorInput, ...], Field(min_length=1, max_length=1)]
    head: Annotated[SerializeAsAny[Head], BeforeValidator(_known_head)]
    graphs: dict[str, GraphRecord] = {"fp32": GraphRecord()}
    arrays: dict[str, str] = {}
    learns_from: LearnsFrom = "good"
    kinds: Kinds | None = None
    kept: Annotated[list[Kept], Field(max_length=MAX_FILES)] = []
    views: Annotated[list[CameraView], Field(max_length=MAX_FILES)] = []
    threshold_changes: list[ThresholdChange] = []
    training: dict[str, Any] = {}
    versions: dict[str, str] = {}
    files: Annotated[dict[str, str], Field(max_length=MAX_FILES)] = {}
    manifest_sha256: str = ""

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or len(name) > 255 or not name.isprintable():
                raise ValueError(f"{name[:80]!r} is outside the model, or no name of a file: do not use it")
        return files

    @model_validator(mode="after")
    def _fits_together(self) -> Manifest:
        for precision in (self.learnt_in, self.precision):
            if precision not in self.graphs:
                raise ValueError(f"the precision {precision!r} has no graph")
        unknown = self.graphs.keys() - set(PRECISIONS)
        if unknown:
            raise ValueError(f"unknown precision {min(unknown)!r}: known are {', '.join(PRECISIONS)}")
        needs = {f"head {self.head.kind!r}": self.head.arrays}
        needs |= {f"{precision} graph": record.arrays for precision, record in self.graphs.items()}
        for what, names in needs.items():
            for name in names:
                if name not in self.arrays:
                    raise ValueError(f"the {what} needs the array {name!r}, there is none")
                if names.count(name) > 1 or name == self.input:
                    raise ValueError(f"the {what} takes {name!r} twice")
        return self

    @classmethod
    def draft(
        cls, detector: str, preprocessing: Preprocessing, head: Head, *, learnt_in: str = "fp32", **sections: Any
    ) -> Manifest:
        """Make the manifest of a new detector: one input, and one file for each array of the head and the graphs."""
        of_graphs = [name for record in sections.get("graphs", {}).values() for name in record.arrays]
        arrays = {name: f"{name}.npy" for name in (*head.arrays, *of_graphs)}
        plane = VALUES if preprocessing.keeps_depth else "image"
        inputs = (TensorInput(plane=plane, preprocessing=preprocessing),)
        sections = {"precision": learnt_in, "learnt_in": learnt_in, "graphs": {learnt_in: GraphRecord()}, **sections}
        return cls(detector=detector, inputs=inputs, head=head, arrays=arrays, **sections)

    @property
    def input(self) -> str:
        """Name of the graph's input."""
        return self.inputs[0].name

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of the graph's input."""
        return self.inputs[0].preprocessing

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs, `output` first."""
        return tuple(output.name for output in self.head.outputs)

    @property
    def output(self) -> str:
        """Name of the output from which patches are scored."""
        return self.outputs[0]

    @model_serializer(mode="wrap")
    def _without_usual(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit `learnt_in` if it is fp32, so that such manifests keep their bytes and hashes."""
        return {name: value for name, value in plain(self).items() if name != "learnt_in" or value != "fp32"}

    @property
    def learnt_graph(self) -> GraphRecord:
        """Record of the graph that the model was learnt with."""
        return self.graphs[self.learnt_in]

    @property
    def of_several(self) -> bool:
        """Whether the model learnt several products: from a folder each, or from images that look like two."""
        return "two_products" in self.training or self.training.get("groups", {}).get("rule") == "folders"

    def with_graph(self, precision: str, **changes: Any) -> Manifest:
        """Return a copy with changes to the record of one graph."""
        record = self.graphs[precision].model_copy(update=changes)
        return self.model_copy(update={"graphs": {**self.graphs, precision: record}})

    def with_preprocessing(self, **changes: Any) -> Manifest:
        """Return a copy with changes to the preprocessing."""
        (only,) = self.inputs
        spec = only.preprocessing.model_copy(update=changes)
        return self.model_copy(update={"inputs": (only.model_copy(update={"preprocessing": spec}),)})

    @property
    def graph_properties(self) -> dict[str, str]:
        """Properties to store in the ONNX file, so that programs can feed it and read the outputs without the manifest.

        Thresholds and hashes are not among them: they change after the export.
        """
        return {
            "edgead.detector": self.detector,
            "edgead.precision": self.precision,
            "edgead.preprocessing": self.preprocessing.model_dump_json(),
            "edgead.scoring": self.head.model_dump_json(),
        }


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a folder; raises ArtifactError if it is missing or cannot be used."""
    file = path / MANIFEST
    try:
        text = read_regular(file, _MAX_BYTES).decode()
        content = json.loads(text)
        version = content["schema_version"]
        if type(version) is not int:  # True equals 1
            raise TypeError("schema_version is no whole number")
        digest = content.pop("manifest_sha256", None)
        found = content_sha256(content)
    except MissingFileError:
        refuse_missing(path)
        raise not_a_model(path, f"it holds no {MANIFEST}") from None
    except UnreadableFileError as error:
        if path.is_file():
            raise ArtifactError(f"{path} is a file, and a model a folder: load {path.parent}") from None
        raise ArtifactError(f"{file} {error}: let this user read it, or copy the model again") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{file} cannot be read ({error}): it is damaged; copy the model again") from error
    if version > SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} was written by a newer edgead (schema {version}, this one reads {SCHEMA_VERSION}): "
            "update edgead with `pip install -U edgead`"
        )
    if version < SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} was written by an earlier edgead (schema {version}, this one reads {SCHEMA_VERSION}): train it "
            f"again with `edgead train DATA -o {path}`"
        )
    if digest != found:
        raise ArtifactError(f"{file} is not what was written: it was edited or damaged; copy the model again")
    try:
        return Manifest.model_validate({**content, "manifest_sha256": digest})
    except ValidationError as error:
        (first, *_) = error.errors()
        if isinstance(first.get("ctx", {}).get("error"), HeadError):  # the model may be sound
            raise ArtifactError(f"{file}: {tell_invalid([first])}") from error
        raise ArtifactError(f"{file}: {tell_invalid([first])}; train the model again") from error


def content_sha256(content: dict[str, Any]) -> str:
    """Hash the manifest's content, independent of the layout of its text."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
