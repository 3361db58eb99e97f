"""Trust in models: a site lets in those that one of its keys has signed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgead.artifact.folder import Artifact
from edgead.artifact.signatures.keys import PublicKey, read_private_key, read_public_key
from edgead.artifact.signatures.signature import Signature, SignatureError, read_signatures, sign
from edgead.errors import EdgeadError


class UntrustedModelError(EdgeadError):
    """A model that nobody whom the site trusts has signed; the message says what was found and what to do."""


def check_signed(artifact: Artifact, keys: Sequence[PublicKey]) -> list[Signature]:
    """Find the signatures of an opened model that hold; what is checked is the manifest that it goes by.

    All that is read from it later is compared with that manifest's hashes, whatever lies in its folder by then.

    Parameters
    ----------
    artifact : Artifact
        As `Artifact.load` gives it.
    keys : sequence of PublicKey
        That are trusted.

    Raises
    ------
    UntrustedModelError
        None holds.
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
    """The keys of a site, as they were when its file was read.

    Parameters
    ----------
    required : bool
        Whether a model must be signed by one of them.
    keys : sequence of Path
        Public ones.
    device_key : Path, optional
        The private one of this device: what is learned on it is signed with it, and trusted.

    Raises
    ------
    SettingsError
        A key cannot be read, or the package cryptography is missing.
    """

    def __init__(self, required: bool, keys: Sequence[Path] = (), device_key: Path | None = None):
        self.required = required
        self._own = read_private_key(device_key) if device_key else None
        self._keys = [read_public_key(file) for file in keys]
        if self._own:
            self._keys.append(self._own.public)

    def check(self, artifact: Artifact) -> list[Signature]:
        """Give the signatures that let an opened model in; none where the site demands none.

        Raises
        ------
        UntrustedModelError
            The site demands one, and the model has none that holds.
        """
        return check_signed(artifact, self._keys) if self.required else []

    def sign_own(self, path: Path, *, by: str) -> None:
        """Sign what was learned on this device, where it has a key; to be called before the model is opened."""
        if self._own:
            sign(path, self._own, by=by)
