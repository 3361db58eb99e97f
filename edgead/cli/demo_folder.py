"""The folder of a demo: only what a demo wrote is ever removed or replaced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgead.errors import SettingsError
from edgead.files.disk import writing

STAMP = ".edgead-demo"


@contextmanager
def demo_folder(output: Path) -> Iterator[None]:
    """Mark a folder as the demo's, before anything is written there.

    Raises
    ------
    SettingsError
        Something lies there, and no demo made the folder.
    """
    stamp = output / STAMP
    if output.exists() and not stamp.is_file() and (not output.is_dir() or any(output.iterdir())):
        raise SettingsError(
            f"{output} holds what no demo wrote, and the demo would write over it: name a new folder with --output"
        )
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        stamp.touch()
        try:
            yield
        finally:
            if list(output.iterdir()) == [stamp]:  # it failed at once
                stamp.unlink()
