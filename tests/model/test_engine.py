"""TensorRT engines: real ones, built without a GPU by tensorrt_rtx, and every way in which one must not be trusted."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import edit_manifest, full_disk
from gpu import GPU_PROBLEM
from test_imports import REFUSE

from edgead.artifact.folder import ENGINES, Artifact, ArtifactError, write_arrays, write_manifest
from edgead.artifact.onnx_file import with_constants
from edgead.cli import doctor
from edgead.errors import SettingsError
from edgead.runtime import available_runtimes, engine_builder, open_runtime
from edgead.runtime import flavour as flavours
from edgead.runtime.device import Gpu
from edgead.runtime.engine import EngineFile, NoEngineError, make_engine
from edgead.runtime.engine_builder import EngineError, Log, build_engine
from edgead.runtime.flavour import Flavour, find_flavour, installed_flavours
from edgead.runtime.ort import OrtRuntime

onnx = pytest.importorskip("onnx", reason="NO ENGINES TESTED: exporting needs the workstation's packages")
if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
    pytest.skip("NO ENGINES TESTED: tensorrt_rtx is not installed (x86-64 Linux has wheels)", allow_module_level=True)


from edgead.adapt.methods import METHODS  # noqa: E402
from edgead.adapt.methods.patchcore import PatchCore, PatchCoreConfig  # noqa: E402

A2000 = Gpu("NVIDIA RTX A2000", "sm86")


@pytest.fixture(scope="module")
def flavour() -> Flavour:
    return find_flavour("sm86")


@pytest.fixture(scope="module")
def model(trained_model, tmp_path_factory) -> Path:
    """The shared model with graphs of more precisions, and an engine of each."""
    path = Path(shutil.copytree(trained_model, tmp_path_factory.mktemp("engines") / "model"))
    add_graph(path, "fp16", to_half)
    add_graph(path, "int8_symmetric", lambda graph, target: to_int8(graph, target, symmetric=True))
    artifact = Artifact.load(path)
    for precision in artifact.precisions:
        make_engine(artifact, target="sm86", precision=precision)
    return path


@pytest.fixture
def artifact(model, tmp_path) -> Artifact:
    return Artifact.load(shutil.copytree(model, tmp_path / "model"))


def to_half(graph, target):
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(graph), keep_io_types=True), target)


def to_int8(graph, target, *, symmetric):
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Noise(CalibrationDataReader):
        """Whatever the scores: only the form of the graph matters here."""

        images = iter([{"image": np.random.default_rng(0).integers(0, 256, (1, 160, 160, 3), np.uint8)}])

        def get_next(self):
            return next(self.images, None)

    quantize_static(
        graph,
        target,
        Noise(),
        per_channel=True,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": symmetric, "QuantizeBias": False},
    )


def add_graph(path: Path, precision: str, convert) -> None:
    """Add a graph of another precision, with the thresholds of the fp32 one."""
    artifact = Artifact.load(path)
    manifest, whole = artifact.manifest, path / "whole.onnx"
    whole.write_bytes(artifact.graph("fp32").read_whole())
    convert(whole, path / f"model.{precision}.onnx")
    whole.unlink()
    record = {
        "file": f"model.{precision}.onnx",
        "calibration": manifest.graphs["fp32"].calibration.model_dump(mode="json"),
        "golden": [],
        "score_tolerance": 0.2,
        "map_tolerance": 1.0,
    }
    edit_manifest(path, lambda content: content["graphs"].update({precision: record}))
    write_manifest(path, type(manifest).model_validate(json.loads((path / "manifest.json").read_text())))


def wanted(artifact: Artifact, flavour: Flavour, precision: str = "fp32", gpu: Gpu = A2000) -> EngineFile:
    return EngineFile(artifact, artifact.graph(precision), flavour, gpu)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8_symmetric"])
def test_an_engine_of_every_precision(artifact, flavour, precision):
    found = wanted(artifact, flavour, precision)
    assert found.path.name == f"{precision}.tensorrt_rtx.sm86.engine"
    content = found.read()
    assert content == found.path.read_bytes() and len(content) > 100_000
    stamp = json.loads(found.path.with_suffix(".json").read_text())
    assert stamp["graph_sha256"] == hashlib.sha256(artifact.graph(precision).read_whole()).hexdigest()
    assert stamp["profile"] == {"image": [1, 160, 160, 3]}
    assert (stamp["flavour"], stamp["target"], stamp["gpu"]) == ("tensorrt_rtx", "sm86", None)
    assert stamp["version"] == flavour.version == flavour.api.__version__
    # The network is the file's: with other types in it, it is another engine.
    others = {other.path.read_bytes() for other in (wanted(artifact, flavour, p) for p in artifact.precisions)}
    assert len(others) == 3


@pytest.mark.slow
def test_an_engine_for_batches_has_a_profile_more(artifact, flavour):
    path, stamp = make_engine(artifact, target="sm86", batch=3)
    assert stamp.batch == 3 and stamp.profile == {"image": (1, 160, 160, 3)}
    content = wanted(artifact, flavour).read()
    plain, _ = build_engine(artifact.graph().path, artifact.graph().read_whole(), flavour, "sm86")
    assert content == path.read_bytes() and content != plain


def test_profiles_are_of_one_image_and_of_the_batch(artifact, flavour, monkeypatch):
    added = []
    monkeypatch.setattr(engine_builder, "_add_profile", lambda *arguments: added.append(arguments[3:5]))
    graph = artifact.graph()
    for batch in (1, 4):
        with pytest.raises(EngineError, match="built no engine"):  # without a profile
            build_engine(graph.path, graph.read_whole(), flavour, "sm86", batch=batch)
    shapes = {"image": (1, 160, 160, 3)}
    assert added == [(shapes, 1), (shapes, 1), (shapes, 4)]


def test_a_graph_of_one_image_makes_no_batches(artifact, flavour):
    whole = onnx.load_from_string(artifact.graph().read_whole())
    whole.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(EngineError, match="'image' takes one image at a time: build its engine without --batch"):
        build_engine(Path("model.onnx"), whole.SerializeToString(), flavour, "sm86", batch=2)


def test_engines_are_no_part_of_the_artifact(artifact):
    assert not any(name.startswith(ENGINES) for name in artifact.manifest.files)
    assert not any(name.startswith(ENGINES) for name in write_manifest(artifact.path, artifact.manifest).files)
    (artifact.path / ENGINES / "junk").write_bytes(b"?")
    Artifact.load(artifact.path)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit_stamp(**changes):
    def edit(path: Path) -> None:
        stamp = path.with_suffix(".json")
        stamp.write_text(json.dumps({**json.loads(stamp.read_text()), **changes}))

    return edit


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (flip, "is not the file that was built (sha256 differs)"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "edited or cut off"),
        (lambda path: path.with_suffix(".json").unlink(), "has no stamp that can be read"),
        (lambda path: path.with_suffix(".json").write_text('{"flavour": '), "has no stamp that can be read"),
        (edit_stamp(surprise=1), "has no stamp that can be read"),
        (edit_stamp(version="1.0"), "was built by tensorrt_rtx 1.0, here is tensorrt_rtx"),
        (edit_stamp(flavour="tensorrt"), "was built by tensorrt 1"),
        (edit_stamp(target="sm89"), "was built for any GPU of sm89, here is NVIDIA RTX A2000 (sm86)"),
        (edit_stamp(gpu="NVIDIA A10"), "was built for NVIDIA A10 of sm86, here is NVIDIA RTX A2000 (sm86)"),
        (edit_stamp(precision="fp16"), "was built from another graph than model.onnx is now"),
        (edit_stamp(graph_sha256="0" * 64), "was built from another graph than model.onnx is now"),
    ],
)
def test_refused(artifact, flavour, spoil, problem):
    engine = wanted(artifact, flavour)
    spoil(engine.path)
    with pytest.raises(EngineError) as error:
        engine.read()
    assert problem in str(error.value)
    assert str(error.value).endswith(f'"edgead engine {artifact.path} --target sm86 --precision fp32"')


def test_the_command_of_an_engine_for_batches_builds_one_again(artifact, flavour):
    engine = wanted(artifact, flavour)
    edit_stamp(batch=4)(engine.path)
    engine.read()
    edit_stamp(version="1.0")(engine.path)
    with pytest.raises(EngineError, match='--precision fp32 --batch 4"$'):
        engine.read()


def test_refused_after_another_export(artifact, flavour):
    graph = onnx.load(artifact.model_path)
    graph.doc_string = "exported again"
    onnx.save(graph, artifact.model_path)
    write_manifest(artifact.path, artifact.manifest)
    again = Artifact.load(artifact.path)
    with pytest.raises(EngineError, match="was built from another graph than model.onnx is now"):
        wanted(again, flavour).read()
    make_engine(again, target="sm86")
    wanted(again, flavour).read()


def test_refused_after_the_model_has_learnt_otherwise(artifact, flavour):
    write_arrays(artifact.path, artifact.manifest, {"mean": 2 * artifact.graph("fp32").arrays["mean"].read()})
    write_manifest(artifact.path, artifact.manifest)
    again = Artifact.load(artifact.path)
    with pytest.raises(EngineError, match="was built from another graph than model.onnx is now"):
        wanted(again, flavour).read()
    wanted(again, flavour, "fp16").read()  # has what was learnt in its graph


def test_an_engine_for_another_gpu_is_none_for_this(artifact, flavour):
    ada, orin = Gpu("NVIDIA L4", "sm89"), Gpu("Orin", "sm87")
    with pytest.raises(NoEngineError, match="sm89.engine is missing: .* --target sm89 --precision fp16"):
        wanted(artifact, flavour, "fp16", ada).read()
    # No target of tensorrt_rtx: only a TensorRT on the device can build for it.
    with pytest.raises(NoEngineError, match="--target current"):
        wanted(artifact, flavour, gpu=orin).read()
    # Under another's name:
    path = wanted(artifact, flavour).path
    for suffix in (".engine", ".json"):
        path.with_suffix(suffix).rename(wanted(artifact, flavour, gpu=ada).path.with_suffix(suffix))
    with pytest.raises(EngineError, match="was built for any GPU of sm86, here is NVIDIA L4"):
        wanted(artifact, flavour, gpu=ada).read()


def test_a_node_that_tensorrt_does_not_take_is_named(tmp_path, flavour):
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["batch", 8, 8, 3])
    result = onnx.helper.make_tensor_value_info("features", onnx.TensorProto.UINT8, ["batch", 3, 8, 8])
    node = onnx.helper.make_node("Transpose", ["image"], ["features"], name="first", perm=[0, 3, 1, 2])
    graph = onnx.helper.make_graph([node], "graph", [image], [result])
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), path)
    with pytest.raises(EngineError, match=r"cannot take node 'first' \(Transpose\): .*UInt8"):
        build_engine(path, path.read_bytes(), flavour, "sm86")
    path.write_bytes(b"no network")
    with pytest.raises(EngineError, match="model.onnx: tensorrt_rtx .* cannot take this file"):
        build_engine(path, path.read_bytes(), flavour, "sm86")


def test_a_graph_that_is_refused_leaves_the_old_engine(artifact, flavour):
    before = wanted(artifact, flavour).read()
    graph = onnx.load(artifact.model_path)
    graph.graph.node[0].op_type = "Explode"
    onnx.save(graph, artifact.model_path)
    with pytest.raises(ArtifactError, match="is not the file that was written"):
        make_engine(artifact, target="sm86", precision="fp32")
    write_manifest(artifact.path, artifact.manifest)
    with pytest.raises(EngineError, match="cannot take|built no engine"):
        make_engine(Artifact.load(artifact.path), target="sm86", precision="fp32")
    assert wanted(artifact, flavour).path.read_bytes() == before
    assert len(list((artifact.path / ENGINES).iterdir())) == 6


def test_a_full_disk_leaves_nothing(artifact, tmp_path):
    shutil.rmtree(artifact.path / ENGINES)
    with full_disk(tmp_path, size_kib=1024) as disk:
        disk.chmod(0o755)  # a tmpfs lets everybody write
        (artifact.path / ENGINES).symlink_to(disk)
        with pytest.raises(OSError, match="No space left"):
            make_engine(artifact, target="sm86")
        assert list(disk.iterdir()) == []


def test_the_command_needs_neither_torch_nor_onnx(artifact, flavour):
    shutil.rmtree(artifact.path / ENGINES)
    code = REFUSE + "from edgead.cli import main\nmain()"

    def edgead(*arguments):
        command = [sys.executable, "-W", "error", "-c", code, "engine", artifact.path, *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    done = edgead("--target", "sm86", "--precision", "fp16", "--json")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    report = json.loads(done.stdout)
    assert report["engine"] == str(wanted(artifact, flavour, "fp16").path) and report["target"] == "sm86"
    wanted(artifact, flavour, "fp16").read()
    for arguments, message in (
        (["--target", "sm42"], "no engine can be built here for 'sm42': tensorrt_rtx"),
        (["--target", "sm86", "--precision", "fp8"], "fp8"),
    ):
        done = edgead(*arguments)
        assert done.returncode == 2 and message in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr
    done = edgead("--target", "sm86", "--precision", "fp32")
    assert done.returncode == 0 and "without TF32" in done.stderr and "--precision fp16" in done.stderr


def test_two_builds_give_one_engine(artifact, flavour):
    def built(target: str) -> bytes:
        graph = artifact.graph("fp32")
        return build_engine(graph.path, graph.read_whole(), flavour, target)[0]

    assert built("sm86") == built("sm86") != built("sm75")


def test_int8_is_the_graph_without_zero_points(artifact, flavour):
    add_graph(artifact.path, "int8", lambda graph, target: to_int8(graph, target, symmetric=False))
    both = Artifact.load(artifact.path)
    assert make_engine(both, target="sm86", precision="int8")[1].precision == "int8_symmetric"
    with pytest.raises(EngineError, match=r"cannot take node .* \(DequantizeLinear\): .*UINT8"):
        build_engine(artifact.path, both.graph("int8").read(), flavour, "sm86")


@pytest.mark.skipif(not GPU_PROBLEM, reason="this machine has a GPU")
def test_without_a_gpu(artifact):
    with pytest.raises(
        SettingsError, match="no GPU can be used .* nvidia-smi|cannot be reached: install cuda-bindings"
    ):
        make_engine(artifact)
    with pytest.raises(
        SettingsError, match="no GPU can be used .* nvidia-smi|cannot be reached: install cuda-bindings"
    ):
        open_runtime(artifact, "tensorrt")
    # A model that carries engines for other machines runs here all the same.
    assert "tensorrt" not in available_runtimes(artifact)
    runtime = open_runtime(artifact)
    assert isinstance(runtime, OrtRuntime)
    runtime.close()
    found = doctor._tried(doctor._tensorrt)
    assert found["ok"] and "sm86" in found["detail"] and "runs none here" in found["detail"]


# The networks of the presets for small machines, at the smallest sizes that they take.
SMALL = {
    "simplenet": {"backbone": "efficientnet_lite0", "image_size": (64, 64)},
    "efficient_ad": {"image_size": (64, 64)},
    "mvg": {"backbone": "efficientnet_lite0", "image_size": (64, 64)},
    "draem": {"image_size": (64, 64), "width": 0.125},
    "golden": {"backbone": "efficientnet_lite0", "image_size": (64, 64)},
    "cycle": {"backbone": "efficientnet_lite0", "image_size": (64, 64)},
}


# Export and engines of one take up to half a minute: the others are among the slow tests.
_QUICK = {"golden"}
_METHODS = [
    pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow) for name in METHODS.own if name != "patchcore"
]


@pytest.mark.parametrize("name", _METHODS)
def test_every_detector_has_graphs_that_tensorrt_takes(name, tmp_path, flavour):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    from engine_graphs import check_graphs

    check_graphs(METHODS[name].from_settings(SMALL[name], pretrained=False), tmp_path, flavour)


def test_patchcore_learns_with_graphs_that_tensorrt_takes(tmp_path, flavour):
    pytest.importorskip("torch", reason="a symmetric graph needs the workstation's packages")
    config, engines = PatchCoreConfig(backbone="efficientnet_lite0", image_size=(64, 64)), []
    for precision in ("fp32", "int8_symmetric"):
        detector = PatchCore(config, precision=precision)
        content = with_constants(detector.backbone.graph, detector.graph_arrays)
        engine, profile = build_engine(tmp_path / "model.onnx", content, flavour, "sm86")
        assert profile == {"image": (1, 64, 64, 3)}
        engines.append(engine)
    assert engines[0] != engines[1]


def test_doctor_names_each_flavour():
    detail = doctor._tried(doctor._tensorrt)["detail"]
    for flavour in installed_flavours():
        assert f"{flavour} builds engines for current" in detail


def test_what_is_not_installed(monkeypatch, tmp_path):
    (tmp_path / "tensorrt").mkdir()  # packages of types leave such a folder
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(flavours, "_MODULES", {"tensorrt": ("tensorrt",), "tensorrt_rtx": ("not_there",)})
    assert installed_flavours() == []
    with pytest.raises(SettingsError, match="TensorRT is not installed: on a Jetson it comes with JetPack"):
        find_flavour()
    assert doctor._tried(doctor._tensorrt) == {"ok": False, "detail": "not installed (optional)"}


def test_one_that_does_not_load_is_reported(monkeypatch, tmp_path):
    (tmp_path / "broken_tensorrt.py").write_text(
        "raise ImportError('libnvinfer.so.10: cannot open shared object file')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(flavours, "_MODULES", {"tensorrt": ("broken_tensorrt",), "tensorrt_rtx": ("not_there",)})
    with pytest.raises(SettingsError, match="broken_tensorrt is installed but does not load: libnvinfer.so.10"):
        installed_flavours()


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ("8.6.2", "8.6.2 is too old: 10.0 or newer is needed. A Jetson has it from JetPack 6.1 on;"),
        ("dev", "dev is too old"),
    ],
)
def test_one_that_is_too_old_is_refused(monkeypatch, tmp_path, version, problem):
    (tmp_path / "old_tensorrt.py").write_text(f"Builder, __version__ = object, {version!r}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(flavours, "_MODULES", {"tensorrt": ("old_tensorrt",), "tensorrt_rtx": ("not_there",)})
    monkeypatch.delitem(sys.modules, "old_tensorrt", raising=False)
    with pytest.raises(SettingsError, match=f"tensorrt {problem}"):
        installed_flavours()
    assert "too old" in doctor._tried(doctor._tensorrt)["detail"]


def test_flavours_are_named_apart(flavour):
    """A `tensorrt` that knows compute capabilities builds for its own GPU all the same."""
    api = SimpleNamespace(ComputeCapability=flavour.api.ComputeCapability)
    assert Flavour("tensorrt", "12.0", api).targets == ()
    assert "sm86" in Flavour("tensorrt_rtx", "1.7", api).targets


def test_a_profile_that_is_not_taken_is_reported(flavour):
    given = []
    config = SimpleNamespace(add_optimization_profile=lambda profile: -1)
    builder = SimpleNamespace(
        create_optimization_profile=lambda: SimpleNamespace(
            set_shape=lambda name, *shapes: given.append((name, [engine_builder.shape_of(dims) for dims in shapes]))
        ),
    )
    with pytest.raises(EngineError, match="takes no batches of 4 of {'image': .*TensorRT gave no reason"):
        engine_builder._add_profile(builder, config, flavour, {"image": (1, 8, 8, 3)}, 4, Log(flavour.api))
    assert given == [("image", [(4, 8, 8, 3)] * 3)]  # smallest, most usual and largest


def test_the_gpu_that_is_here_is_tensorrts_first(monkeypatch, flavour):
    classic = Flavour("tensorrt", "10.3.0", SimpleNamespace())
    monkeypatch.setattr(flavours, "installed_flavours", lambda: [classic, flavour])
    assert find_flavour() is classic and classic.targets == ()
    assert find_flavour("sm86") is flavour
    with pytest.raises(
        SettingsError, match="tensorrt 10.3.0 builds for current; tensorrt_rtx .* builds for current, sm75"
    ):
        find_flavour("sm87")
