"""Shared fixtures: a small data set of the built-in line and a model trained on it, made once for all tests."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from exported import share_tracings
from fakes import full_disk
from hypothesis import settings
from system_packages import what_to_install

from edgead.synthetic import write_dataset

# EDGEAD_REQUIRE=all: what is NOT TESTED fails, but for what needs a GPU.
ALL_REQUIRED = "all" in os.environ.get("EDGEAD_REQUIRE", "").split(",")
_NOT_TESTED = re.compile(r"(?!.*(CUDA|GPU)).*NOT TESTED", re.IGNORECASE)

Once = Callable[[str, Callable[[Path], object]], Path]

# Test processes share the cores: threads that wait for each other took two fifths of the time. Read by torch and the
# kernels when they are loaded, here and in programs that a test starts; tests of threads set their number.
os.environ.setdefault("EDGEAD_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes is up to what else the machine does.
settings.register_profile("edgead", deadline=None)
settings.load_profile("edgead")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--turn", default="0/1", metavar="K/N", help="of the files, every N-th: those whose turn it is")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the files whose turn it is, of those that have tests left: each has its turn in N days."""
    turn, turns = map(int, config.getoption("turn").split("/"))
    files = set(list(dict.fromkeys(item.path for item in items))[turn % turns :: turns])
    config.hook.pytest_deselected(items=[item for item in items if item.path not in files])
    items[:] = [item for item in items if item.path in files]


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


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say what to install in the last line, after what pytest counts."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal and not hasattr(config, "workerinput"):
        skipped = [report.longrepr[2] for report in terminal.stats.get("skipped", [])]
        if line := what_to_install(skipped):
            terminal.write_line(line)


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
    from edgead.adapt.training.from_folder import train_from_folder
    from edgead.adapt.training.good_images import GoodImages

    settings = {"backbone": "efficientnet_lite0", "image_size": (160, 160), "memory_bank_size": 500}
    settings["damp_length"] = True  # its scores are near 1; test_damping.py has the choice
    good = GoodImages(line_data, false_reject_rate=0.05)
    return once("patchcore", lambda path: train_from_folder(good, path, settings))


@pytest.fixture
def fifo_allowed() -> None:
    """Skips where the system lets nobody here have a real-time priority."""
    if not hasattr(os, "sched_setscheduler"):
        pytest.skip("REAL TIME NOT TESTED: only Linux has SCHED_FIFO")
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        pytest.skip("REAL TIME NOT TESTED: SCHED_FIFO is not permitted here (ulimit -r)")
    os.sched_setscheduler(0, *before)


@pytest.fixture
def model_copy(trained_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_model, tmp_path / "model"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser; no longer than for a module, as no other loop of events can run beside its own."""
    with chromium() as started:
        yield started


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that is full after one MiB."""
    with full_disk(tmp_path, size_kib=1024) as disk:
        yield disk
