"""A real engine is built beside a detector that judges, and another takes over when it is ready."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from gpu import GPU_PROBLEM

from edgead import Detector
from edgead.artifact.folder import Artifact
from edgead.detector import handover
from edgead.detector.handover import EngineBuild, Succession, load_building
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.runtime import RUNTIMES, engine
from edgead.runtime.device import Gpu
from edgead.runtime.engine import EngineFile, find_engine, make_engine
from edgead.runtime.flavour import find_flavour

if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
    pytest.skip("SUCCESSION NOT TESTED: tensorrt_rtx is not installed", allow_module_level=True)


class Second(Detector):
    """What TensorRT would be where there is a GPU: it needs the engine, and judges by ONNX Runtime."""

    def __init__(self, artifact):
        EngineFile(artifact, artifact.graph(), find_flavour("sm86"), Gpu("any", "sm86")).read()
        super().__init__(artifact, runtime="onnxruntime")


@pytest.fixture
def image(line_data):
    return load_image(line_data / "test" / "good" / "000.jpg")


def predict_until(succession, image, ended):
    deadline = time.monotonic() + 120
    verdicts = [succession.predict(image)]
    while not ended() and time.monotonic() < deadline:
        verdicts.append(succession.predict(image))
    assert ended()
    return verdicts


def test_the_second_takes_over_between_two_frames(model_copy, image, caplog):
    artifact = Artifact.load(model_copy)
    first = Detector(artifact, runtime="onnxruntime")
    with Succession(first, EngineBuild(artifact, "fp32", "sm86"), lambda: Second(artifact)) as succession:
        assert succession.manifest is artifact.manifest
        verdicts = predict_until(succession, image, lambda: isinstance(succession._detector, Second))
        verdicts.append(succession.predict(image))
    assert len({verdict.image_score for verdict in verdicts}) == 1
    assert len(verdicts) > 2  # judged while it was built
    assert [record.message for record in caplog.records] == ["the engine is ready, TensorRT takes over"]
    assert len(list((model_copy / "engines").iterdir())) == 2


def test_without_an_engine_the_first_goes_on_and_it_is_reported(model_copy, image, caplog):
    artifact = Artifact.load(model_copy)
    first = Detector(artifact, runtime="onnxruntime")
    with Succession(first, EngineBuild(artifact, "fp32", "sm42"), lambda: Second(artifact)) as succession:
        predict_until(succession, image, lambda: not succession._thread.is_alive())
        assert succession.predict(image).image_score
        assert succession._detector is first
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "continuing with ONNX Runtime: no engine can be built here for 'sm42'" in " ".join(record.message.split())


def test_closing_ends_the_build(model_copy, caplog):
    artifact = Artifact.load(model_copy)
    build = EngineBuild(artifact, "fp32", "sm86")
    succession = Succession(Detector(artifact, runtime="onnxruntime"), build, lambda: Second(artifact))
    succession.close()
    assert build._process.returncode is not None and not succession._thread.is_alive()


@pytest.mark.parametrize(("spoilt", "batch"), [("version", "3"), ("batch", "1")])
def test_what_is_built_again_takes_as_many_images_at_once(model_copy, monkeypatch, spoilt, batch):
    gpu, commands = Gpu("any", "sm86"), []

    def popen(command, **options):
        commands.append(command)
        return SimpleNamespace(communicate=lambda: ("", ""), returncode=0, terminate=lambda: None)

    def opens(artifact, graph, options, *, threads, on_device):
        find_engine(artifact, graph, gpu).read()

    monkeypatch.setattr(engine, "build_engine", lambda *given, **options: (b"engine", {}))
    monkeypatch.setattr(engine, "find_gpu", lambda: gpu)
    monkeypatch.setattr(handover, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": popen}))
    monkeypatch.setitem(RUNTIMES._components, "tensorrt", replace(RUNTIMES.named("tensorrt"), open=opens))
    path, stamp = make_engine(Artifact.load(model_copy), target="sm86", batch=3)
    stale = stamp.model_copy(update={spoilt: "0.1"})
    path.with_suffix(".json").write_text(stale.model_dump_json(warnings=False))  # a batch of "0.1" is none
    load_building(model_copy).close()
    (command,) = commands
    assert command[command.index("--batch") + 1] == batch


@pytest.mark.skipif(not GPU_PROBLEM, reason="this machine has a GPU")
def test_without_a_gpu_nothing_is_started(model_copy):
    with pytest.raises(SettingsError, match="no GPU can be used"):
        load_building(model_copy)
    assert not (model_copy / "engines").exists()
