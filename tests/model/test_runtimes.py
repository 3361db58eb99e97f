"""Which engine runs which graph: chosen by name or by `auto`, without opening one."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from edgead.artifact.folder import ENGINES, Artifact
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.line.daemon.self_test import self_test
from edgead.runtime import RUNTIMES, available_runtimes, choose_runtime, device, engine, open_runtime
from edgead.runtime.device import Gpu
from edgead.runtime.flavour import Flavour

ALL = ("fp32", "fp16", "int8", "int8_symmetric")


class StubArtifact:
    """The part of an artifact that a choice looks at."""

    def __init__(self, path, precisions):
        self.path, self.precisions = path, precisions
        self.manifest = SimpleNamespace(precision="fp32", learnt_in="fp32")

    def graph(self, precision=None):
        name = precision or self.manifest.precision
        if name not in self.precisions:
            raise SettingsError(f"no {name} graph")
        return SimpleNamespace(precision=name, constants=None)


@pytest.fixture
def artifact(tmp_path, monkeypatch):
    """Four graphs, and an engine of the symmetric int8 for the GPU that seems to be here."""
    monkeypatch.setattr(device, "find_gpu", lambda: Gpu("Orin", "sm87"))
    monkeypatch.setattr(engine, "installed_flavours", lambda: [Flavour("tensorrt", "10.3", object())])
    (tmp_path / ENGINES).mkdir(mode=0o755)
    (tmp_path / ENGINES / "int8_symmetric.tensorrt.sm87.engine").touch(mode=0o644)
    return StubArtifact(tmp_path, ALL)


@pytest.fixture
def opened(monkeypatch):
    """What was opened: name of the runtime, and precision of the graph."""
    found = []

    def note(name):
        return lambda artifact, graph, options, *, threads, on_device: found.append((name, graph.precision))

    noted = {name: replace(runtime, open=note(name)) for name, runtime in RUNTIMES.all().items()}
    monkeypatch.setattr(RUNTIMES, "_components", noted)
    return found


@pytest.mark.parametrize(
    "name, precision, chosen",
    [
        ("auto", "int8", ("tensorrt", "int8_symmetric")),  # `edgead engine --precision int8` writes this engine
        ("auto", "int8_symmetric", ("tensorrt", "int8_symmetric")),
        ("auto", "fp16", ("onnxruntime", "fp16")),  # has no engine
        ("auto", None, ("onnxruntime", "fp32")),
        ("tensorrt", "int8", ("tensorrt", "int8_symmetric")),
        ("tensorrt", None, ("tensorrt", "fp32")),
        ("onnxruntime", "int8", ("onnxruntime", "int8")),
        ("openvino", "int8", ("openvino", "int8")),
    ],
)
def test_runtime_and_graph_are_chosen_together(artifact, opened, name, precision, chosen):
    found = choose_runtime(artifact, name, precision)
    assert (found.runtime.name, found.graph.precision) == chosen
    found.open()
    open_runtime(artifact, name, precision=found.graph.precision)
    assert opened == [chosen, chosen]


def test_auto_needs_no_graph_for_tensorrt(artifact, opened):
    artifact.precisions = ("fp32", "int8")
    open_runtime(artifact, precision="int8")
    assert opened == [("onnxruntime", "int8")]
    with pytest.raises(SettingsError, match="no int8_symmetric graph"):
        open_runtime(artifact, "tensorrt", precision="int8")


def test_int8_that_opens_by_default_on_a_cpu_is_none_of_an_engines(artifact, opened):
    artifact.precisions, artifact.manifest.precision = ("fp32", "int8"), "int8"
    assert choose_runtime(artifact, "tensorrt").graph.precision == "fp32"
    assert choose_runtime(artifact).graph.precision == "int8"  # no engine was built of fp32
    with pytest.raises(SettingsError, match="no int8_symmetric graph"):  # asked for, it is not replaced in silence
        choose_runtime(artifact, "tensorrt", "int8")
    (artifact.path / ENGINES / "fp32.tensorrt.sm87.engine").touch(mode=0o644)
    found = choose_runtime(artifact)
    assert (found.runtime.name, found.graph.precision) == ("tensorrt", "fp32")
    artifact.precisions = (*artifact.precisions, "int8_symmetric")
    assert choose_runtime(artifact, "tensorrt").graph.precision == "int8_symmetric"


def test_tensorrt_is_available_where_it_has_an_engine_of_that_very_graph(artifact):
    assert [precision for precision in ALL if "tensorrt" in available_runtimes(artifact, precision)] == [
        "int8_symmetric"
    ]


@pytest.mark.parametrize(
    "name, what",
    [
        ("tensort", "unknown runtime 'tensort': choose auto or one of onnxruntime, openvino, tensorrt"),
        ("onnxruntime?speed=2", "runtime onnxruntime: unknown option 'speed'; known are provider"),
    ],
)
def test_a_wrong_name_says_what_is_known(artifact, name, what):
    with pytest.raises(SettingsError, match=re.escape(what)):
        open_runtime(artifact, name)


@pytest.mark.parametrize(
    "name, what",
    [
        (
            "onnxruntime?provider=cuda",
            "no provider cuda, it has cpu: `pip uninstall onnxruntime`, then",
        ),
        ("onnxruntime?provider=coreml", "no provider coreml.*macOS"),
        ("onnxruntime?provider=tpu", "provider: must be 'cpu', 'cuda'"),
        ("openvino?device=NPU", "finds no NPU here, it finds CPU.*linux-npu-driver"),
        ("openvino?device=GPU.1", "finds no GPU.1 here"),
        ("openvino?device=TPU", "device: does not match"),
    ],
)
def test_a_device_that_is_not_here_is_refused_with_what_to_install(trained_model, monkeypatch, name, what):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    if name.startswith("openvino"):
        openvino = pytest.importorskip("openvino", reason="NOT TESTED: devices need OpenVINO")
        monkeypatch.setattr(openvino.Core, "available_devices", ["CPU"])
    with pytest.raises(SettingsError, match=what):
        open_runtime(Artifact.load(trained_model), name)


def test_a_provider_that_does_not_load_is_not_replaced_by_the_cpu(trained_model, monkeypatch):
    import onnxruntime

    there = ["CoreMLExecutionProvider", "CPUExecutionProvider"]  # listed here, and yet it is not there
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    with pytest.warns(UserWarning), pytest.raises(SettingsError, match="cannot load its provider coreml"):
        open_runtime(Artifact.load(trained_model), "onnxruntime?provider=coreml")


def test_a_device_that_openvino_chooses_passes_the_self_test(trained_model):
    pytest.importorskip("openvino", reason="NOT TESTED: devices need OpenVINO")
    with Detector.load(trained_model, runtime="openvino?device=AUTO", precision="fp32") as detector:
        self_test(detector).require()
