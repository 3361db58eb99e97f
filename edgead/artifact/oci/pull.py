"""Pull of a model from a registry: fetches only missing files, checks them, and puts the model in place by a rename."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.artifact.files import check_file
from edgead.artifact.folder import Artifact, ArtifactError, check_destination, new_artifact
from edgead.artifact.manifest import read_manifest
from edgead.artifact.oci.package import Blob, Package, PackageError
from edgead.artifact.oci.reference import Reference
from edgead.artifact.oci.registry import Repository
from edgead.errors import SettingsError

if TYPE_CHECKING:
    import httpx

# Free space beyond the new model: for what other programs write meanwhile.
_SPARE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class PullResult:
    """Result of a pull; `fetched_bytes` came over the network, the rest was found in local models."""

    digest: str
    files: int
    bytes: int
    fetched_bytes: int
    annotations: dict[str, str]


def pull(
    reference: Reference,
    destination: Path,
    *,
    reuse: Iterable[Path] = (),
    pace: Callable[[int], None] = lambda count: None,
    transport: httpx.BaseTransport | None = None,
) -> PullResult:
    """Download a model from a registry into a folder.

    An interrupted pull is resumed: partial files are kept beside the destination until the model is complete.

    `reference`: a tag or a digest.
    `destination`: folder of the model; an existing model there is kept as an earlier version.
    `reuse`: models whose files need not be fetched again; `destination` is one.
    `pace`: called with the number of bytes of each block; may wait.
    Raises RegistryError: the registry cannot be reached, or sends wrong content; nothing has changed then.
    Raises PackageError, ArtifactError: the registry's content is no usable model; nothing has changed then.
    """
    if not reference.wanted:
        raise SettingsError(f"{reference} names neither a tag nor a digest: add :TAG, or @sha256:...")
    check_destination(destination)
    parts = destination.parent / f".{destination.resolve().name}.parts"
    with Repository(reference, transport) as registry:
        digest, content = registry.manifest()
        package = Package.read(content)
        _check_space(destination, package)
        here = _find_here(package, [destination, *reuse])
        parts.mkdir(parents=True, exist_ok=True)
        _tidy(parts, package)
        missing = {blob.digest: blob for blob in package.files.values() if blob.digest not in here}
        fetched = sum(registry.fetch(blob, parts / blob.sha256, pace) for blob in missing.values())
    here |= {digest: parts / blob.sha256 for digest, blob in missing.items()}
    _lay_out(package, here, destination)
    shutil.rmtree(parts, ignore_errors=True)
    return PullResult(digest, len(package.files), package.size, fetched, package.annotations)


def _lay_out(package: Package, here: dict[str, Path], destination: Path) -> None:
    with new_artifact(destination) as draft:
        for name, blob in package.files.items():
            file = draft / name
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(here[blob.digest], file)
        try:
            Artifact.load(draft)
        except ArtifactError as error:
            raise PackageError(
                f"it is no model that can be used here: {error}".replace(str(draft), "its folder")
            ) from None


def _find_here(package: Package, folders: Iterable[Path]) -> dict[str, Path]:
    """Find the package's files in local models, by digest; each file is hashed before it is used."""
    wanted: dict[str, Blob] = {blob.digest: blob for blob in package.files.values()}
    found: dict[str, Path] = {}
    for folder in folders:
        try:
            files = read_manifest(folder).files
        except ArtifactError:  # no model in this folder
            continue
        for name, sha256 in files.items():
            blob = wanted.get(f"sha256:{sha256}")
            if blob is not None and blob.digest not in found and _is(folder, name, sha256, blob.size):
                found[blob.digest] = folder / name
    return found


def _is(folder: Path, name: str, sha256: str, size: int) -> bool:
    try:
        return check_file(folder, name, sha256, size) == size
    except ArtifactError:
        return False


def _tidy(parts: Path, package: Package) -> None:
    """Remove partial files of an earlier pull that this package does not need."""
    wanted = {blob.sha256 for blob in package.files.values()}
    for file in parts.iterdir():
        if file.name not in wanted:
            file.unlink()


def _check_space(destination: Path, package: Package) -> None:
    folder = next(folder for folder in destination.absolute().parents if folder.exists())
    free = shutil.disk_usage(folder).free
    # Every file is stored twice: as downloaded, and in the model's folder.
    needed = 2 * package.size + _SPARE_BYTES
    if free < needed:
        raise SettingsError(f"{folder} has {free >> 20} MiB free, the model needs {needed >> 20}: free some space")
