"""The examination of the machine that runs the tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import onnxruntime
import pytest
from rich.console import Console

from edgead import kernels
from edgead.cli import doctor
from edgead.detector.measurer import Measurer
from edgead.sources.camera import list_cameras


@pytest.fixture(scope="module")
def findings():
    return doctor.examine(probe_cameras=False)


def test_every_finding_is_a_yes_or_no_with_words(findings):
    for name, finding in findings.items():
        assert isinstance(finding["ok"], bool) and finding["detail"], name
    assert json.loads(json.dumps(findings)) == findings


def test_what_the_tests_themselves_need_is_found(findings):
    assert doctor.is_fit(findings)
    for name in ("onnxruntime", "image png", "image jpg", "video MJPG .avi"):
        assert findings[name]["ok"], findings[name]
    assert "runs a network on CPU" in findings["onnxruntime"]["detail"]
    assert "5 frames written, 5 read back" in findings["video MJPG .avi"]["detail"]
    assert findings["native kernels"]["ok"] == ("cpu" in kernels.backends())
    assert kernels.isa() in findings["isa"]["detail"]


def test_plug_ins_of_this_repository_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr(doctor, "entry_points", lambda group: [])
    names = sorted(path.parent.name for path in (Path(__file__).parents[2] / "plugins").glob("*/pyproject.toml"))
    assert doctor._plugins() == {"ok": True, "detail": f"not installed: {', '.join(names)}"}


def test_what_is_missing_is_found_missing(findings):
    missing = doctor._video_codec("zzzz", ".avi")
    assert missing == {"ok": False, "detail": "this OpenCV has no encoder for it"}
    assert doctor._tried(lambda: doctor._image_format("xyz"))["ok"] is False
    assert "cameras" in findings and findings["cameras"]["ok"] == bool(list_cameras())


def test_a_broken_part_is_a_finding_and_not_a_crash(monkeypatch):
    def broken(*_args):
        raise cv2.error("no such codec\nsecond line")

    monkeypatch.setattr(doctor.cv2, "imencode", broken)
    findings = doctor.examine(probe_cameras=False)
    assert findings["image png"] == {"ok": False, "detail": "error: no such codec"}
    assert not doctor.is_fit(findings)


def test_a_model_says_on_what_its_frames_run(monkeypatch, trained_model, tmp_path):
    found = doctor._tried(lambda: doctor._model(trained_model))
    assert found == {"ok": True, "detail": "fp32 on onnxruntime"}
    monkeypatch.setattr(Measurer, "launches", "as one CUDA graph")
    assert doctor._model(trained_model)["detail"].endswith(", a frame as one CUDA graph")
    missing = doctor._tried(lambda: doctor._model(tmp_path / "nothing"))
    assert not missing["ok"] and "nothing" in missing["detail"]
    assert not doctor.is_fit({"model": missing}) and doctor.is_fit({"model": found})


def test_cameras_are_opened_and_a_dead_one_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "list_cameras", lambda: [tmp_path / "video7"])
    assert doctor._cameras(False) == {"cameras": {"ok": True, "detail": f"{tmp_path}/video7 (not opened)"}}
    found = doctor._cameras(True)[f"camera {tmp_path}/video7"]
    assert not found["ok"] and "give an index or a device" in found["detail"]


def test_it_is_quiet_and_imports_neither_torch_nor_onnx():
    program = (  # plug-ins that are here may import either
        "import sys; from edgead.cli import doctor; doctor.entry_points = lambda group: [];"
        "doctor.examine();"
        "print([name for name in ('torch', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_packages_of_training_are_really_imported(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    found = doctor._torch()
    assert found["ok"], found
    for name in ("torch", "onnx", "efficientnet_lite_pytorch"):
        assert re.search(rf"{name} [0-9]", found["detail"])
    # One that is installed and does not load:
    (tmp_path / "onnx.py").write_text("raise ImportError('libprotobuf.so.99: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = doctor._torch()
    assert not found["ok"] and found["detail"].endswith(
        "ImportError: libprotobuf.so.99: cannot open shared object file"
    )


@pytest.mark.parametrize("name", ["Fail", "NotImplemented", "NoSuchFile", "EPFail", "InvalidGraph"])
def test_a_provider_that_fails_leaves_the_others(monkeypatch, name):
    error = getattr(onnxruntime.capi.onnxruntime_pybind11_state, name)
    session = onnxruntime.InferenceSession

    def fails_on_cuda(model, options, providers):
        if providers == ["CUDAExecutionProvider"]:
            raise error("no driver")
        return session(model, options, providers=providers)

    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(onnxruntime, "InferenceSession", fails_on_cuda)
    found = doctor._tried(doctor._onnxruntime)
    assert found["ok"] and "runs a network on CPU; listed but does not load: CUDA" in found["detail"]
    providers.remove("CPUExecutionProvider")
    assert not doctor._tried(doctor._onnxruntime)["ok"]


def test_the_table_marks_what_is_required(findings):
    broken = findings | {"onnxruntime": {"ok": False, "detail": "not found"}}
    console = Console(width=200, record=True, file=sys.stderr)
    console.print(doctor.examination_table(broken))
    text = console.export_text()
    assert "NO, required" in text and "image png" in text
