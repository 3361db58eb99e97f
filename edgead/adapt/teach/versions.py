"""Versions of a model: a new one takes the model's place, the one before is kept beside it and can be put back."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgead.artifact.folder import Artifact, ArtifactError, check_destination, new_artifact, sync_tree
from edgead.artifact.versions import earlier_versions, keep_and_replace, replace, versions_folder
from edgead.files.disk import writing


def sheet_of(path: Path) -> Path:
    """Where the image of a model's last lesson lies."""
    path = path.resolve()
    return path.with_name(f"{path.name}.lesson.jpg")


@contextmanager
def new_version(path: Path, output: Path | None = None) -> Iterator[Path]:
    """Yield a copy of the model at `path` that takes its place when the block ends without an error.

    The model as it was goes to `MODEL.versions/NUMBER`, of which the last are kept. With an `output`, the copy becomes
    that, and the model stays where it is. On an error nothing changes.

    Raises
    ------
    ArtifactError
        Nothing can take the place of what is at `path`.
    """
    path = path.resolve()
    if output is not None:
        with new_artifact(output) as draft:
            shutil.copytree(path, draft, dirs_exist_ok=True)
            yield draft
        return
    check_destination(path)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with writing(path):
            shutil.copytree(path, draft, dirs_exist_ok=True)
            yield draft
            sync_tree(draft)
            keep_and_replace(path, draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def undo(path: Path) -> Artifact:
    """Put the last version back, also where a stopped machine left none in the model's place; returns it.

    Raises
    ------
    ArtifactError
        There is no earlier version, or it was damaged: then nothing changes.
    """
    path = path.resolve()
    earlier = earlier_versions(path)
    if not earlier:
        raise ArtifactError(f"{path} has no earlier version: there is nothing in {versions_folder(path)}")
    Artifact.load(earlier[-1])  # checks every hash
    replace(path, earlier[-1])
    with suppress(OSError):  # other versions are in it, or files of others
        versions_folder(path).rmdir()
    sheet_of(path).unlink(missing_ok=True)
    return Artifact.load(path)
