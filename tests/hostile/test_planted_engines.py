"""An engine that others may have written is not run: what deserialises it does what its author wants."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="NO PLANTED ENGINES TESTED: graphs are made by the workstation's packages")

from valid_artifact import make, write_valid

from edgead.artifact.folder import Artifact
from edgead.runtime import available_runtimes, device, engine, open_runtime
from edgead.runtime.device import Gpu
from edgead.runtime.engine import EngineFile, NoEngineError, make_engine
from edgead.runtime.engine_builder import EngineError
from edgead.runtime.flavour import Flavour
from edgead.runtime.ort import OrtRuntime

GPU = Gpu("NVIDIA RTX A2000", "sm86")
TENSORRT = Flavour("tensorrt", "10.3", object())


@pytest.fixture
def artifact(once, tmp_path, monkeypatch) -> Artifact:
    """A model with an engine for the GPU that seems to be here; what is in it is not looked at."""
    monkeypatch.setattr(engine, "build_engine", lambda *given, **options: (b"engine", {}))
    for module in (engine, device):
        monkeypatch.setattr(module, "find_gpu", lambda: GPU)
    monkeypatch.setattr(engine, "find_flavour", lambda target: TENSORRT)
    monkeypatch.setattr(engine, "installed_flavours", lambda: [TENSORRT])
    made = Artifact.load(make(once("hostile", write_valid), tmp_path / "model", lambda path: None))
    make_engine(made)
    return made


def wanted(artifact: Artifact) -> EngineFile:
    return EngineFile(artifact, artifact.graph(), TENSORRT, GPU)


def paths(artifact: Artifact) -> dict[str, Path]:
    file = wanted(artifact).path
    return {"folder": file.parent, "engine": file, "stamp": file.with_suffix(".json")}


def others_may_write(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o002)


def a_group_may_write(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o020)


def belongs_to_another(path: Path) -> None:
    if os.geteuid():
        pytest.skip("FOREIGN OWNERS NOT TESTED: giving files away needs root")
    os.chown(path, 12345, -1)


PLANTED = [
    (how, what)
    for how in (others_may_write, a_group_may_write, belongs_to_another)
    for what in ("folder", "engine", "stamp")
]


def test_ones_own_is_read_whatever_the_umask(artifact):
    assert wanted(artifact).read() == b"engine"
    assert "tensorrt" in available_runtimes(artifact)
    before = os.umask(0)
    try:
        for path in sorted(paths(artifact).values(), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        make_engine(artifact)
    finally:
        os.umask(before)
    assert wanted(artifact).read() == b"engine"


@pytest.mark.parametrize(("how", "what"), PLANTED)
def test_a_planted_one_is_refused_and_onnx_runtime_judges(artifact, caplog, how, what):
    path = paths(artifact)[what]
    how(path)
    with pytest.raises(EngineError) as refused:
        wanted(artifact).read()
    assert not isinstance(refused.value, NoEngineError)
    assert str(refused.value).startswith(f"{path} ") and "edgead engine" in str(refused.value)
    assert "tensorrt" not in available_runtimes(artifact)
    runtime = open_runtime(artifact)
    assert isinstance(runtime, OrtRuntime)
    runtime.close()
    assert str(path) in caplog.text and "taken for missing" in caplog.text
    assert caplog.records[0].name == "edgead.runtime.tensorrt"


@pytest.mark.parametrize("how", [others_may_write, a_group_may_write, belongs_to_another])
def test_none_is_built_into_a_folder_of_others(artifact, how):
    how(paths(artifact)["folder"])
    with pytest.raises(EngineError, match="remove it"):
        make_engine(artifact)


def test_a_fifo_in_its_place_does_not_hold_the_reader(artifact):
    file = paths(artifact)["engine"]
    file.unlink()
    os.mkfifo(file, 0o600)
    with pytest.raises(EngineError, match="no regular file"):
        wanted(artifact).read()
