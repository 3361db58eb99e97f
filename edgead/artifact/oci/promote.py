"""Promotion of a model: a tag moves to what the registry has already, and nothing is sent but the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgead.artifact.oci.package import Package
from edgead.artifact.oci.reference import Reference
from edgead.artifact.oci.registry import Registry

if TYPE_CHECKING:
    import httpx


def tag_digest(reference: Reference, transport: httpx.BaseTransport | None = None) -> str:
    """Ask where a tag leads; raises RegistryError."""
    with Registry(reference, transport) as registry:
        return registry.digest()


def move_tag(model: Reference, to: Reference, transport: httpx.BaseTransport | None = None) -> None:
    """Let a tag lead to a model of the same repository.

    Parameters
    ----------
    model : Reference
        By its digest.
    to : Reference
        The tag.

    Raises
    ------
    RegistryError
        The registry is away, or refuses it.
    PackageError
        The digest is of no model.
    """
    with Registry(model, transport) as registry:
        _, content = registry.manifest()
    Package.read(content)
    with Registry(to, transport) as registry:
        registry.put_manifest(content)
