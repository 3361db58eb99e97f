"""Versions of a model: a new one takes the model's place, those before it are kept beside it."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from edgead.files.atomic import exchange_names, unfinished_folder

# A version is 10 to 30 MiB.
MAX_VERSIONS = 5


def versions_folder(path: Path) -> Path:
    """Of a model; of what a link to one leads to."""
    path = path.resolve()
    return path.with_name(f"{path.name}.versions")


def earlier_versions(path: Path) -> list[Path]:
    """Versions before the present one, oldest first."""
    folder = versions_folder(path)
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((entry for entry in found if entry.name.isdecimal()), key=lambda entry: int(entry.name))


def keep_and_replace(path: Path, draft: Path) -> None:
    """Move the model at `path` to `MODEL.versions/NUMBER`, and the draft to where it was; the last versions are kept.

    On an error nothing changes.
    """
    _keep(path, draft)
    for old in earlier_versions(path)[:-MAX_VERSIONS]:
        shutil.rmtree(old, ignore_errors=True)


def replace(path: Path, draft: Path) -> None:
    """Put the draft in the place of what may be at `path`, which is removed; on an error nothing changes.

    A kill meanwhile leaves it among the earlier versions, or in an unfinished folder that the next start removes.
    """
    if not path.exists():
        draft.rename(path)
        return
    with unfinished_folder(path) as removed:
        _keep(path, draft).rename(removed / "model")
    with suppress(OSError):  # other versions are in it, or files of others
        versions_folder(path).rmdir()


def _keep(path: Path, draft: Path) -> Path:
    earlier = earlier_versions(path)
    kept = versions_folder(path) / str(int(earlier[-1].name) + 1 if earlier else 1)
    kept.parent.mkdir(exist_ok=True)
    exchange(path, draft, kept)
    return kept


def exchange(path: Path, draft: Path, aside: Path) -> None:
    """Move what is at `path` to `aside`, and the draft to where it was; on an error all goes back where it was.

    Whatever ends the program meanwhile, something whole is at `path`, where the file system can exchange two names in
    one step. With two renames there is an instant without; see `restore_missing`.
    """
    try:
        try:
            _exchange_at_once(path, draft, aside)
        except NotImplementedError:
            _exchange_by_renames(path, draft, aside)
    except BaseException:
        with suppress(OSError):  # never more than an empty folder: what could not go back stays in it
            aside.parent.rmdir()
        raise


def _exchange_at_once(path: Path, draft: Path, aside: Path) -> None:
    # In this order nothing is ever in a place where nobody looks for it.
    draft.rename(aside)
    try:
        exchange_names(path, aside)
    except BaseException:
        aside.rename(draft)
        raise


def _exchange_by_renames(path: Path, draft: Path, aside: Path) -> None:
    path.rename(aside)
    try:
        draft.rename(path)
    except BaseException:
        aside.rename(path)
        raise


def restore_missing(path: Path) -> Path | None:
    """Put the newest version where a model is missing; gives where it lay, None where nothing was to be done.

    So it is where the program was ended between two renames, or by who removed a model and left its versions.

    Raises
    ------
    OSError
        It cannot be put back.
    """
    earlier = earlier_versions(path)
    if not earlier or path.exists():
        return None
    earlier[-1].rename(path.resolve())
    return earlier[-1]
