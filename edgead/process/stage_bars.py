"""Progress bars on a terminal for the stages of long work; elsewhere, one line for each stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

Report = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


@contextmanager
def stage_bars(console: Console, planned: Sequence[str] = ()) -> Iterator[Report]:
    """Yield a callable progress(stage, done, total) that shows a bar for every stage.

    `planned`: expected stages in order: they are counted in "step 2 of 5", and the next one is shown while nothing is
        reported.
    """
    if not console.is_terminal:
        yield _Lines(console, planned)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.fields[step]:>14} {task.description:<20}"),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[count]:>9}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars = _Bars(progress, planned)
        yield bars
        bars.finish()


class _Steps:
    """Counter of stages, planned ones among them; a stage that was not planned adds one to the total."""

    def __init__(self, planned: Sequence[str]):
        self._planned, self._seen = list(planned), list[str]()

    def begin(self, stage: str) -> bool:
        """Record that a stage runs; return whether it is new."""
        if stage in self._seen:
            return False
        self._seen.append(stage)
        return True

    def skip(self, stage: str) -> None:
        """Remove a planned stage that does not come."""
        self._planned.remove(stage)
        self._seen.remove(stage)

    def label(self, stage: str) -> str:
        """Return "step 2 of 5" for a stage; nothing if no stages are planned."""
        if not self._planned:
            return ""
        total = len({*self._planned, *self._seen})
        return f"step {self._seen.index(stage) + 1} of {total}"

    def following(self, stage: str | None) -> str | None:
        """Return the next planned stage after `stage` that has not begun, or None."""
        after = self._planned[self._planned.index(stage) + 1 :] if stage in self._planned else self._planned
        return next((name for name in after if name not in self._seen), None)


class _Lines:
    def __init__(self, console: Console, planned: Sequence[str]):
        self._console, self._steps = console, _Steps(planned)

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._steps.begin(stage):
            label = self._steps.label(stage)
            self._console.print(f"{label}: {stage}" if label else stage, soft_wrap=True)


class _Bars:
    def __init__(self, progress: Progress, planned: Sequence[str]):
        self._progress, self._steps = progress, _Steps(planned)
        self._tasks: dict[str, TaskID] = {}
        self._current: str | None = None
        self._reported = False  # of the current one; else it is only expected
        self._expect(None)

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._current:
            self.finish()
            self._begin(stage)
        self._reported = True
        # A stage of one item has no share that is done: its bar moves to and fro.
        count = f"{done}/{total}" if total > 1 else ""
        task = self._tasks[stage]
        self._progress.update(task, total=None if total == 1 > done else total, completed=done, count=count)
        if done >= total:
            self.finish()
            self._expect(stage)

    def finish(self) -> None:
        """Fill the bar of the current stage; remove it if the stage was only expected."""
        stage, self._current = self._current, None
        if stage is None:
            return
        if not self._reported:
            self._progress.remove_task(self._tasks.pop(stage))
            self._steps.skip(stage)
            return
        (task,) = (task for task in self._progress.tasks if task.id == self._tasks[stage])
        whole = task.total or 1
        self._progress.update(task.id, total=whole, completed=whole)
        self._progress.stop_task(task.id)

    def _expect(self, stage: str | None) -> None:
        following = self._steps.following(stage)
        if following is not None:
            self._begin(following)
            self._reported = False

    def _begin(self, stage: str) -> None:
        self._current = stage
        if self._steps.begin(stage):
            self._tasks[stage] = self._progress.add_task(stage, total=None, step="", count="")
        else:
            self._progress.reset(self._tasks[stage])
        for name, task in self._tasks.items():
            self._progress.update(task, step=self._steps.label(name))


@contextmanager
def shown(progress: Report | bool) -> Iterator[Report]:
    """Yield a callable unchanged; for True, a callable that shows bars on a terminal; else one that does nothing."""
    from rich.console import Console

    console = Console(stderr=True)
    if callable(progress):
        yield progress
    elif progress and console.is_terminal:
        with stage_bars(console) as report:
            yield report
    else:
        yield lambda stage, done, total: None
