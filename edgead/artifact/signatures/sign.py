"""Models are signed: the signature covers the manifest, and with it the hash of every file that it lists."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.signatures.file import SIGNATURES
from edgead.artifact.signatures.keys import PrivateKey
from edgead.artifact.signatures.signature import (
    MAX_SIGNATURES,
    Signature,
    SignatureError,
    message,
    read_signatures,
    written,
)
from edgead.errors import SettingsError, tell_invalid
from edgead.files.atomic import write_whole


def sign(path: Path, key: PrivateKey, *, by: str = "", product: str = "", counter: int | None = None) -> Signature:
    """Sign a model as it is now, beside those who have signed the same; other signatures are left out.

    Parameters
    ----------
    path : Path
    key : PrivateKey
    by, product : str
        Who signs, and what the model judges; both are signed.
    counter : int, optional
        Must rise from one release of a product to the next, or devices that follow a tag refuse it; by default the time
        in seconds.

    Raises
    ------
    ArtifactError
        It is missing, edited or damaged: nobody should sign that.
    SettingsError
        A name or a counter that cannot be written, or too many signatures.
    """
    artifact = Artifact.load(path)
    if SIGNATURES in artifact.manifest.files:
        raise ArtifactError(
            f"{path}: an earlier edgead has taken {SIGNATURES} for a file of the model: calibrate it again with this "
            "edgead, then sign it"
        )
    digest = artifact.manifest.manifest_sha256
    now = datetime.now(timezone.utc)
    counter = int(now.timestamp()) if counter is None else counter
    said: dict[str, Any] = {"key": key.public.id, "by": by, "at": now.isoformat(timespec="seconds")}
    said |= {"product": product, "counter": counter}
    signed = key.sign(message(digest, **said)).hex()
    try:
        signature = Signature(manifest_sha256=digest, signature=signed, **said)
    except ValidationError as error:
        raise SettingsError(f"--{tell_invalid(error.errors()[:1])}: names have at most 100 characters") from None
    kept = [other for other in _of_this(artifact) if other.key != signature.key]
    if len(kept) >= MAX_SIGNATURES:
        raise SettingsError(f"{path} has {len(kept)} signatures, more are not kept: remove {SIGNATURES} and sign again")
    write_whole(path / SIGNATURES, written((*kept, signature)))
    return signature


def _of_this(artifact: Artifact) -> list[Signature]:
    try:
        found = read_signatures(artifact.signatures)
    except SignatureError:
        return []
    return [each for each in found if each.manifest_sha256 == artifact.manifest.manifest_sha256]
