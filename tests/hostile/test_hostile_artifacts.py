"""What a hostile artifact may do: be refused, soon, with a reason, and before memory is taken for what it claims."""

from __future__ import annotations

import gc
import os
import threading
import time
import tracemalloc
import weakref
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="NO HOSTILE ARTIFACTS TESTED: graphs are made by the workstation's packages")

import numpy as np
import onnx
import openvino
from artifacts import GRAPH, HOSTILE, LEARNT, TWO, UNCHANGED, learnt
from graphs import many_products
from valid_artifact import make, stamp, write_valid

from edgead.artifact.folder import ArtifactError
from edgead.detector import Detector
from edgead.line.daemon.self_test import SelfTestError, self_test
from edgead.runtime import openvino as openvino_runtime

LIMIT_S = 10.0  # of the thread's own time, as on a computer that does nothing else
HANGS_S = 60.0
MAX_BYTES = 64 << 20  # of arrays and Python objects; the valid one needs less than 1 MiB


@pytest.fixture(scope="session")
def valid_artifact(once) -> Path:
    return once("hostile", write_valid)


def use(path: Path, runtime: str) -> None:
    """All that happens before a model judges."""
    with Detector.load(path, runtime=runtime) as detector:
        self_test(detector).require()


def outcome(path: Path, runtime: str) -> tuple[BaseException | None, int]:
    """Use an artifact in a thread that may hang; returns what it raised and the most memory that was traced."""
    raised: list[BaseException | None] = []
    took_s: list[float] = []

    def run() -> None:
        error: BaseException | None = None
        try:
            use(path, runtime)
        except BaseException as raised_by_it:  # noqa: BLE001  whatever it is, it is what the test looks at
            error = raised_by_it
        took_s.append(time.thread_time())
        raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    tracemalloc.start()
    try:
        thread.start()
        thread.join(HANGS_S)
        assert raised, f"not refused within {HANGS_S:g} s"
        assert took_s[0] < LIMIT_S
        return raised[0], tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_artifact_that_all_are_made_from_is_valid(valid_artifact, runtime):
    use(valid_artifact, runtime)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_one_whose_graph_takes_what_was_learnt_is_valid_too(valid_artifact, tmp_path, runtime):
    use(make(valid_artifact, tmp_path / "model", learnt(UNCHANGED, inputs=TWO, arrays=TWO)), runtime)


@pytest.mark.parametrize(("runtime", "module"), [("onnxruntime", "ort"), ("openvino", "openvino")])
def test_a_network_that_takes_too_long_is_ended_at_its_first_image(
    valid_artifact, tmp_path, monkeypatch, runtime, module
):
    def slow(path):
        onnx.save(many_products(2000, 200), path / "model.onnx")
        stamp(path)

    path = make(valid_artifact, tmp_path / "model", slow)
    monkeypatch.setattr(f"edgead.runtime.{module}.FIRST_RUN_S", 0.3)
    error, _ = outcome(path, runtime)
    assert isinstance(error, ArtifactError) and "takes more than 0.3 s for an image" in str(error)


@pytest.fixture
def few_objects():
    """Garbage collection of what the test makes alone: that of all the run takes seconds."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.faults
def test_a_network_that_is_given_up_stops_nothing_else(tmp_path, monkeypatch, few_objects):
    onnx.save(many_products(2000, 60), tmp_path / "model.onnx")
    monkeypatch.setattr(openvino_runtime, "FIRST_RUN_S", 0.1)
    core = openvino.Core()
    request = core.compile_model(tmp_path / "model.onnx", "CPU").create_infer_request()
    array = np.zeros((1, 16, 16, 3), np.uint8)
    image, alive = openvino.Tensor(array, shared_memory=True), weakref.ref(array)
    before = threading.enumerate()
    begun_s = time.perf_counter()
    with pytest.raises(RuntimeError, match=r"more than 0\.1 s"):
        openvino_runtime._run_once(request, [image])
    (holder,) = set(threading.enumerate()) - set(before)
    dropped_s = time.perf_counter()
    del request, image, array
    gc.collect()
    went_on_s = time.perf_counter() - dropped_s
    assert alive() is not None  # the network still reads it
    holder.join()
    assert went_on_s < (time.perf_counter() - begun_s) / 3


# OpenVINO clamps an index that ONNX Runtime refuses: what is found are other scores than those on record.
SCORES_OTHERWISE = {("graph_index_out_of_range", "openvino")}
EACH = [(name, "onnxruntime") for name in HOSTILE] + [(name, "openvino") for name in (*GRAPH, *LEARNT)]


@pytest.mark.parametrize(("name", "runtime"), EACH)
def test_is_refused(valid_artifact, tmp_path, name, runtime):
    path = make(valid_artifact, tmp_path / "model", HOSTILE[name])
    error, peak = outcome(path, runtime)
    expected = SelfTestError if (name, runtime) in SCORES_OTHERWISE else ArtifactError
    assert isinstance(error, expected), f"{type(error).__name__}: {error}"
    assert str(path) in str(error) and len(str(error)) > len(str(path)) + 20
    assert peak < MAX_BYTES


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "memory_bank.npy", "golden/0.png", "golden", "."])
def test_what_this_user_may_not_read_is_refused(valid_artifact, tmp_path, monkeypatch, name):
    path = make(valid_artifact, tmp_path / "model", lambda path: None)
    opened = os.open
    refused = (path / name).resolve()

    def refuse(file, *arguments, **options):  # root may read everything: modes would refuse nothing here
        if refused in (Path(file), *Path(file).parents):
            raise PermissionError(13, "Permission denied", str(file))
        return opened(file, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ArtifactError, match="Permission denied"):
        use(path, "onnxruntime")
