"""Standalone ONNX file that computes map, score and decision from a decoded image.

The file contains all steps of `edgead.detector.Detector`: preprocessing, the network, the head, the map, the limits. No
file is written unless its verdicts on the model's golden images equal edgead's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from edgead.export.graph import load_graph
from edgead.export.layers import WEIGHTED
from edgead.export.onnx_nodes import PREFIX, Nodes
from edgead.export.rewrite import ExportError
from edgead.export.standalone_input import input_nodes
from edgead.export.standalone_score import check_head, score_nodes

from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import Manifest, Preprocessing
from edgead.artifact.preprocess import covered, hidden_in
from edgead.calibration.conformal import score_scale
from edgead.detector import Detector
from edgead.detector.golden_likeness import FormatCheck
from edgead.detector.joined_tiles import Mosaic
from edgead.errors import SettingsError
from edgead.files.atomic import write_whole
from edgead.heads.patches import PatchHead
from edgead.images.files import MAX_MEGAPIXELS
from edgead.kernels.maps import smoothing_bands

TOLERANCE = 1e-5
"""Largest relative difference: of the score (see `score_scale`), and of the map relative to its largest value.

OpenVINO fuses layers of an int8 graph differently inside a larger graph, and one code rounded differently changes more
than float32 rounding does: for these the tolerances of the graph's record hold.
"""

DECISIONS = ("ok", "review", "reject")
"""Decisions, in the order of the numbers of the output `decision`."""

IMAGE, MAP, SCORE, DECISION = "image", "anomaly_map", "image_score", "decision"
_FINITE = np.float32(3e38)
_NETWORK = "network/"
_AXES = 3  # of one image

Run = Callable[[np.ndarray], tuple[np.ndarray, float, int]]
"""Function from an image to map, score and decision."""


@dataclass(frozen=True, slots=True)
class Standalone:
    """Result of writing: the file's facts, and its largest differences from edgead on `images` golden images.

    `size` is width and height of the images that the file takes; `score_error` and `map_error` are the largest
    differences on the compared `runtimes`. `warning` states that another graph was calibrated later, that the model
    learnt images of another format, or that OpenVINO's values of an int8 graph differ; else it is empty.
    """

    file: Path
    bytes: int
    opset: int
    size: tuple[int, int]
    precision: str
    tiles: int
    map_size: tuple[int, int]
    runtimes: tuple[str, ...]
    images: int
    score_error: float
    map_error: float
    warning: str

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "file": str(self.file)}


def write_standalone(
    artifact: Artifact,
    file: Path,
    *,
    precision: str | None = None,
    size: tuple[int, int] | None = None,
    batch: bool = False,
) -> Standalone:
    """Write a graph that needs no edgead, after a check that it gives edgead's verdicts on the golden images.

    `file`: file to write, replaced if it exists.
    `precision`: precision of the graph and thresholds to use; by default the precision that the model opens.
    `size`: width and height of the images that the file takes; by default as the golden images have.
    `batch`: whether it takes any number of images, (n, height, width, 3), and judges one after the other.
    Raises SettingsError: the model has a step that a graph cannot express, or no such precision; golden images have
        several sizes, the size does not fit the model's region or is too large, or the file is inside the model.
    Raises ExportError: the graph decides differently from edgead, or scores or maps differ by more than `TOLERANCE`; no
        file is written then.
    """
    precision = precision or artifact.manifest.precision
    if file.resolve().is_relative_to(artifact.path.resolve()):
        raise SettingsError(f"{file} lies in the model, whose own files it could replace: name one elsewhere")
    check_model(artifact, precision)
    images = [artifact.image(golden.image) for golden in artifact.graph(precision).golden]
    if not images:
        raise SettingsError(f"{artifact.path} has no golden images to compare with: train it again")
    width, height = size or _size_of(images)
    if width * height > MAX_MEGAPIXELS * 1e6:
        raise SettingsError(f"--size {width}x{height}: images have at most {MAX_MEGAPIXELS:g} megapixels")
    # Resized golden images show the same scene: they test the arithmetic, not the verdict.
    images = [image if image.shape[:2] == (height, width) else cv2.resize(image, (width, height)) for image in images]
    model = standalone_graph(artifact, precision, (height, width))
    model = over_batch(model) if batch else model
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    runtimes = {"onnxruntime": run_by_onnxruntime}
    if find_spec("openvino") is not None and precision in ("fp32", "int8"):
        runtimes["openvino"] = run_by_openvino
    errors = [_compare(artifact, precision, name, open_run(content), images) for name, open_run in runtimes.items()]
    write_whole(file, content)
    sides = [side.dim_value for side in model.graph.output[0].type.tensor_type.shape.dim]
    worst = max(score for score, _ in errors), max(of_map for _, of_map in errors)
    unlike = FormatCheck(artifact, artifact.graph(precision).golden).misfit((height, width))
    warnings = [_calibrated_since(artifact.manifest, precision), unlike.text if unlike else ""]
    if max(worst) > TOLERANCE:
        warnings.append(
            f"on openvino scores differ from edgead's by {worst[0]:.1g} and maps by {worst[1]:.1g}, as it rounds int8 "
            "otherwise within a larger graph: run the file on onnxruntime, or write that of --precision fp32"
        )
    return Standalone(
        file=file,
        bytes=len(content),
        opset=next(each.version for each in model.opset_import if not each.domain),
        size=(width, height),
        precision=precision,
        tiles=_tiles_of(artifact.manifest.preprocessing, (height, width)),
        map_size=(sides[-1], sides[-2]),
        runtimes=tuple(runtimes),
        images=len(images),
        score_error=worst[0],
        map_error=worst[1],
        warning="; ".join(filter(None, warnings)),
    )


def _calibrated_since(manifest: Manifest, precision: str) -> str:
    """Warn if another graph was calibrated later than this precision's graph, on other images; else empty."""
    calibrated = [change for change in manifest.threshold_changes if change.verb == "calibrate"]
    last = next((change for change in reversed(calibrated) if change.precision in manifest.graphs), None)
    own = next((change for change in reversed(calibrated) if change.precision == precision), None)
    if last is own or last is None or (own and own.images and own.images_sha256 == last.images_sha256):
        return ""
    return (
        f"`edgead calibrate` made limits of {last.precision} later than those of {precision}, which are in the file: "
        f"calibrate with --precision {precision} and write it again, or write that of --precision {last.precision}"
    )


def check_model(artifact: Artifact, precision: str) -> None:
    """Raise SettingsError unless a graph can express everything that determines the model's verdicts."""
    spec, manifest = artifact.manifest.preprocessing, artifact.manifest
    if spec.keeps_depth:
        raise SettingsError(
            f"{artifact.path} reads {spec.colour}: a graph on its own takes decoded images of 8 bits; values with "
            "more are resized in another way, which is not written as nodes"
        )
    if spec.alignment is not None:
        raise SettingsError(
            f"{artifact.path} lays each part onto the golden one, by a search that takes another number of steps for "
            "each image: that cannot stand in a graph; train it without --align"
        )
    check_head(manifest.head)
    if artifact.graph(precision).calibration is None:
        raise SettingsError(f"{artifact.path} has no thresholds for {precision}: train it again")


def standalone_graph(artifact: Artifact, precision: str, shape: tuple[int, int]) -> onnx.ModelProto:
    """Make the graph for images of a shape (H, W); see `write_standalone`."""
    manifest, spec, head = artifact.manifest, artifact.manifest.preprocessing, artifact.manifest.head
    assert isinstance(head, PatchHead)
    limits = artifact.graph(precision).calibration
    assert limits is not None
    model = onnx.compose.add_prefix(load_graph(artifact, precision), _NETWORK)
    tiles = _tiles_of(spec, shape)
    sides = [side.dim_value for side in model.graph.output[0].type.tensor_type.shape.dim]
    before, after = Nodes(f"{PREFIX}in."), Nodes(f"{PREFIX}out.")
    before("Identity", input_nodes(before, IMAGE, spec, shape), name=f"{_NETWORK}{manifest.input}")
    outputs = {name: f"{_NETWORK}{name}" for name in manifest.outputs}
    scored = score_nodes(after, head, outputs, (tiles, *sides[1:]), artifact.head_arrays())
    map_shape = _map_nodes(after, scored.patch_scores, spec, head, (sides[1], sides[2]), shape)
    after("ReduceMax", scored.image_scores, np.array([0]), keepdims=0, name=SCORE)
    _decision_nodes(after, limits.review, limits.reject, scored.witness)
    graph = model.graph
    nodes = [*before.nodes, *_kept_in_float(graph, before), *after.nodes]
    graph.ClearField("node")
    graph.node.extend(nodes)
    graph.initializer.extend([*before.constants, *after.constants])
    for field in ("value_info", "input", "output"):
        graph.ClearField(field)
    make = onnx.helper.make_tensor_value_info
    graph.input.append(make(IMAGE, onnx.TensorProto.UINT8, [*shape, 3]))
    graph.output.extend(
        [
            make(MAP, onnx.TensorProto.FLOAT, map_shape),
            make(SCORE, onnx.TensorProto.FLOAT, [1]),
            make(DECISION, onnx.TensorProto.INT32, [1]),
        ]
    )
    said = {
        "input": f"{IMAGE}: uint8 BGR (height, width, channel), as OpenCV decodes files",
        "decisions": DECISIONS,
        "review": limits.review,
        "reject": limits.reject,
        "model": manifest.manifest_sha256,
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = "edgead.standalone", json.dumps(said)
    return model


def over_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make the graph for images (n, H, W, 3) from the graph for one image; outputs have n as first axis, too."""

    def listed(values: Iterable[onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
        kinds = [(value.name, value.type.tensor_type) for value in values]
        make = onnx.helper.make_tensor_value_info
        return [make(name, kind.elem_type, ["n", *(side.dim_value for side in kind.shape.dim)]) for name, kind in kinds]

    each = onnx.compose.add_prefix(model, "each/").graph  # names of a body are none of the graph around it
    outputs = [output.name for output in model.graph.output]
    scan = onnx.helper.make_node("Scan", [IMAGE], outputs, name=f"{PREFIX}each", body=each, num_scan_inputs=1)
    graph = onnx.helper.make_graph([scan], "verdicts", listed(model.graph.input), listed(model.graph.output))
    made = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    made.metadata_props.extend(model.metadata_props)
    return made


def _kept_in_float(graph: onnx.GraphProto, constants: Nodes) -> list[onnx.NodeProto]:
    """List the nodes of a network, with an identity before each layer that an int8 graph keeps in float.

    The identity stops ONNX Runtime from quantising the layer's weights, which edgead disables by an option
    (`edgead.runtime.ort.WITHOUT`) that other programs do not set.
    """
    dequantised = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    weights = {tensor.name for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type in WEIGHTED and node.input[0] in dequantised and node.input[1] in weights:
            same = Nodes(f"{node.name}.")
            node.input[0] = same("Clip", node.input[0], constants.constant(-_FINITE))
            nodes += same.nodes
        nodes.append(node)
    return nodes


def _tiles_of(spec: Preprocessing, shape: tuple[int, int]) -> int:
    if spec.tiles is None:
        return 1
    _, _, width, height = spec.region(shape)
    return len(spec.tiles.over((height, width)))


def _map_nodes(
    nodes: Nodes, scores: str, spec: Preprocessing, head: PatchHead, grid: tuple[int, int], shape: tuple[int, int]
) -> tuple[int, int]:
    """Add the nodes from patch scores (n, h, w) to the frame's map, linear along each axis; return the map's shape."""
    operators = [band.dense() for band in smoothing_bands(grid, spec.image_size, head.sigma_px, head.border)]
    if spec.tiles is None:
        operators = [each[shown] for each, shown in zip(operators, covered(spec, shape), strict=True)]
        tiles = 1, 1
    else:
        mosaic = Mosaic(spec, grid, shape)
        operators = mosaic.blended(*operators)
        tiles = operators[0].shape[1] // grid[0], operators[1].shape[1] // grid[1]
    rows, columns = (each.astype(np.float32) for each in operators)
    value = nodes("Transpose", nodes.reshape(scores, *tiles, *grid), perm=[0, 2, 1, 3])
    value = nodes.reshape(value, rows.shape[1], columns.shape[1])
    value = nodes("MatMul", nodes("MatMul", rows, value), np.ascontiguousarray(columns.T))
    map_shape = len(rows), len(columns)
    if spec.ignored is not None:
        ignored = hidden_in(spec.ignored, spec.roi, map_shape)
        counted = value if ignored.all() else nodes("Where", ignored, np.float32(np.inf), value)
        value = nodes("Where", ignored, nodes("ReduceMin", counted), value)
    nodes("Identity", value, name=MAP)
    return map_shape


def _decision_nodes(nodes: Nodes, review: float, reject: float, witness: str) -> None:
    """Add the nodes of the decision: 0 for ok, 1 for review, 2 for reject and for values that are not finite."""
    below = [
        nodes("Cast", nodes("LessOrEqual", SCORE, _just_below(limit)), to=onnx.TensorProto.INT32)
        for limit in (review, reject)
    ]
    worst = np.int32(len(DECISIONS) - 1)
    decided = nodes("Sub", nodes("Sub", worst, below[0]), below[1])
    finite = nodes("LessOrEqual", nodes("Abs", witness), _FINITE)
    nodes("Where", finite, decided, worst, name=DECISION)


def _just_below(limit: float) -> np.float32:
    """Return the largest float32 not above the limit, which a float32 score exceeds if it exceeds the limit."""
    rounded = np.float32(limit)
    return rounded if float(rounded) <= limit else np.nextafter(rounded, np.float32(-np.inf))


def _size_of(images: list[np.ndarray]) -> tuple[int, int]:
    sizes = sorted({image.shape[1::-1] for image in images})
    if len(sizes) != 1:
        found = ", ".join(f"{width}x{height}" for width, height in sizes)
        raise SettingsError(f"the golden images have {len(sizes)} sizes ({found}): say with --size which one it takes")
    return sizes[0]


def run_by_onnxruntime(content: bytes) -> Run:
    """Open a standalone graph with ONNX Runtime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    several = len(session.get_inputs()[0].shape) > _AXES

    def run(image: np.ndarray) -> tuple[np.ndarray, float, int]:
        anomaly_map, score, decision = session.run([MAP, SCORE, DECISION], {IMAGE: image[None] if several else image})
        return anomaly_map[0] if several else anomaly_map, score.item(), decision.item()

    return run


def run_by_openvino(content: bytes) -> Run:
    """Open a standalone graph with OpenVINO, on one thread, in float32, as by default it may use bfloat16."""
    import openvino

    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(content), "CPU", options)

    several = len(request.input(IMAGE).partial_shape) > _AXES

    def run(image: np.ndarray) -> tuple[np.ndarray, float, int]:
        given = request(image[None] if several else image)
        return given[MAP][0] if several else given[MAP], given[SCORE].item(), given[DECISION].item()

    return run


def _compare(
    artifact: Artifact, precision: str, runtime: str, run: Run, images: list[np.ndarray]
) -> tuple[float, float]:
    """Compute the largest differences of score and map from edgead on the same runtime."""
    score_errors, map_errors = [], []
    record, fused = artifact.manifest.graphs[precision], runtime != "onnxruntime" and precision == "int8"
    allowed = (record.score_tolerance, record.map_tolerance) if fused else (TOLERANCE, TOLERANCE)
    otherwise = "write that of --precision fp32" if fused else "please report it with the model"
    with Detector(artifact, runtime=runtime, precision=precision, threads=1) as detector:
        assert detector.graph.calibration is not None
        for image in images:
            anomaly_map, score, decision = run(image)
            verdict = detector.predict(image)
            if DECISIONS[decision] != verdict.decision:
                raise ExportError(
                    f"on {runtime}, edgead decides {verdict.decision} of a golden image, the graph "
                    f"{DECISIONS[decision]}: no file was written; {otherwise}"
                )
            scale = score_scale(verdict.image_score, detector.graph.calibration.scores)
            score_errors.append(float(abs(score - verdict.image_score) / scale))
            largest = max(float(np.abs(verdict.anomaly_map).max()), 1e-12)
            map_errors.append(float(np.abs(anomaly_map - verdict.anomaly_map).max()) / largest)
    worst = float(np.max(score_errors)), float(np.max(map_errors))  # keeps a NaN, unlike max()
    if not (worst[0] <= allowed[0] and worst[1] <= allowed[1]):
        raise ExportError(
            f"on {runtime}, scores differ from edgead's by {worst[0]:.2g} and maps by {worst[1]:.2g} of golden images, "
            f"more than {allowed[0]:g} and {allowed[1]:g}: no file was written; {otherwise}"
        )
    return worst
