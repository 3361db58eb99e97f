"""Bars that show on a terminal how far the stages of long work are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

Report = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


@contextmanager
def stage_bars(console: Console) -> Iterator[Report]:
    """Yield progress(stage, done, total); every stage gets a bar of its own."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:>20}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done)

        yield report


@contextmanager
def shown(progress: Report | bool) -> Iterator[Report]:
    """Yield a callable as it is; for True, bars where the errors go to a terminal; else what shows nothing."""
    from rich.console import Console

    console = Console(stderr=True)
    if callable(progress):
        yield progress
    elif progress and console.is_terminal:
        with stage_bars(console) as report:
            yield report
    else:
        yield lambda stage, done, total: None
