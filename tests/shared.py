"""Fixtures that tests of plug-ins share with the core's: a small data set of the built-in line, a model trained on it.

Each is made once for all tests. With `EDGEAD_REQUIRE=all` a skip of what is NOT TESTED is a failure.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from exported import share_tracings
from hypothesis import settings

from edgead.synthetic import write_dataset

# EDGEAD_REQUIRE=all: what is NOT TESTED fails, but for what needs a GPU.
ALL_REQUIRED = "all" in os.environ.get("EDGEAD_REQUIRE", "").split(",")
_NOT_TESTED = re.compile(r"(?!.*(CUDA|GPU)).*NOT TESTED", re.IGNORECASE)

# How long an example takes is up to what else the machine does.
settings.register_profile("edgead", deadline=None)
settings.load_profile("edgead")

Once = Callable[[str, Callable[[Path], object]], Path]


def _refuse_skip(report: Any) -> Any:
    if ALL_REQUIRED and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if _NOT_TESTED.match(reason):
            report.outcome, report.longrepr = "failed", f"EDGEAD_REQUIRE=all: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    return _refuse_skip((yield))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Have a folder made by the first test process that needs it; no test may change what all of them see."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def make_once(name: str, make: Callable[[Path], object]) -> Path:
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (root / name).exists():
                make(root / f"{name}.draft")
                (root / f"{name}.draft").rename(root / name)
        return root / name

    return make_once


@pytest.fixture(scope="session", autouse=True)
def tracings(once: Once) -> None:
    """Networks that are equal are traced once."""
    share_tracings(once)


@pytest.fixture(scope="session")
def line_data(once: Once) -> Path:
    """A data set in MVTec layout with 60 good training images."""
    return once("line", lambda path: write_dataset(path, train_good=60, test_good=8, per_defect=2, seed=5))


@pytest.fixture(scope="session")
def trained_model(line_data: Path, once: Once) -> Path:
    """A small patchcore artifact; tests that change it copy it with `model_copy`."""
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    from edgead.workstation.training.from_folder import train_from_folder
    from edgead.workstation.training.good_images import GoodImages

    settings = {"backbone": "efficientnet_lite0", "image_size": (160, 160), "memory_bank_size": 500}
    good = GoodImages(line_data, false_reject_rate=0.05)
    return once("patchcore", lambda path: train_from_folder(good, path, settings))
