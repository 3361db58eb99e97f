"""Push of a model to a registry, which sends only missing files, and promotion, which moves only a tag."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.artifact.files import MAX_FILE_BYTES, file_sha256
from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.oci.package import EMPTY, MAX_FILES, Blob, Package, PackageError, belongs, digest_of
from edgead.artifact.oci.reference import Reference
from edgead.artifact.oci.registry import Repository
from edgead.errors import SettingsError
from edgead.files.regular_files import UnreadableFileError, open_regular
from edgead.version import __version__

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class PushResult:
    """Result of a push."""

    reference: str
    digest: str
    files: int
    bytes: int
    sent_bytes: int


def push(model: Path, reference: Reference, *, transport: httpx.BaseTransport | None = None) -> PushResult:
    """Upload a model to a registry and give it a tag.

    `reference`: reference with a tag.
    Raises ArtifactError: the model is edited or damaged.
    Raises RegistryError: the registry cannot be reached, or refuses the model.
    """
    if not reference.tag or reference.digest:
        raise SettingsError(f"{reference} names no tag: push to {reference.tagged('latest')}, for example")
    package = packed(model)
    sent = 0
    with Repository(reference, transport) as registry:
        empty = Blob(digest=digest_of(EMPTY), size=len(EMPTY))
        if not registry.has(empty):
            registry.put(empty, io.BytesIO(EMPTY))
        for name, blob in package.files.items():
            if not registry.has(blob):
                try:
                    with open_regular(model / name, MAX_FILE_BYTES) as (stream, _):
                        registry.put(blob, stream)
                except UnreadableFileError as error:
                    raise ArtifactError(f"{model}: {name} {error}: it was changed meanwhile") from error
                sent += blob.size
        digest = registry.put_manifest(package.dump())
    return PushResult(str(reference), digest, len(package.files), package.size, sent)


def packed(model: Path) -> Package:
    """Describe the folder of a model as a package: every file in it, except files that a device made for itself.

    Raises ArtifactError: the model is edited or damaged, or has files that do not belong in a model.
    """
    artifact = Artifact.load(model)
    names = sorted(file.relative_to(model).as_posix() for file in model.rglob("*") if not file.is_dir())
    names = [name for name in names if belongs(name)]
    if len(names) > MAX_FILES:
        raise ArtifactError(f"{model} holds {len(names)} files, a package {MAX_FILES} at most")
    annotations = {
        "org.opencontainers.image.title": model.resolve().name,
        "org.edgead.version": __version__,
        "org.edgead.schema": str(artifact.manifest.schema_version),
        "org.edgead.manifest-sha256": artifact.manifest.manifest_sha256,
        "org.edgead.detector": artifact.manifest.detector,
    }
    package = Package(files={name: _blob(model / name) for name in names}, annotations=annotations)
    try:
        Package.read(package.dump())
    except PackageError as error:
        raise ArtifactError(f"{model}: {error}") from error
    return package


def _blob(file: Path) -> Blob:
    if file.is_symlink() or not file.is_file():
        raise ArtifactError(f"{file} is no regular file: a package holds nothing else")
    return Blob(digest=f"sha256:{file_sha256(file)}", size=file.stat().st_size)


def tag_digest(reference: Reference, transport: httpx.BaseTransport | None = None) -> str:
    """Ask the registry for the digest of a tag; raises RegistryError."""
    with Repository(reference, transport) as registry:
        return registry.digest()


def move_tag(model: Reference, to: Reference, transport: httpx.BaseTransport | None = None) -> None:
    """Move a tag to a model of the same repository.

    `model`: the model, by its digest.
    `to`: the tag.
    Raises RegistryError: the registry cannot be reached, or refuses it.
    Raises PackageError: the digest does not belong to a model.
    """
    with Repository(model, transport) as registry:
        _, content = registry.manifest()
    Package.read(content)
    with Repository(to, transport) as registry:
        registry.put_manifest(content)
