"""Fixtures and options of the core's tests; `shared` has those that the tests of plug-ins use too."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from fakes import full_disk
from one_thread import one_thread as one_thread
from shared import line_data as line_data
from shared import once as once
from shared import pytest_make_collect_report as pytest_make_collect_report
from shared import pytest_runtest_makereport as pytest_runtest_makereport
from shared import tracings as tracings
from shared import trained_model as trained_model
from system_packages import what_to_install


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--turn", default="0/1", metavar="K/N", help="of the files, every N-th: those whose turn it is")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the files whose turn it is, of those that have tests left: each has its turn in N days."""
    turn, turns = map(int, config.getoption("turn").split("/"))
    files = set(list(dict.fromkeys(item.path for item in items))[turn % turns :: turns])
    config.hook.pytest_deselected(items=[item for item in items if item.path not in files])
    items[:] = [item for item in items if item.path in files]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say what to install in the last line, after what pytest counts."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal and not hasattr(config, "workerinput"):
        skipped = [report.longrepr[2] for report in terminal.stats.get("skipped", [])]
        if line := what_to_install(skipped):
            terminal.write_line(line)


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
