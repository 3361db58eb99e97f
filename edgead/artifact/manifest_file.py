"""The manifest's file: JSON with the hash of its own content."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgead.artifact.files import ArtifactError
from edgead.artifact.manifest import SCHEMA_VERSION, Manifest
from edgead.errors import tell_invalid
from edgead.files.regular_files import MissingFileError, UnreadableFileError, read_regular
from edgead.heads import HeadError

MANIFEST = "manifest.json"
_MAX_BYTES = 16 << 20


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a folder; raises ArtifactError where there is none that can be used."""
    file = path / MANIFEST
    try:
        text = read_regular(file, _MAX_BYTES).decode()
        content = json.loads(text)
        version = content["schema_version"]
        if type(version) is not int:  # True equals 1
            raise TypeError("schema_version is no whole number")
        digest = content.pop("manifest_sha256", None)
        found = content_sha256(content)
    except MissingFileError:
        found = f"it holds no {MANIFEST}" if os.path.lexists(path) else "no such directory"
        raise ArtifactError(
            f"{path} is not an edgead model: {found}; make one with `edgead train DATA -o {path}`"
        ) from None
    except UnreadableFileError as error:
        raise ArtifactError(f"{file} {error}: let this user read it, or copy the model again") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{file} cannot be read ({error}): it is damaged; copy the model again") from error
    if version > SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} was written by a newer edgead (schema {version}, this one reads {SCHEMA_VERSION}): "
            "update edgead with `pip install -U edgead`"
        )
    if version < SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} was written by an earlier edgead (schema {version}, this one reads {SCHEMA_VERSION}): train it "
            f"again with `edgead train DATA -o {path}`"
        )
    if digest != found:
        raise ArtifactError(f"{file} is not what was written: it was edited or damaged; copy the model again")
    try:
        return Manifest.model_validate({**content, "manifest_sha256": digest})
    except ValidationError as error:
        (first, *_) = error.errors()
        if isinstance(first.get("ctx", {}).get("error"), HeadError):  # the model may be sound
            raise ArtifactError(f"{file}: {tell_invalid([first])}") from error
        raise ArtifactError(f"{file}: {tell_invalid([first])}; train the model again") from error


def content_sha256(content: dict[str, Any]) -> str:
    """Hash of the manifest's content, whatever its layout as text."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
