"""The registry of methods: what it has, what other packages add, and that it imports only what is asked for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs the workstation's packages")
from edgead.adapt.methods import METHODS, find_preset  # noqa: E402
from edgead.adapt.methods.method import Method, Trained  # noqa: E402
from edgead.adapt.methods.outline import read_outline  # noqa: E402
from edgead.artifact.folder import Artifact, ArtifactError, write_manifest  # noqa: E402
from edgead.detector import Detector  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.workstation.methods.load import load_network  # noqa: E402


@pytest.mark.parametrize("name", METHODS.own)
def test_every_method_is_one(name):
    method = METHODS[name]
    assert issubclass(method, Method) and method.name == name
    assert "default" in method.presets and method.learns_from == "good"


def test_names_need_no_torch():
    code = """
import sys
from edgead.adapt.methods import METHODS
assert "mvg" in [*METHODS] and "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def add(monkeypatch, **entries):
    found = [EntryPoint(name, value, "edgead.methods") for name, value in entries.items()]
    monkeypatch.setattr("edgead.components.added.entry_points", lambda group: found)


class Ours(METHODS["mvg"]):
    name = "ours"


def test_another_package_adds_a_method(monkeypatch):
    add(monkeypatch, ours=f"{__name__}:Ours", mvg="nowhere:Nothing", other=f"{__name__}:Ours")
    assert list(METHODS) == [*METHODS.own, "other", "ours"] and len(METHODS) == len(METHODS.own) + 2
    assert METHODS.find("ours") is Ours
    with pytest.raises(SettingsError, match="the name of test_methods:Ours is 'ours': its entry point must have the"):
        METHODS.find("other")
    assert METHODS["mvg"].__module__ == "edgead.workstation.methods.mvg.detector"  # edgead's own are not replaced


def test_one_that_cannot_be_imported_is_named(monkeypatch):
    add(monkeypatch, broken="nowhere_at_all:Nothing")
    with pytest.raises(SettingsError, match="detector broken of nowhere_at_all:Nothing cannot be imported: No module"):
        METHODS.find("broken")


@pytest.mark.parametrize("name", METHODS)
def test_an_outline_says_what_the_class_says(name):
    outline, method = read_outline(METHODS.places()[name]), METHODS[name]
    assert outline is not None or name not in METHODS.own
    if outline is None:
        return
    assert outline.purpose == method.purpose and list(outline.presets) == list(method.presets)
    assert outline.presets == {preset: method.preset_purposes.get(preset, "") for preset in method.presets}
    assert outline.settings in (None, tuple(field.name for field in fields(method.config_class)))
    assert outline.settings is not None or name not in METHODS.own or name == "efficient_ad"  # of several networks


def test_what_no_file_writes_out_has_no_outline():
    assert read_outline(f"{__name__}:Ours") is None and read_outline("nowhere_at_all:Nothing") is None
    assert read_outline("nowhere_at_all.below:Nothing") is None


def test_unknown_names_are_refused_with_those_there_are():
    with pytest.raises(SettingsError, match="unknown detector 'x': choose one of patchcore, simplenet"):
        METHODS.find("x")
    with pytest.raises(SettingsError, match="mvg has no preset 'x': choose one of fast, default"):
        find_preset("mvg", "x")


@pytest.mark.parametrize("name", ["cs_flow", "winclip"])
def test_a_model_of_a_detector_that_went_still_runs_and_is_refused_where_its_class_is_needed(
    name, monkeypatch, tmp_path
):
    add(monkeypatch)  # nothing: a package may be here as it was before the detector went
    with pytest.raises(SettingsError, match=f"{name} was taken out after version 0.1.0: retrain with another"):
        METHODS.check(name)
    model = Path(shutil.copytree(Path(__file__).parents[1] / "fixtures" / "tiny_model", tmp_path / "old"))
    artifact = Artifact.load(model)
    write_manifest(model, artifact.manifest.model_copy(update={"detector": name}))
    old = Artifact.load(model)
    Detector.load(model).close()
    with pytest.raises(ArtifactError, match=f"old: the detector {name} was taken out after version 0.1.0"):
        load_network(old)


def test_what_is_exported_before_and_after_training_has_the_same_form():
    method = METHODS["mvg"].from_settings({"backbone": "efficientnet_lite0", "image_size": (64, 64)}, pretrained=False)
    before = method.trained()
    assert isinstance(before, Trained) and before.settings["image_size"] == [64, 64] and not before.arrays
