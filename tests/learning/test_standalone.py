"""A verdict in one file: the input bit by bit, the heads, the whole graph beside edgead, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="export needs the workstation's packages")

import cv2
import onnx
from command_line import run_here
from edgead.export import standalone
from edgead.export.calibration_images import find_calibration_images
from edgead.export.onnx_nodes import Nodes
from edgead.export.precision import PrecisionPlan, add_precision
from edgead.export.rewrite import ExportError
from edgead.export.standalone_input import input_nodes
from edgead.export.standalone_score import check_head, score_nodes
from fakes import edit_manifest
from system_packages import require

import edgead
from edgead.adapt.recalibrate import threshold_change, thresholds_by_hand, write_thresholds
from edgead.artifact.folder import Artifact
from edgead.artifact.inputs import Ignored, Preprocessing
from edgead.artifact.preprocess import Aligned, inputs_of, map_of_frame, preprocess
from edgead.artifact.tiling import Tiling
from edgead.detector import Detector
from edgead.detector.joined_tiles import Mosaic
from edgead.errors import SettingsError
from edgead.heads.known_defects import DEFECT_KINDS, DEFECTS, KnownDefects
from edgead.heads.local import LocalHead
from edgead.heads.map import MapHead
from edgead.heads.nearest import BANK, NearestHead
from edgead.heads.patches import GRAPH_SCORE, USUAL

SHAPES = [
    # (source, target): shrinking in whole numbers, by OpenCV with whole and with broken factors, growing, and both.
    ((150, 211), (32, 40)),
    ((96, 128), (32, 32)),
    ((64, 80), (32, 40)),
    ((64, 40), (32, 40)),
    ((70, 93), (32, 40)),
    ((20, 33), (32, 40)),
    ((90, 20), (32, 40)),
    ((20, 200), (32, 40)),
    ((32, 40), (32, 40)),
]
SHAPE = (60, 75)
IGNORED = Ignored(frame_size=SHAPE, polygons=(((0, 0), (40, 4), (30, 50)), ((60, 55), (74, 59), (70, 40))))
CHECKOUT = Path(__file__).parents[2]
SAMPLE = CHECKOUT / "deploy" / "standalone" / "verdict.cpp"
PAGE = CHECKOUT / "docs" / "assets" / "in-a-browser.html"


def _run(nodes: Nodes, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[list[np.ndarray]]:
    """What each installed runtime makes of a graph: ONNX Runtime, and OpenVINO."""
    import onnxruntime

    make = onnx.helper.make_tensor_value_info
    kinds = {name: onnx.helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in inputs.items()}
    graph = onnx.helper.make_graph(
        nodes.nodes,
        "test",
        [make(name, kinds[name], array.shape) for name, array in inputs.items()],
        [onnx.helper.make_empty_tensor_value_info(name) for name in outputs],
        nodes.constants,
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    content = onnx.shape_inference.infer_shapes(made).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    found = [onnxruntime.InferenceSession(content, options).run(outputs, inputs)]
    if find_spec("openvino"):
        import openvino

        core = openvino.Core()
        compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        given = compiled(inputs)
        found.append([given[name] for name in outputs])
    return found


def _check_input(spec: Preprocessing, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = np.stack([preprocess(image, one) for one in inputs_of(spec, shape)])
    nodes = Nodes()
    value = input_nodes(nodes, "image", spec, shape)
    for (found,) in _run(nodes, {"image": image}, [value]):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("source", "target"), SHAPES)
def test_the_input_is_that_of_preprocess_bit_by_bit(source, target):
    _check_input(Preprocessing(image_size=target), source)


@pytest.mark.parametrize(
    "spec",
    [
        Preprocessing(image_size=(32, 32), fill="reflect"),
        Preprocessing(image_size=(32, 40), roi=(3, 5, 50, 41)),
        Preprocessing(image_size=(16, 16), tiles=Tiling(size=(30, 30), overlap=(6, 8))),
        Preprocessing(
            image_size=(20, 20),
            tiles=Tiling(size=(20, 20), overlap=(4, 4)),
            roi=(2, 3, 60, 50),
            ignored=IGNORED,
        ),
    ],
    ids=["reflect", "region", "tiles", "tiles, region, ignored"],
)
def test_the_input_of_parts_of_an_image(spec):
    _check_input(spec, SHAPE)


def test_sums_beyond_float32_are_split_and_those_that_cannot_be_are_refused():
    _check_input(Preprocessing(image_size=(16, 16)), (311, 401))  # units: 311 x 401, sums up to 3e7
    with pytest.raises(SettingsError, match="float32 does not hold"):
        input_nodes(Nodes(), "image", Preprocessing(image_size=(64, 64)), (4001, 3001))


def _heads() -> dict[str, tuple]:
    """Heads, with the arrays and the outputs of three images on a grid of 7 x 9."""
    rng = np.random.default_rng(3)
    bank = (rng.normal(size=(80, 12)) * 3 + 40).astype(np.float32)
    features = (bank[rng.integers(0, 80, 3 * 63)] + rng.normal(size=(189, 12))).astype(np.float32).reshape(3, 7, 9, 12)
    many = np.concatenate([bank, (rng.normal(size=(921, 12)) * 3 + 40).astype(np.float32)])
    usual = rng.random((7, 9)).astype(np.float32)
    defects = (bank[:6] + 5).astype(np.float32)
    kinds = np.array([[0], [0], [0], [1], [1], [1]], np.float32)
    known = {BANK: bank, DEFECTS: defects, DEFECT_KINDS: kinds}
    of_graph = rng.random(3).astype(np.float32)
    of_map = {"patch_scores": rng.normal(size=(3, 7, 9)).astype(np.float32)}
    of_bank = {"features": features}
    return {
        "plain": (NearestHead(), {BANK: bank}, of_bank),
        "neighbours": (NearestHead(num_neighbors=3, window=2, top_patches=5, margin=1), {BANK: bank}, of_bank),
        "usual": (NearestHead(by_place=True, window=3, margin=2, top_patches=3), {BANK: bank, USUAL: usual}, of_bank),
        "many rows": (NearestHead(num_neighbors=5), {BANK: many}, of_bank),
        "few rows": (NearestHead(num_neighbors=2), {BANK: bank[:2]}, of_bank),
        "known": (NearestHead(window=3, known=KnownDefects(start=(1.5, 0.7), slope=(2.0, 0.5))), known, of_bank),
        "known, even": (NearestHead(window=2, known=KnownDefects(start=(0.4, 0.2), slope=(1.0, 3.0))), known, of_bank),
        "known, none": (NearestHead(window=3, known=KnownDefects(start=(50, 60), slope=(1, 1))), known, of_bank),
        "graph": (MapHead(graph_weight=0.5), {}, {**of_map, GRAPH_SCORE: of_graph}),
        "graph alone": (MapHead(graph_weight=2.0, patch_weight=0.0), {}, {**of_map, GRAPH_SCORE: of_graph}),
        "map": (MapHead(window=21, top_patches=1), {}, of_map),
        "map, usual": (MapHead(by_place=True, top_patches=1000), {USUAL: usual}, of_map),
    }


@pytest.mark.parametrize("name", _heads())
def test_scores_are_those_of_the_head(name):
    head, arrays, outputs = _heads()[name]
    head.check(outputs, arrays)
    opened = head.open({key: array[:1] for key, array in outputs.items()}, arrays, (28, 36))
    nodes = Nodes()
    shape = outputs[head.patches.name].shape
    made = score_nodes(nodes, head, {key: key for key in outputs}, shape, arrays)
    for patch_scores, image_scores in _run(nodes, outputs, [made.patch_scores, made.image_scores]):
        for number in range(len(patch_scores)):
            expected = opened.score({key: array[number : number + 1] for key, array in outputs.items()})
            np.testing.assert_allclose(patch_scores[number], expected.patch_scores, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(image_scores[number, 0], expected.image_score, rtol=1e-5)


@pytest.mark.parametrize("name", ["plain", "neighbours", "many rows", "known", "map"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_witnessed(name, value):
    head, arrays, outputs = _heads()[name]
    broken = {key: array.copy() for key, array in outputs.items()}
    broken[head.patches.name][1, 3, 4] = value
    nodes = Nodes()
    made = score_nodes(nodes, head, {key: key for key in outputs}, broken[head.patches.name].shape, arrays)
    for (found,) in _run(nodes, broken, [made.witness]):
        assert not np.isfinite(found)


def test_distances_far_from_zero_keep_their_digits(monkeypatch):
    monkeypatch.setattr("edgead.export.standalone_score._PRODUCTS", 640)  # several parts
    rng = np.random.default_rng(1)
    bank = (rng.normal(size=(64, 32)) * 1e-2 + 100).astype(np.float32)
    features = (bank[:63] + rng.normal(size=(63, 32)) * 1e-3).astype(np.float32).reshape(1, 7, 9, 32)
    head = NearestHead()
    expected = head.open({"features": features}, {BANK: bank}, (7, 9)).score({"features": features})
    nodes = Nodes()
    made = score_nodes(nodes, head, {"features": "features"}, features.shape, {BANK: bank})
    for (found,) in _run(nodes, {"features": features}, [made.patch_scores]):
        np.testing.assert_allclose(found[0], expected.patch_scores, rtol=1e-5)


@pytest.mark.parametrize(
    "spec",
    [
        Preprocessing(image_size=(28, 36)),
        Preprocessing(image_size=(28, 36), fill="reflect", ignored=IGNORED),
        Preprocessing(image_size=(28, 36), tiles=Tiling(size=(30, 40), overlap=(6, 8))),
        Preprocessing(
            image_size=(28, 28), tiles=Tiling(size=(20, 20), overlap=(4, 9)), roi=(2, 3, 61, 50), ignored=IGNORED
        ),
    ],
    ids=["whole", "reflect, ignored", "tiles", "tiles, region, ignored"],
)
@pytest.mark.parametrize("border", ["reflect", "replicate"])
def test_maps_are_those_of_the_detector(spec, border):
    head = MapHead(sigma_px=2.0, border=border)
    inputs = inputs_of(spec, SHAPE)
    scores = np.random.default_rng(5).normal(size=(len(inputs), 7, 9)).astype(np.float32)
    scorer = head.open({"patch_scores": scores[:1]}, {}, spec.image_size)
    maps = [scorer.anomaly_map(one)[0] for one in scores]
    joined = maps[0]
    if spec.tiles is not None:
        mosaic = Mosaic(spec, (7, 9), SHAPE)
        joined = mosaic.blank()
        for number, one in enumerate(maps):
            mosaic.add(joined, number, one)
    expected = map_of_frame(joined, spec, Aligned(np.zeros((*SHAPE, 3), np.uint8)))
    nodes = Nodes()
    shape = standalone._map_nodes(nodes, "scores", spec, head, (7, 9), SHAPE)
    assert shape == expected.shape
    for (found,) in _run(nodes, {"scores": scores}, [standalone.MAP]):
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("score", "witness", "expected"),
    [
        (0.5, 0, 0),
        (1.0, 0, 0),
        (1.5, 0, 1),
        (2.0, 0, 1),
        (2.5, 0, 2),
        (0.5, np.nan, 2),
        (np.nan, np.nan, 2),
        (0, np.inf, 2),
    ],
)
def test_decisions_of_scores_and_of_what_is_not_finite(score, witness, expected):
    nodes = Nodes()
    standalone._decision_nodes(nodes, 1.0, 2.0, "witness")
    given = {standalone.SCORE: np.float32(score), "witness": np.float32(witness)}
    given = {name: np.asarray(value) for name, value in given.items()}
    for (found,) in _run(nodes, given, [standalone.DECISION]):
        assert found == expected and found.dtype == np.int32


def test_a_limit_between_two_float32_numbers_is_kept():
    for limit in (0.1, -0.1, 0.3, 1 / 3, -1e30, 1e30):
        below = standalone._just_below(limit)
        assert float(below) <= limit < float(np.nextafter(below, np.float32(np.inf)))


def _test_images(line_data: Path) -> list[Path]:
    return sorted(path for path in (line_data / "test").rglob("*.*") if path.is_file())[::2]


def test_a_file_judges_as_edgead_does(trained_model, line_data, tmp_path):
    file = tmp_path / "verdict.onnx"
    done = run_here("export", trained_model, "--standalone", file, "--json")
    said = json.loads(done.stdout)
    assert said["score_error"] <= standalone.TOLERANCE and said["opset"] == 18 and said["images"] >= 1
    assert said["bytes"] == file.stat().st_size
    content = file.read_bytes()
    runs = [standalone.run_by_onnxruntime(content)]
    if "openvino" in said["runtimes"]:
        runs.append(standalone.run_by_openvino(content))
    detector = edgead.load(trained_model)
    decisions = set()
    for path in _test_images(line_data):
        image = detector.read_image(path)
        verdict = detector.predict(image)
        decisions.add(verdict.decision)
        for run in runs:
            anomaly_map, score, decision = run(image)
            assert score == pytest.approx(verdict.image_score, rel=1e-5)
            assert standalone.DECISIONS[decision] == verdict.decision
            np.testing.assert_allclose(anomaly_map, verdict.anomaly_map, atol=1e-5 * verdict.anomaly_map.max())
    assert {"ok", "reject"} <= decisions


def test_a_file_with_a_batch_axis_judges_each_image_as_alone(trained_model, line_data, tmp_path):
    alone, several = tmp_path / "verdict.onnx", tmp_path / "models" / "verdict" / "1" / "model.onnx"
    edgead.load(trained_model).export_standalone(alone)
    done = run_here("export", trained_model, "--standalone", several, "--batch", "--json")
    assert json.loads(done.stdout)["score_error"] <= standalone.TOLERANCE
    run = standalone.run_by_onnxruntime(alone.read_bytes())
    images = np.stack([cv2.imread(str(path)) for path in _test_images(line_data)[:5]])
    found = [run(image) for image in images]
    assert len({decision for _, _, decision in found}) > 1
    import onnxruntime

    session = onnxruntime.InferenceSession(several)
    names = [standalone.MAP, standalone.SCORE, standalone.DECISION]
    for count in (1, 5):
        maps, scores, decisions = session.run(names, {standalone.IMAGE: images[:count]})
        assert scores.shape == decisions.shape == (count, 1)
        for number in range(count):
            np.testing.assert_allclose(maps[number], found[number][0], rtol=1e-5, atol=1e-6)
            assert scores[number, 0] == pytest.approx(found[number][1], rel=1e-6)
            assert decisions[number, 0] == found[number][2]
    refused = run_here("export", trained_model, "--batch")
    assert refused.returncode == 2 and "--batch goes with --standalone" in refused.stderr


@pytest.fixture(scope="module")
def int8_model(trained_model, line_data, once):
    """The shared model with an int8 graph, which is the one that it opens by default."""

    def add_int8(path: Path) -> None:
        shutil.copytree(trained_model, path)
        images = find_calibration_images(Artifact.load(path), line_data)
        add_precision(path, PrecisionPlan("int8", 0.1, make_default=True), images)

    return once("patchcore-int8", add_int8)


@pytest.mark.slow
def test_a_file_of_int8_judges_as_edgead_does(int8_model, line_data, tmp_path):
    """It is the default where the model opens int8; on OpenVINO its scores are those of other codes by rounding."""
    file = tmp_path / "verdict.onnx"
    said = json.loads(run_here("export", int8_model, "--standalone", file, "--json").stdout)
    record = Artifact.load(int8_model).manifest.graphs["int8"]
    assert said["precision"] == "int8"
    assert ("on openvino" in said["warning"]) == (max(said["score_error"], said["map_error"]) > standalone.TOLERANCE)
    assert said["score_error"] <= record.score_tolerance and said["map_error"] <= record.map_tolerance
    content = file.read_bytes()
    runs = {"onnxruntime": (standalone.run_by_onnxruntime, 1e-5)}
    if find_spec("openvino"):
        runs["openvino"] = (standalone.run_by_openvino, record.score_tolerance)
    for runtime, (opened, tolerance) in runs.items():
        judge = opened(content)
        with Detector.load(int8_model, runtime=runtime, threads=1) as detector:
            for path in _test_images(line_data):
                image = detector.read_image(path)
                verdict = detector.predict(image)
                _, score, decision = judge(image)
                assert score == pytest.approx(verdict.image_score, rel=tolerance)
                nearest = abs(verdict.image_score / verdict.threshold - 1)
                assert standalone.DECISIONS[decision] == verdict.decision or nearest < tolerance


def test_limits_of_another_graph_that_are_newer_are_pointed_out(trained_model, tmp_path):
    manifest = Artifact.load(trained_model).manifest
    limits = manifest.graphs["fp32"].calibration
    both = manifest.model_copy(update={"graphs": {**manifest.graphs, "int8": manifest.graphs["fp32"]}})

    def since(*calibrated: tuple[str, str]) -> str:
        """The warning of fp32 after calibrations of graphs on images with a hash."""
        changes = [
            threshold_change(name, limits, limits, images=int(bool(sha256)), images_sha256=sha256)
            for name, sha256 in calibrated
        ]
        return standalone._calibrated_since(both.model_copy(update={"threshold_changes": changes}), "fp32")

    assert "limits of int8 later than those of fp32" in since(("int8", "a"))
    assert "--precision fp32" in since(("fp32", "a"), ("int8", "b")) and since(("fp32", ""), ("int8", ""))
    for last_of_all in ((), (("int8", "a"), ("fp32", "b")), (("fp32", "a"), ("int8", "a"))):
        assert since(*last_of_all) == ""
    shutil.copytree(trained_model, tmp_path / "model")
    edit_manifest(tmp_path / "model", lambda content: content["graphs"].update(fp16=content["graphs"]["fp32"]))
    artifact = Artifact.load(tmp_path / "model")
    write_thresholds(artifact, *thresholds_by_hand(artifact, "fp16", reject=0.9 * limits.reject), reason="asked")
    done = run_here("export", tmp_path / "model", "--standalone", tmp_path / "verdict.onnx")
    assert done.returncode == 0 and "warning: `edgead calibrate` made limits of fp16 later" in done.stderr


def test_a_file_that_is_there_is_replaced_only_if_asked(trained_model, tmp_path):
    file = tmp_path / "verdict.onnx"
    file.write_bytes(b"of somebody")
    done = run_here("export", trained_model, "--standalone", file)
    assert done.returncode and f"{file} exists already: name another file, or give --force" in done.stderr
    assert file.read_bytes() == b"of somebody"
    assert run_here("export", trained_model, "--standalone", file, "--force").returncode == 0
    assert file.stat().st_size > 1000


def _for_openvino() -> list[str]:
    package = Path(pytest.importorskip("openvino").__file__).parent
    (library,) = (package / "libs").glob("libopenvino.so.*")
    words = ["-isystem", str(package / "include"), "-L", str(library.parent), f"-l:{library.name}"]
    return [*words, f"-Wl,-rpath,{library.parent}"]


def _for_onnxruntime() -> list[str]:
    header = Path(require("libonnxruntime"))
    return ["-DVERDICT_ONNXRUNTIME", "-isystem", str(header.parent), "-lonnxruntime"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="THE C++ SAMPLE IS NOT TESTED: g++")
@pytest.mark.parametrize(
    ("runtime", "engine", "refusal"),
    [("openvino", _for_openvino, "incompatible"), ("onnxruntime", _for_onnxruntime, "Got invalid dimensions")],
)
def test_the_sample_in_cpp(trained_model, line_data, tmp_path, runtime, engine, refusal):
    words = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", str(SAMPLE), *engine(), "-o", "verdict"]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=300)
    standalone.write_standalone(Artifact.load(trained_model), tmp_path / "verdict.onnx")
    decisions = set()
    with Detector.load(trained_model, runtime=runtime) as detector:
        for path in _test_images(line_data)[::3]:
            image = detector.read_image(path)
            cv2.imwrite(str(tmp_path / "part.ppm"), image)
            verdict = detector.predict(image)
            words = ["./verdict", "verdict.onnx", "part.ppm", "heat.pgm"]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
            assert done.stdout, done.stderr
            decision, score = done.stdout.split()
            assert decision == verdict.decision and done.returncode == standalone.DECISIONS.index(decision)
            decisions.add(decision)
            assert float(score) == pytest.approx(verdict.image_score, rel=1e-5)
            heat = cv2.imread(str(tmp_path / "heat.pgm"), cv2.IMREAD_GRAYSCALE)
            assert heat.shape == verdict.anomaly_map.shape
            assert heat[np.unravel_index(verdict.anomaly_map.argmax(), heat.shape)] == 255
    assert {"ok", "reject"} <= decisions
    cv2.imwrite(str(tmp_path / "part.ppm"), image[:50])
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 3 and refusal in done.stderr
    graph = onnx.load(tmp_path / "verdict.onnx")
    (last,) = [node for node in graph.graph.node if standalone.DECISION in node.output]
    last.output[0] = "within"
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.int32(7), "seven"))
    graph.graph.node.append(onnx.helper.make_node("Add", ["within", "seven"], [standalone.DECISION]))
    onnx.save(graph, tmp_path / "verdict.onnx")
    cv2.imwrite(str(tmp_path / "part.ppm"), image)
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 3 and "gave no decision" in done.stderr


def test_nothing_is_written_that_judges_otherwise(trained_model, tmp_path, monkeypatch):
    file = tmp_path / "verdict.onnx"
    monkeypatch.setattr(standalone, "_just_below", lambda limit: np.float32(limit - 100))
    with pytest.raises(ExportError, match="no file was written"):
        standalone.write_standalone(Artifact.load(trained_model), file)
    monkeypatch.undo()
    monkeypatch.setattr(standalone, "TOLERANCE", 0.0)
    with pytest.raises(ExportError, match="more than 0 and 0"):
        standalone.write_standalone(Artifact.load(trained_model), file)
    assert not list(tmp_path.iterdir())


def test_layers_in_float_are_kept_from_the_optimizer_of_onnx_runtime():
    make = onnx.helper.make_node
    nodes = [
        make("DequantizeLinear", ["codes", "scale"], ["values"]),
        make("Conv", ["values", "in_float"], ["first"]),
        make("DequantizeLinear", ["weight_codes", "scale"], ["in_codes"]),
        make("Conv", ["values", "in_codes"], ["second"]),
        make("Conv", ["first", "in_float"], ["third"]),
    ]
    graph = onnx.helper.make_graph(nodes, "test", [], [], [onnx.numpy_helper.from_array(np.ones(1), "in_float")])
    before = Nodes()
    kept = standalone._kept_in_float(graph, before)
    kinds = [node.op_type for node in kept]
    assert kinds == ["DequantizeLinear", "Clip", "Conv", "DequantizeLinear", "Conv", "Conv"]
    assert kept[1].input[0] == "values" and kept[2].input[0] == kept[1].output[0] and len(before.constants) == 1


def test_a_file_in_the_model_is_refused(trained_model):
    artifact = Artifact.load(trained_model)
    with pytest.raises(SettingsError, match="lies in the model"):
        standalone.write_standalone(artifact, trained_model / artifact.graph("fp32").path.name)
    Artifact.load(trained_model).graph("fp32").read()


def test_images_of_another_size(trained_model, tmp_path):
    written = edgead.load(trained_model).export_standalone(tmp_path / "verdict.onnx", size=(211, 150))
    assert "frames of 211 x 150 pixels where the model learnt" in written.warning
    image = np.random.default_rng(0).integers(0, 256, (150, 211, 3), dtype=np.uint8)
    _, score, _ = standalone.run_by_onnxruntime(written.file.read_bytes())(image)
    with Detector.load(trained_model) as detector:
        assert score == pytest.approx(detector.predict(image).image_score, rel=1e-5)


def test_what_cannot_stand_in_a_graph_is_refused(trained_model, tmp_path):
    with pytest.raises(SettingsError, match="nearest and map"):
        check_head(LocalHead())
    artifact = Artifact.load(trained_model)
    relief = {"mm_per_count": 1, "height_mm": 1, "slope_mm": 1, "sigma_px": 1}
    of_heights = Preprocessing.model_validate({"image_size": (32, 32), "colour": "relief", "relief": relief})
    artifact.manifest = artifact.manifest.with_preprocessing(**dict(of_heights))
    with pytest.raises(SettingsError, match="reads relief"):
        standalone.check_model(artifact, "fp32")
    laid = Preprocessing.model_validate({"image_size": (32, 32), "alignment": {"frame_size": (60, 60), "look": ""}})
    artifact.manifest = artifact.manifest.with_preprocessing(**dict(laid))
    with pytest.raises(SettingsError, match="train it without --align"):
        standalone.check_model(artifact, "fp32")
    for options, message in (
        (("--tolerance", "0.1"), "leave out --tolerance"),
        (("--precision", "int8"), "has no int8 graph"),
        (("--size", "3"), "expected 2 whole numbers"),
        (("--size", "100000x100000"), "at most 256 megapixels"),
    ):
        done = run_here("export", trained_model, "--standalone", tmp_path / "x.onnx", *options)
        assert done.returncode and message in done.stderr
    done = run_here("export", trained_model, "--size", "32x32")
    assert done.returncode and "--size goes with --standalone" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def runtime_of_the_web() -> Path:
    """The release of onnxruntime-web that the page names, from npm; skips loudly where it cannot be had."""
    release = re.search(r"onnxruntime-web@[\d.]+", PAGE.read_text(encoding="utf-8"))[0]
    folder = CHECKOUT / "build" / release
    npm = shutil.which("npm") or "false"
    if not folder.is_dir() and subprocess.run([npm, "install", "--silent", "--prefix", folder, release]).returncode:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"THE PAGE FOR A BROWSER IS NOT TESTED: npm cannot fetch {release}")
    return folder / "node_modules" / "onnxruntime-web" / "dist"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["trained_model", "int8_model"])
def test_the_page_of_the_documentation_judges_in_a_browser_as_edgead_does(
    browser, runtime_of_the_web, line_data, tmp_path, model, request
):
    file, folder = tmp_path / "verdict.onnx", request.getfixturevalue(model)
    edgead.load(folder).export_standalone(file)
    originals = _test_images(line_data)  # of equal names in different folders
    paths = [tmp_path / f"{number}.png" for number in range(len(originals))]
    for path, original in zip(paths, originals, strict=True):
        cv2.imwrite(str(path), cv2.imread(str(original)))
    small = tmp_path / "small.jpg"  # 30 x 20 pixels, which EXIF turns by a quarter
    turn = b"\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    data = cv2.imencode(".jpg", np.zeros((20, 30, 3), np.uint8))[1].tobytes()
    small.write_bytes(data[:2] + turn + data[2:])
    assert edgead.load_image(small).shape == (30, 20, 3)
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    def answer(route) -> None:
        route.fulfill(path=runtime_of_the_web / route.request.url.rpartition("/")[2])

    page.route("https://cdn.jsdelivr.net/**", answer)
    page.route("http://docs/", lambda route: route.fulfill(path=PAGE))
    page.goto("http://docs/")
    said = page.locator("#said")
    page.set_input_files("#model", file)
    expect = pytest.importorskip("playwright.sync_api").expect
    expect(said).to_contain_text("Choose an image of ")
    decisions = set()
    with Detector.load(folder, runtime="onnxruntime", threads=1) as detector:
        for path in paths:
            verdict = detector.predict(detector.read_image(path))
            page.set_input_files("#image", path)
            expect(said).to_contain_text(" ms")
            decision, score = re.match(r"(\w+), raw score ([\d.e+-]+)", said.inner_text()).groups()
            assert decision == verdict.decision and float(score) == pytest.approx(verdict.image_score, rel=1e-4)
            decisions.add(decision)
            page.set_input_files("#image", small)
            expect(said).to_contain_text("This image has 20 x 30 pixels; the model takes ")
    assert {"ok", "reject"} <= decisions and not errors
    page.close()
