"""Facts on a graph's input that tools record: names of outputs, metadata.json, properties of the file.

Three tools are known. anomalib 2 puts resizing and normalisation into the graph, takes RGB from 0 to 1, and names the
outputs; before 1.0 a `metadata.json` beside the graph had the normalisation as a transform of albumentations. OpenVINO
Model API writes `model_info` into an IR: https://github.com/open-edge-platform/model_api. ONNX files may state colours
and ranges of images: https://github.com/onnx/onnx/blob/main/docs/MetadataProps.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgead.export.foreign import MAX_WHITE, OF_ANOMALIB, ForeignGraph

from edgead.errors import SettingsError
from edgead.files.regular_files import MissingFileError, UnreadableFileError, read_regular

METADATA = "metadata.json"
ANOMALIB = "anomalib"
_MAX_BYTES = 1 << 20
_OF_ANOMALIB = {"map": "anomaly_map", "score": "pred_score"}
# Keys of anomalib's metadata.json before 2.0; any of them identifies it.
_THRESHOLDS = {"image_threshold", "pixel_threshold"}
_COLOURS = {"Rgb8": "rgb", "Bgr8": "bgr"}
_RANGES = {"NominalRange_0_255": MAX_WHITE, "Normalized_0_1": 1.0}


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """Facts found in the files; None or empty if unknown.

    `source` describes where the facts were read, `outputs` names the map and the score; the rest is as in
    `edgead.export.foreign.Input`.
    """

    source: str = ""
    colour: str | None = None
    white: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)


def known_of(graph: ForeignGraph) -> GraphFacts:
    """Read the facts on a graph's input from the graph itself, or from a file beside it."""
    metadata = _metadata(graph.path)
    if metadata is not None and isinstance(metadata.get("transform"), Mapping):
        return _of_transform(metadata["transform"], graph.path.with_name(METADATA))
    if metadata is not None and _THRESHOLDS & metadata.keys():
        return GraphFacts(f"{METADATA} of {ANOMALIB}: the graph normalises", "rgb", 1.0)
    names = set(graph.output_names)
    if names <= OF_ANOMALIB and names & set(_OF_ANOMALIB.values()):
        return GraphFacts(
            f"the names of its outputs, those of {ANOMALIB}: the graph normalises", "rgb", 1.0, outputs=_OF_ANOMALIB
        )
    if "mean_values" in graph.properties or "reverse_input_channels" in graph.properties:
        return _of_model_api(graph)
    colour, white = (graph.properties.get(f"Image.{name}") for name in ("BitmapPixelFormat", "NominalPixelRange"))
    found = GraphFacts("properties of the file", _COLOURS.get(colour or ""), _RANGES.get(white or ""))
    return found if found.colour or found.white else GraphFacts()


def _metadata(path: Path) -> dict[str, Any] | None:
    """Read the metadata.json beside the graph; None if there is none, or it is of another tool."""
    try:
        content = json.loads(read_regular(path.with_name(METADATA), _MAX_BYTES))
    except MissingFileError:
        return None
    except (UnreadableFileError, ValueError, RecursionError) as error:
        raise SettingsError(
            f"{path.with_name(METADATA)} lies beside the graph and cannot be read ({error}): move it away, and say "
            "with --colour, --white, --mean and --std what the graph takes"
        ) from error
    return content if isinstance(content, dict) else None


def _of_transform(transform: Mapping[str, Any], path: Path) -> GraphFacts:
    """Parse a transform of albumentations as written by anomalib: Resize, Normalize, ToTensorV2.

    Raises SettingsError: it has other steps, or values that are no numbers.
    """
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    white = 1.0
    for step in _steps(transform):
        name = str(step.get("__class_fullname__", "")).rpartition(".")[2]
        if name == "Normalize":
            try:
                mean, std = (tuple(map(float, step[key])) for key in ("mean", "std"))
                white = MAX_WHITE / float(step.get("max_pixel_value", MAX_WHITE))
            except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
                raise SettingsError(f"{path} has a step Normalize without numbers that can be used: {error}") from error
        elif name not in ("Resize", "ToTensorV2"):
            raise SettingsError(
                f"{path} has a step {name or 'without a name'}, which edgead does not do: export the model with a "
                "newer anomalib, which has all steps in the graph"
            )
    return GraphFacts(f"the transform in {METADATA} of {ANOMALIB}", "rgb", white, mean, std)


def _steps(transform: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    inner = transform.get("transform", transform)
    steps = inner.get("transforms", [inner]) if isinstance(inner, Mapping) else []
    return [step for step in steps if isinstance(step, Mapping)]


def _of_model_api(graph: ForeignGraph) -> GraphFacts:
    """Parse `model_info`: images are BGR from 0 to 255 unless it states that channels are reversed."""
    info = graph.properties
    colour = "rgb" if info.get("reverse_input_channels", "").lower() in ("yes", "true", "1") else "bgr"
    try:
        mean, std = (tuple(map(float, info.get(name, "").split())) for name in ("mean_values", "scale_values"))
    except ValueError as error:
        raise SettingsError(f"{graph.path} says of itself what is no number: {error}") from error
    return GraphFacts("model_info in the file, as OpenVINO Model API writes it", colour, MAX_WHITE, mean, std)
