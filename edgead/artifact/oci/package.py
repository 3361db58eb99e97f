"""OCI manifest of a model: one layer for each file, so that unchanged files are not sent again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from edgead.artifact.files import MAX_BYTES, MAX_FILE_BYTES
from edgead.artifact.folder import ENGINES
from edgead.artifact.manifest import MANIFEST
from edgead.errors import EdgeadError, tell_invalid

ARTIFACT_TYPE = "application/vnd.edgead.model.v1"
FILE_TYPE = "application/vnd.edgead.model.file.v1"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"
# The size that every registry must accept (distribution-spec, "Pushing manifests").
MAX_MANIFEST_BYTES = 4 << 20
MAX_FILES = 4096
EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_MAX_NAME_BYTES = 255


class PackageError(EdgeadError):
    """Content that is no usable model; another attempt cannot help, as the digest fixes the content."""


class Blob(BaseModel, frozen=True):
    """Descriptor of stored bytes: their digest and size."""

    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0, le=MAX_FILE_BYTES)]

    @property
    def sha256(self) -> str:
        return self.digest.partition(":")[2]


class _Layer(Blob, frozen=True):
    mediaType: Literal["application/vnd.edgead.model.file.v1"]
    annotations: dict[str, str]


class _Content(BaseModel):
    schemaVersion: Literal[2]
    artifactType: Literal["application/vnd.edgead.model.v1"]
    layers: Annotated[list[_Layer], Field(min_length=1, max_length=MAX_FILES)]
    annotations: dict[str, str] = {}


class Package(BaseModel, frozen=True):
    """OCI manifest of a model: its files by their path in the folder, and annotations."""

    files: dict[str, Blob]
    annotations: dict[str, str]

    @property
    def size(self) -> int:
        return sum(blob.size for blob in self.files.values())

    def dump(self) -> bytes:
        """Serialise the manifest; equal models give equal bytes, and so the same digest."""
        layers = [_described(FILE_TYPE, blob, {TITLE: name}) for name, blob in sorted(self.files.items())]
        content = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": _described(_EMPTY_TYPE, Blob(digest=digest_of(EMPTY), size=len(EMPTY))),
            "layers": layers,
            "annotations": self.annotations,
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def read(cls, content: bytes) -> Package:
        """Parse a manifest.

        Raises PackageError: it is no manifest of a model, or it names files outside the model's folder.
        """
        try:
            found = _Content.model_validate_json(content)
        except ValidationError as error:
            wrong = tell_invalid(error.errors()[:1], whole="manifest")
            raise PackageError(f"this is no edgead model ({wrong}): `edgead push` writes one") from None
        names = [layer.annotations.get(TITLE, "") for layer in found.layers]
        _check_names(names)
        files = {
            name: Blob(digest=layer.digest, size=layer.size) for name, layer in zip(names, found.layers, strict=True)
        }
        package = cls(files=files, annotations=found.annotations)
        if package.size > MAX_BYTES:
            raise PackageError(f"its files have {package.size} bytes, a model has {MAX_BYTES} at most")
        return package


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def belongs(name: str) -> bool:
    """Whether a file of a model's folder belongs in the package: no hidden file, and no engine that a device built."""
    parts = PurePosixPath(name).parts
    return parts[0] != ENGINES and not any(part.startswith(".") for part in parts)


def _check_names(names: Iterable[str]) -> None:
    # Case is ignored: on the disks of Windows and macOS two names that differ only in case are one file.
    taken: set[str] = set()
    folders: set[str] = set()
    for name in names:
        if not _usable(name):
            raise PackageError(f"it holds a file {name[:80]!r}, which has no place in a model's folder: do not use it")
        path = PurePosixPath(name.casefold())
        if str(path) in taken:
            raise PackageError(f"it holds two files {name[:80]!r}: do not use it")
        taken.add(str(path))
        folders.update(map(str, path.parents))
    if taken & folders:
        raise PackageError("a file of it is a folder of another: do not use it")
    if MANIFEST not in taken:
        raise PackageError(f"it holds no {MANIFEST}: it is no edgead model")


def _usable(name: str) -> bool:
    parts = name.split("/")
    return (
        name.isprintable()
        and not set(name) & set('\\:*?"<>|')
        and all(part not in ("", ".", "..") and len(part.encode()) <= _MAX_NAME_BYTES for part in parts)
        and belongs(name)
    )


def _described(media_type: str, blob: Blob, annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"mediaType": media_type, **blob.model_dump()}
    return found | ({"annotations": dict(annotations)} if annotations else {})
