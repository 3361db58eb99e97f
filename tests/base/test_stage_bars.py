"""Bars of stages: on a terminal, each moment has one; elsewhere, each stage is one line."""

from __future__ import annotations

import io

from rich.console import Console

from edgead.process.stage_bars import stage_bars

PLANNED = ["read images", "compare parts", "write the model"]


def written(*reports, planned=PLANNED, terminal, at=None):
    """What has been written; `at` is called with it before the end, when the last bars stand."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None)
    with stage_bars(console, planned) as progress:
        for report in reports:
            progress(*report)
        if terminal:
            bars = [(task.fields["step"], task.description, task.finished) for task in progress._progress.tasks]
            at.extend(bars)
    return file.getvalue()


def test_what_is_planned_next_stands_there_before_it_reports():
    bars = []
    written(terminal=True, at=bars)
    assert bars == [("step 1 of 3", "read images", False)]
    bars.clear()
    written(("read images", 1, 2), ("read images", 2, 2), terminal=True, at=bars)
    assert bars == [("step 1 of 3", "read images", True), ("step 2 of 3", "compare parts", False)]


def test_a_stage_that_does_not_come_is_not_counted_and_one_that_nobody_planned_is():
    bars = []
    reports = [("read images", 2, 2), ("write the model", 0, 1), ("try int8", 1, 4)]
    shown = written(*reports, terminal=True, at=bars)
    assert bars == [
        ("step 1 of 3", "read images", True),
        ("step 2 of 3", "write the model", True),
        ("step 3 of 3", "try int8", False),
    ]
    assert "1/4" in shown


def test_a_stage_may_come_again():
    bars = []
    reports = [("extract features", 2, 2), ("try another size", 2, 2), ("extract features", 3, 8)]
    shown = written(*reports, planned=(), terminal=True, at=bars)
    assert bars == [("", "extract features", False), ("", "try another size", True)] and "3/8" in shown


def test_without_a_terminal_each_stage_is_one_line():
    reports = [("read images", 1, 2), ("read images", 2, 2), ("write the model", 0, 1), ("read images", 2, 2)]
    assert written(*reports, terminal=False) == "step 1 of 3: read images\nstep 2 of 3: write the model\n"
    assert written(*reports, planned=(), terminal=False) == "read images\nwrite the model\n"
