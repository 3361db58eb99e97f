"""Versions of a model: a new one takes the model's place, those before it are kept beside it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

# A version is 10 to 30 MiB.
MOST_VERSIONS = 5


def versions_folder(path: Path) -> Path:
    """Of a model; of what a link to one leads to."""
    path = path.resolve()
    return path.with_name(f"{path.name}.versions")


def earlier_versions(path: Path) -> list[Path]:
    """Versions before the present one, oldest first."""
    folder = versions_folder(path)
    return sorted(folder.glob("[0-9]*"), key=lambda entry: int(entry.name)) if folder.is_dir() else []


def keep_and_replace(path: Path, draft: Path) -> None:
    """Move the model at `path` to `MODEL.versions/NUMBER`, and the draft to where it was; the last versions are kept.

    On an error nothing changes.
    """
    earlier = earlier_versions(path)
    kept = versions_folder(path) / str(int(earlier[-1].name) + 1 if earlier else 1)
    kept.parent.mkdir(exist_ok=True)
    path.rename(kept)
    try:
        draft.rename(path)
    except BaseException:
        kept.rename(path)
        if not earlier:
            kept.parent.rmdir()
        raise
    for old in earlier_versions(path)[:-MOST_VERSIONS]:
        shutil.rmtree(old)


def replace(path: Path, draft: Path) -> None:
    """Put the draft in the place of what may be at `path`, which is kept nowhere; on an error nothing changes."""
    if not path.exists():
        draft.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    path.rename(old / "model")
    try:
        draft.rename(path)
    except BaseException:
        (old / "model").rename(path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
