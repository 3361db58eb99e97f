"""The examples of the docstrings run, and give what they say."""

from __future__ import annotations

import doctest
import importlib

import cv2
import numpy as np
import pytest

import edgead

MODULES = [
    "edgead",
    "edgead.api.model",
    "edgead.detector.detector",
    "edgead.images.boxes",
    "edgead.images.inputs",
    "edgead.images.verdict",
    "edgead.serialization.words",
    "edgead.types",
]


@pytest.fixture(scope="module")
def workplace(trained_model, line_data, tmp_path_factory):
    """The folder that the examples are in: a model, a data set, a good part and one that is none."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "out").mkdir()
    (folder / "out" / "model").symlink_to(trained_model)
    (folder / "dataset").symlink_to(line_data)
    (folder / "parts").mkdir()
    with edgead.load(trained_model) as model:
        good = [one.image for one in model.predict_all(line_data / "test" / "good") if one.decision == "ok"][0]
    (folder / "parts" / "good.jpg").write_bytes(good.read_bytes())
    cv2.imwrite(str(folder / "parts" / "dark.png"), np.zeros((480, 480, 3), np.uint8))
    return folder


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted and not found.failed
