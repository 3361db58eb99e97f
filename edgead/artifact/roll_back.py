"""Rollback of a model's folder to an earlier version, so that a restart loads that version too."""

from __future__ import annotations

from pathlib import Path

from edgead.artifact.earlier_versions import earlier_versions, keep_and_replace
from edgead.artifact.files import ArtifactError
from edgead.artifact.manifest import read_manifest
from edgead.errors import SettingsError


def bring_back(path: Path, manifest_sha256: str) -> None:
    """Exchange a model with its version of this manifest hash; the present model becomes the newest earlier version.

    Nothing changes if the model has this manifest already, or no version has it.

    Raises
    ------
    SettingsError
        The folders cannot be exchanged; nothing has changed.
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
