"""Artifacts changed at random, with hashes that are right again: each loads, or is refused as an artifact."""

from __future__ import annotations

import shutil
import string
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="NO MUTATIONS TESTED: graphs are made by the workstation's packages")

from valid_artifact import read_manifest, stamp, write_valid

from edgead.artifact.folder import ArtifactError
from edgead.detector import Detector
from edgead.line.daemon.self_test import SelfTestError, self_test

FILES = ("model.onnx", "memory_bank.npy", "golden/0.png", "golden/1.npy")
EACH = settings(
    max_examples=100,
    derandomize=True,  # the same ones in every run
    database=None,
    deadline=10_000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.integers(-3, 20),
    st.floats(),
    st.text(string.printable, max_size=20),
    st.text(max_size=5),
    st.lists(st.integers(-3, 300), max_size=4),
    st.dictionaries(st.text(string.ascii_letters, max_size=8), st.integers(), max_size=2),
)
attempts = {"bytes": 0, "manifest": 0}


@pytest.fixture(scope="module")
def valid(once) -> Path:
    return once("hostile", write_valid)


def load(path: Path) -> None:
    """All that happens before a model judges: it works, or is refused."""
    try:
        with Detector.load(path, runtime="onnxruntime") as detector:
            self_test(detector).require()
    except (ArtifactError, SelfTestError):
        pass


def fresh(valid: Path, folder: Path) -> Path:
    shutil.rmtree(folder / "model", ignore_errors=True)
    return Path(shutil.copytree(valid, folder / "model"))


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, str, float, int, bytes]:
    kind = draw(st.sampled_from(("flip", "replace", "cut", "insert", "repeat")))
    where = draw(st.floats(0, 1, exclude_max=True))
    return kind, draw(st.sampled_from(FILES)), where, draw(st.integers(1, 64)), draw(st.binary(min_size=1, max_size=64))


def changed(content: bytes, kind: str, where: float, count: int, junk: bytes) -> bytes:
    at = int(where * len(content))
    if kind == "flip":
        return content[:at] + bytes([content[at] ^ (1 << count % 8)]) + content[at + 1 :]
    if kind == "replace":
        return content[:at] + junk + content[at + len(junk) :]
    if kind == "cut":
        return content[:at]
    return content[:at] + (junk if kind == "insert" else content[at : at + count] * count) + content[at:]


@EACH
@given(st.lists(changes(), min_size=1, max_size=3))
def test_bytes_of_any_file(valid, tmp_path, made):
    path = fresh(valid, tmp_path)
    for kind, name, where, count, junk in made:
        content = (path / name).read_bytes()
        if content:
            (path / name).write_bytes(changed(content, kind, where, count, junk))
    stamp(path)
    attempts["bytes"] += 1
    load(path)


def places(content: Any, so_far: tuple = ()) -> list[tuple]:
    """Every place within a manifest."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [found for key, value in items for found in ((*so_far, key), *places(value, (*so_far, key)))]


@EACH
@given(
    st.lists(
        st.tuples(st.integers(0), st.sampled_from(("set", "remove", "add", "double")), VALUES), min_size=1, max_size=3
    )
)
def test_values_of_the_manifest(valid, tmp_path, made):
    path = fresh(valid, tmp_path)
    content = read_manifest(path)
    for pick, kind, value in made:
        all_places = [place for place in places(content) if place[0] != "manifest_sha256"]
        *above, key = all_places[pick % len(all_places)]
        place: Any = content
        for step in above:
            place = place[step]
        if kind == "remove":
            del place[key]
        elif kind == "add" and isinstance(place, dict):
            place[f"{key}s"] = value
        elif kind == "double" and isinstance(place, list):
            place.extend(place[:1] * 50)
        else:
            place[key] = value
    attempts["manifest"] += 1
    with warnings.catch_warnings():
        stamp(path, content)
    load(path)


def test_all_of_them_were_made():
    assert attempts["bytes"] >= 100 and attempts["manifest"] >= 100
