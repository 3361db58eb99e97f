"""The manifest: everything about a finished detector, section by section; unknown keys are refused."""

from __future__ import annotations

import math
from datetime import datetime
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from edgead.artifact.limits import Limits

# 2 added the section `precisions`, 3 how thresholds were changed, 4 groups of images; everything before is still read.
SCHEMA_VERSION: Literal[4] = 4

# int8 is for CPUs: unsigned activations, whose zero points take the place of ReLU. int8_symmetric is for TensorRT,
# which takes no zero points.
PRECISIONS = ("fp32", "fp16", "int8", "int8_symmetric")

# What no sound model exceeds. A manifest is read before anything else is known of a model, so it must not be able to
# ask for memory or time without end.
MOST_GOLDEN = 100
MOST_FILES = 4096
MOST_PIXELS = 1 << 24  # of the network's input

PositiveInt = Annotated[int, Field(gt=0)]
_Side = Annotated[int, Field(gt=0, le=8192)]
_Score = Annotated[float, Field(ge=-1e30, le=1e30)]  # differences and sums of such are finite
_Weight = Annotated[float, Field(ge=0, le=1e6)]
Rate = Annotated[float, Field(gt=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Preprocessing(_Section):
    """How a frame becomes the network's input; see `edgead.preprocess`.

    A frame of other proportions than `image_size` is stretched, or keeps its own and the rest is filled with its
    reflection.
    """

    image_size: tuple[_Side, _Side]
    roi: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], PositiveInt, PositiveInt] | None = None
    resize: Literal["area_linear"] = "area_linear"
    fill: Literal["stretch", "reflect"] = "stretch"
    colour: Literal["rgb"] = "rgb"

    @field_validator("image_size")
    @classmethod
    def _bounded(cls, size: tuple[int, int]) -> tuple[int, int]:
        if math.prod(size) > MOST_PIXELS:
            raise ValueError(f"{size[0]} x {size[1]} pixels are too many for a network: at most {MOST_PIXELS}")
        return size


class Scoring(_Section):
    """How the network's output becomes scores; see `edgead.heads.scoring`.

    The image score is `patch_weight` x (score of the patches) + `graph_weight` x (the graph's own `image_score`). The
    score of the patches: patch scores are averaged over windows of `window` x `window` patches, and the `top_patches`
    largest averages are averaged; 1 and 1 give the maximum of the PatchCore paper. The `margin` outermost rings of
    patches, which see the network's padding more than the image, are not part of it; the map has them. With
    `reweight_neighbors` the score of the patches is multiplied by the weight of Roth et al. 2022, equation 7, from that
    many neighbours; 0 is without. `by_place`: places that usually score higher than the middle are
    brought down by what `usual_scores.npy` has; see `edgead.memory_bank.usual_scores`.
    A graph has an output `image_score` where `graph_weight` is not 0.
    """

    head: Literal["patch_nearest", "map"]
    num_neighbors: Annotated[int, Field(ge=1, le=16)] = 1
    window: PositiveInt = 1
    top_patches: PositiveInt = 1
    margin: Annotated[int, Field(ge=0)] = 0
    reweight_neighbors: Annotated[int, Field(ge=0, le=16)] = 0
    patch_weight: _Weight = 1.0
    graph_weight: _Weight = 0.0
    by_place: bool = False
    sigma_px: Annotated[float, Field(ge=0, le=1000)] = 4.0
    border: Literal["reflect", "replicate"] = "reflect"

    @model_validator(mode="after")
    def _scores_something(self) -> Scoring:
        if not self.patch_weight and not self.graph_weight:
            raise ValueError("patch_weight and graph_weight are 0: every image would score 0")
        if self.reweight_neighbors and self.head != "patch_nearest":
            raise ValueError(f"reweight_neighbors needs the rows of a memory bank, the head {self.head!r} has none")
        return self


# split_conformal and, by group, group_conformal keep their rates by proof; cross_validated by experience, for what
# ships is not what was scored; extrapolated trusts a fitted tail; by_hand promises nothing.
CalibrationMethod = Literal["split_conformal", "group_conformal", "cross_validated", "extrapolated", "by_hand"]

PROVEN: tuple[CalibrationMethod, ...] = ("split_conformal", "group_conformal")


class TailFit(_Section):
    """The distribution that a threshold was extrapolated by; see `edgead.calibration.extreme_value`.

    Of the scores, `excesses` are above `over`. The true rate is expected from `rate_low` to `rate_high` (90 %).
    """

    over: float
    excesses: PositiveInt
    shape: float
    scale: Annotated[float, Field(gt=0)]
    anderson_darling: float
    fit_p_value: Annotated[float, Field(gt=0, le=1)]
    rate_low: float
    rate_high: float


class Thresholds(Limits):
    """Two thresholds, how they were found and the rates that they are for."""

    method: CalibrationMethod = "split_conformal"
    false_reject_rate: Rate
    review_rate: Rate


class Calibration(Thresholds):
    """Thresholds and the good images' scores that they come from, ascending; see `edgead.calibration.conformal`.

    The rates of thresholds that were set by hand are what the scores say of them. `groups` has the group of each score;
    it is empty where each image is its own.
    """

    map_threshold: float
    map_typical: float
    scores: Annotated[list[_Score], Field(min_length=1)]
    groups: list[int] = []
    tail: TailFit | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Calibration:
        if any(later < earlier for earlier, later in pairwise(self.scores)):
            raise ValueError("the scores do not ascend: where a score ranks among them would be wrong")
        if self.groups and len(self.groups) != len(self.scores):
            raise ValueError(f"{len(self.scores)} scores have {len(self.groups)} groups")
        return self


class ThresholdChange(_Section):
    """One change of a graph's thresholds on the device.

    `images` good images with the hash `images_sha256` were scored, none for thresholds set by hand;
    `same_scores_p_value` compares their scores with those of the calibration before.
    """

    changed_at: datetime
    precision: str
    images: Annotated[int, Field(ge=0)] = 0
    images_sha256: str = ""
    same_scores_p_value: float | None = None
    before: Thresholds
    after: Thresholds


class Golden(_Section):
    """One real image with what the shipped detector said of it; paths are inside the artifact."""

    image: str
    anomaly_map: str
    image_score: _Score


GoldenImages = Annotated[list[Golden], Field(max_length=MOST_GOLDEN)]


class PrecisionRecord(_Section):
    """A graph of another precision than fp32, how it was made and what it promises.

    `score_tolerance` and `map_tolerance` bound how far its scores and maps may be from those of the torch network, as
    means of relative differences (`edgead.export.verify`); `method` tells how it was made and what was measured.
    """

    graph: str
    calibration: Calibration | None = None
    golden: GoldenImages = []
    score_tolerance: Annotated[float, Field(gt=0)]
    map_tolerance: Annotated[float, Field(gt=0)]
    method: dict[str, Any] = {}


class Manifest(_Section):
    schema_version: Literal[1, 2, 3, 4] = SCHEMA_VERSION
    detector: str
    precision: str = "fp32"
    preprocessing: Preprocessing
    scoring: Scoring
    input: str = "image"
    output: Literal["features", "patch_scores"]
    calibration: Calibration | None = None
    golden: GoldenImages = []
    precisions: dict[str, PrecisionRecord] = {}
    threshold_changes: list[ThresholdChange] = []
    training: dict[str, Any] = {}
    versions: dict[str, str] = {}
    files: Annotated[dict[str, str], Field(max_length=MOST_FILES)] = {}
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
        needed = "features" if self.scoring.head == "patch_nearest" else "patch_scores"
        if self.output != needed:
            raise ValueError(f"the head {self.scoring.head!r} scores {needed}, the output is {self.output!r}")
        if self.precision not in ("fp32", *self.precisions):
            raise ValueError(f"the precision {self.precision!r} has no graph")
        unknown = self.precisions.keys() - set(PRECISIONS)
        if unknown:
            raise ValueError(f"unknown precision {min(unknown)!r}: known are {', '.join(PRECISIONS)}")
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs: what patches are scored by, then `image_score` if the graph has it."""
        return (self.output, "image_score") if self.scoring.graph_weight else (self.output,)

    @property
    def graph_properties(self) -> dict[str, str]:
        """What belongs to the graph itself: a lone ONNX file then still tells how to feed it and to read it.

        Thresholds and hashes stay out: they change after the export.
        """
        return {
            "edgead.detector": self.detector,
            "edgead.precision": self.precision,
            "edgead.preprocessing": self.preprocessing.model_dump_json(),
            "edgead.scoring": self.scoring.model_dump_json(),
        }
