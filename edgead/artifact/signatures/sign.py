"""Models are signed: the signature covers the manifest, and with it the hash of every file that it lists."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.signatures.file import SIGNATURES
from edgead.artifact.signatures.keys import PrivateKey
from edgead.artifact.signatures.signature import (
    MOST_SIGNATURES,
    Signature,
    SignatureError,
    message,
    read_signatures,
    written,
)
from edgead.errors import SettingsError
from edgead.files.atomic import write_whole


def sign(path: Path, key: PrivateKey, *, by: str = "") -> Signature:
    """Sign a model as it is now, beside those who have signed the same; other signatures are left out.

    Raises
    ------
    ArtifactError
        It is missing, edited or damaged: nobody should sign that.
    SettingsError
        A name that cannot be written, or too many signatures.
    """
    artifact = Artifact.load(path)
    if SIGNATURES in artifact.manifest.files:
        raise ArtifactError(
            f"{path}: an earlier edgead has taken {SIGNATURES} for a file of the model: calibrate it again with this "
            "edgead, then sign it"
        )
    digest = artifact.manifest.manifest_sha256
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    signed = key.sign(message(digest, key=key.public.id, by=by, at=at)).hex()
    try:
        signature = Signature(key=key.public.id, by=by, at=at, manifest_sha256=digest, signature=signed)
    except ValueError:
        raise SettingsError(f"--by {by[:40]!r}: a name of at most 100 characters that can be printed") from None
    kept = [other for other in _of_this(artifact) if other.key != signature.key]
    if len(kept) >= MOST_SIGNATURES:
        raise SettingsError(f"{path} has {len(kept)} signatures, more are not kept: remove {SIGNATURES} and sign again")
    write_whole(path / SIGNATURES, written((*kept, signature)))
    return signature


def _of_this(artifact: Artifact) -> list[Signature]:
    try:
        found = read_signatures(artifact.signatures)
    except SignatureError:
        return []
    return [each for each in found if each.manifest_sha256 == artifact.manifest.manifest_sha256]
