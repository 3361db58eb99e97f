"""Trust in models: a site accepts models that one of the site's keys has signed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgead.artifact.folder import Artifact
from edgead.artifact.signatures.keys import PublicKey, read_private_key, read_public_key
from edgead.artifact.signatures.signature import Signature, SignatureError, read_signatures, sign
from edgead.errors import EdgeadError


class UntrustedModelError(EdgeadError):
    """Model without a signature by a key that the site trusts; the message says what was found and what to do."""


def check_signed(artifact: Artifact, keys: Sequence[PublicKey]) -> list[Signature]:
    """Return the valid signatures of an opened model by trusted keys, checked against the manifest in memory.

    Files of the model that are read later are compared with this manifest's hashes, even if the folder changes.

    `artifact`: a result of `Artifact.load`.
    `keys`: trusted keys.
    Raises UntrustedModelError: no signature by a trusted key is valid.
    """
    remedy = f"sign it with `edgead sign {artifact.path} --key KEY`, or take it from where it was signed"
    try:
        found = read_signatures(artifact.signatures)
    except SignatureError as error:
        raise UntrustedModelError(f"{artifact.path}: {error}; {remedy}") from None
    known = {key.id: key for key in keys}
    held = [each for each in found if _holds(each, artifact, known)]
    if not held:
        raise UntrustedModelError(f"{artifact.path} {_why_none(artifact, found, known)}: {remedy}")
    return held


def _holds(signature: Signature, artifact: Artifact, known: dict[str, PublicKey]) -> bool:
    key = known.get(signature.key)
    is_of_this = signature.manifest_sha256 == artifact.manifest.manifest_sha256
    return is_of_this and key is not None and key.verifies(bytes.fromhex(signature.signature), signature.message)


def _why_none(artifact: Artifact, found: Sequence[Signature], known: dict[str, PublicKey]) -> str:
    if not found:
        return "is not signed"
    mine = [each for each in found if each.manifest_sha256 == artifact.manifest.manifest_sha256]
    if not mine:
        return f"was changed since it was signed by {found[-1]}, or that is the signature of another model"
    strange = [each for each in mine if each.key not in known]
    if len(strange) == len(mine):
        return f"is signed by {strange[0]}, which is none of the keys that are trusted ({', '.join(known) or 'none'})"
    return "has a signature that its key has not made: it was forged or damaged"


class ModelTrust:
    """Trusted keys of a site, read once with the site file.

    `required`: whether a model must be signed by a trusted key.
    `keys`: files of public keys.
    `device_key`: file of this device's private key: models learned on the device are signed with it, and trusted.
    Raises SettingsError: a key cannot be read, or the package cryptography is missing.
    """

    def __init__(self, required: bool, keys: Sequence[Path] = (), device_key: Path | None = None):
        self.required = required
        self._own = read_private_key(device_key) if device_key else None
        self._keys = [read_public_key(file) for file in keys]
        if self._own:
            self._keys.append(self._own.public)

    def check(self, artifact: Artifact) -> list[Signature]:
        """Return the trusted signatures of an opened model; an empty list if the site demands none.

        Raises UntrustedModelError: the site demands a signature, and the model has no valid one.
        """
        return check_signed(artifact, self._keys) if self.required else []

    def sign_own(self, path: Path, *, by: str) -> None:
        """Sign a model that was learned on this device, if the device has a key; call it before the model is opened."""
        if self._own:
            sign(path, self._own, by=by)
