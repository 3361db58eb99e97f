"""Versions of a model: the newest is at the model's path, earlier ones are kept in a folder beside it."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from edgead.artifact.files import ArtifactError
from edgead.artifact.manifest import read_manifest
from edgead.errors import SettingsError
from edgead.files.atomic import exchange_names, unfinished_folder

# A version is 10 to 30 MiB.
MAX_VERSIONS = 5


def versions_folder(path: Path) -> Path:
    """Folder of a model's earlier versions; for a link to a model, the folder of the link's target."""
    path = path.resolve()
    return path.with_name(f"{path.name}.versions")


def earlier_versions(path: Path) -> list[Path]:
    """List the versions before the present one, oldest first."""
    folder = versions_folder(path)
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((entry for entry in found if entry.name.isdecimal()), key=lambda entry: int(entry.name))


def keep_and_replace(path: Path, draft: Path) -> None:
    """Move the model at `path` to `MODEL.versions/NUMBER` and the draft to `path`; remove the oldest versions.

    On an error nothing changes.
    """
    _keep(path, draft)
    for old in earlier_versions(path)[:-MAX_VERSIONS]:
        shutil.rmtree(old, ignore_errors=True)


def replace(path: Path, draft: Path) -> None:
    """Move the draft to `path` and remove what was there, if anything; on an error nothing changes.

    A kill meanwhile leaves the old model among the earlier versions, or in an unfinished folder that the next start
    removes.
    """
    if not path.exists():
        draft.rename(path)
        return
    with unfinished_folder(path) as removed:
        _keep(path, draft).rename(removed / "model")
    with suppress(OSError):  # the folder holds other versions, or foreign files
        versions_folder(path).rmdir()


def _keep(path: Path, draft: Path) -> Path:
    earlier = earlier_versions(path)
    kept = versions_folder(path) / str(int(earlier[-1].name) + 1 if earlier else 1)
    kept.parent.mkdir(exist_ok=True)
    exchange(path, draft, kept)
    return kept


def exchange(path: Path, draft: Path, aside: Path) -> None:
    """Move what is at `path` to `aside`, and the draft to `path`; on an error everything is moved back.

    If the file system can exchange two names in one step, a complete model is at `path` whenever the program ends. With
    two renames there is an instant without a model; see `restore_missing`.
    """
    try:
        try:
            _exchange_at_once(path, draft, aside)
        except NotImplementedError:
            _exchange_by_renames(path, draft, aside)
    except BaseException:
        with suppress(OSError):  # removes only an empty folder: a model that could not be moved back stays in it
            aside.parent.rmdir()
        raise


def _exchange_at_once(path: Path, draft: Path, aside: Path) -> None:
    # In this order no model is ever left in a folder that nothing reads.
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
    """Move the newest version to `path` if the model is missing there; return the version's old place, else None.

    A model is missing if the program ended between two renames, or if somebody removed it and left its versions.

    Raises OSError: the version cannot be moved.
    """
    earlier = earlier_versions(path)
    if not earlier or path.exists():
        return None
    earlier[-1].rename(path.resolve())
    return earlier[-1]


def bring_back(path: Path, manifest_sha256: str) -> None:
    """Exchange a model with its version of this manifest hash; the present model becomes the newest earlier version.

    Nothing changes if the model has this manifest already, or no version has it.

    Raises SettingsError: the folders cannot be exchanged; nothing has changed.
    """
    try:
        _bring_back(path.resolve(), manifest_sha256)
    except OSError as error:
        raise SettingsError(f"{path}: its version before cannot be put back: {error.strerror}") from error


def _bring_back(path: Path, manifest_sha256: str) -> None:
    if _sha256(path) == manifest_sha256:
        return
    wanted = next((each for each in reversed(earlier_versions(path)) if _sha256(each) == manifest_sha256), None)
    if wanted is not None:
        keep_and_replace(path, wanted)


def _sha256(path: Path) -> str:
    try:
        return read_manifest(path).manifest_sha256
    except ArtifactError:
        return ""
