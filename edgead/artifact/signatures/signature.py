"""Signatures of a model: parsing and writing of the file beside its manifest, the signed message, and signing.

A signature covers the manifest, and so the hash of every file that the manifest lists.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.signatures.file import SIGNATURES, SignatureFile
from edgead.artifact.signatures.keys import PrivateKey
from edgead.artifact.strict_section import StrictSection
from edgead.errors import EdgeadError, SettingsError, tell_invalid
from edgead.files.atomic import write_whole

MAX_SIGNATURES = 16

_DOMAIN = b"edgead model signature 2\n"
MAX_COUNTER = 2**53 - 1  # integers that every JSON parser represents exactly


class SignatureError(EdgeadError):
    """Signature file that cannot be read; the message does not name the model."""


def _instant(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("has no time zone")
    return text


def _name(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds a control character")
    return text


class Signature(StrictSection):
    """One signature of a model.

    Attributes
    ----------
    key : str
        Id of the key; see `edgead.artifact.signatures.keys.PublicKey.id`.
    by, at : str
        Signer and time, as stated by the signer; the time in ISO 8601 with its zone.
    product : str
        Name of the product that the model judges, given by the signer; may be empty.
    counter : int
        Number that rises from one release of a product to the next; 0 in old signatures, which had none.
    manifest_sha256 : str
        Hash of the manifest that was signed.
    signature : str
        64 bytes in lower-case hexadecimal digits.
    """

    algorithm: Literal["ed25519"] = "ed25519"
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    by: Annotated[str, Field(max_length=100), AfterValidator(_name)]
    at: Annotated[str, Field(max_length=40), AfterValidator(_instant)]
    product: Annotated[str, Field(max_length=100), AfterValidator(_name)] = ""
    counter: Annotated[int, Field(ge=0, le=MAX_COUNTER)] = 0
    manifest_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    @property
    def message(self) -> bytes:
        """Bytes that this signature signs; see `message`."""
        said = {"key": self.key, "by": self.by, "at": self.at}
        return message(self.manifest_sha256, product=self.product, counter=self.counter, **said)

    def __str__(self) -> str:
        return f"{self.by or 'somebody'} with the key {self.key} ({self.at})"


class _Content(StrictSection):
    schema_version: Literal[1] = 1
    signatures: Annotated[tuple[Signature, ...], Field(max_length=MAX_SIGNATURES)]


def message(manifest_sha256: str, *, key: str, by: str, at: str, product: str = "", counter: int = 0) -> bytes:
    """Make the bytes to sign: a line that names the format, then JSON with sorted keys, ASCII, no spaces."""
    said = {"algorithm": "ed25519", "at": at, "by": by, "counter": counter, "key": key, "product": product}
    said["manifest_sha256"] = manifest_sha256
    return _DOMAIN + json.dumps(said, sort_keys=True, separators=(",", ":")).encode()


def read_signatures(file: SignatureFile) -> tuple[Signature, ...]:
    """Parse an artifact's signature file; returns no signatures if there is no file.

    Raises SignatureError: the file could not be read, or is not in edgead's format.
    """
    if file.problem:
        raise SignatureError(f"{SIGNATURES} {file.problem}")
    if file.content is None:
        return ()
    try:
        return _Content.model_validate_json(file.content, strict=True).signatures
    except ValidationError as error:
        problem = tell_invalid(error.errors()[:1], whole="its content")
        raise SignatureError(f"{SIGNATURES} is damaged or was edited: {problem}") from None


def written(signatures: tuple[Signature, ...]) -> bytes:
    """Serialise signatures to the content of the file."""
    return (_Content(signatures=signatures).model_dump_json(indent=1) + "\n").encode()


def sign(path: Path, key: PrivateKey, *, by: str = "", product: str = "", counter: int | None = None) -> Signature:
    """Sign a model as it is now; keeps other signatures of the same manifest and drops outdated ones.

    `by`, `product`: name of the signer and of the product; both are part of the signed message.
    `counter`: number that must rise from one release of a product to the next, or devices that follow a tag refuse the
        model; by default the time in seconds.
    Raises ArtifactError: the model is missing, edited or damaged.
    Raises SettingsError: a name or the counter is not allowed, or there are too many signatures.
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
