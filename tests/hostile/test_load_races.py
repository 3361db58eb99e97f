"""A folder, or files of it, exchanged by renames while a model is loaded: what judges is one model, or none."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="NO RACES TESTED: graphs are made by the workstation's packages")

from small_graph import SIZE, small_images  # noqa: E402
from valid_artifact import write_valid

from edgead.artifact.folder import ArtifactError
from edgead.detector import Detector
from edgead.line.daemon.self_test import SelfTestError, self_test

PROBE = np.zeros((SIZE, SIZE, 3), np.uint8)
WHATS = ("folder", "memory_bank.npy", "manifest.json")
MOMENTS = range(1, 38)  # before which opening of a file: a load with its self-test opens fewer, each seen twice


class Opened:
    """Calls somebody before the n-th file below a folder is opened. Hooks of Python cannot be taken off again."""

    def __init__(self) -> None:
        self._folder, self._left, self._then = "", 0, lambda: None
        sys.addaudithook(self._hook)

    def before(self, number: int, folder: Path, then: Callable[[], None]) -> None:
        self._folder, self._left, self._then = f"{folder}{os.sep}", number, then

    def _hook(self, event: str, arguments: tuple) -> None:
        if self._left and event == "open" and str(arguments[0]).startswith(self._folder):
            self._left -= 1
            if not self._left:
                self._then()


@pytest.fixture(scope="session")
def two(once) -> tuple[Path, Path]:
    """A model, and the same after it was taught."""
    golden = [image[..., ::-1] for image in small_images(2)]  # RGB; they score 0, before and after
    before = once("before", lambda path: write_valid(path, learnt=golden))
    return before, once("taught", lambda path: write_valid(path, learnt=[*golden, PROBE]))


@pytest.fixture(scope="module")
def opened() -> Opened:
    return Opened()


def exchange(one: Path, other: Path) -> None:
    spare = one.with_name(f"{one.name}.spare")
    one.rename(spare)
    other.rename(one)
    spare.rename(other)


def judged_by(path: Path) -> tuple[str, float]:
    """Load a model as the daemon does; the hash that it names, and what it scores the probe."""
    with Detector.load(path, runtime="onnxruntime") as detector:
        self_test(detector).require()
        return detector.manifest.manifest_sha256, detector.measure(PROBE).image_score


@pytest.fixture(scope="module")
def whole(two) -> dict[str, float]:
    """What each of the two scores the probe, by the hash that it names."""
    scores = dict(judged_by(each) for each in two)
    assert len(scores) == len(set(scores.values())) == 2
    return scores


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_what_judges_is_the_model_that_is_named(tmp_path, two, opened, whole, what, moment):
    path, other = (Path(shutil.copytree(each, tmp_path / each.name)) for each in two)
    opened.before(
        moment, path, lambda: exchange(*(each if what == "folder" else each / what for each in (path, other)))
    )
    try:
        name, score = judged_by(path)
    except (ArtifactError, SelfTestError):
        return
    assert score == whole[name]
