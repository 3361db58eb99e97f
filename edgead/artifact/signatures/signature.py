"""The file of signatures beside a manifest, and the very bytes that are signed."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from edgead.artifact.signatures.file import SIGNATURES, SignatureFile
from edgead.artifact.strict_section import Section
from edgead.errors import EdgeadError, tell_invalid

MAX_SIGNATURES = 16

_DOMAIN = b"edgead model signature 2\n"
MAX_COUNTER = 2**53 - 1  # what every reader of JSON has exactly


class SignatureError(EdgeadError):
    """A file of signatures that cannot be read; the message is without the model's name."""


def _instant(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("has no time zone")
    return text


def _name(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds a control character")
    return text


class Signature(Section):
    """One signature of a model.

    Attributes
    ----------
    key : str
        Id of the key; see `edgead.artifact.signatures.keys.PublicKey.id`.
    by, at : str
        Who signed and when, as they say themselves; the time in ISO 8601 with its zone.
    product : str
        What the model judges, as who signed it calls that; empty where nobody said.
    counter : int
        Rises from one release of a product to the next; 0 of signatures from before there was one.
    manifest_sha256 : str
        Of the manifest that was signed.
    signature : str
        64 bytes in hexadecimal digits, of which there is one form alone.
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
        """What is signed; see `message`."""
        said = {"key": self.key, "by": self.by, "at": self.at}
        return message(self.manifest_sha256, product=self.product, counter=self.counter, **said)

    def __str__(self) -> str:
        return f"{self.by or 'somebody'} with the key {self.key} ({self.at})"


class _Content(Section):
    schema_version: Literal[1] = 1
    signatures: Annotated[tuple[Signature, ...], Field(max_length=MAX_SIGNATURES)]


def message(manifest_sha256: str, *, key: str, by: str, at: str, product: str = "", counter: int = 0) -> bytes:
    """Make the bytes that are signed: a line that says what they are, then JSON with sorted keys, ASCII, no spaces."""
    said = {"algorithm": "ed25519", "at": at, "by": by, "counter": counter, "key": key, "product": product}
    said["manifest_sha256"] = manifest_sha256
    return _DOMAIN + json.dumps(said, sort_keys=True, separators=(",", ":")).encode()


def read_signatures(file: SignatureFile) -> tuple[Signature, ...]:
    """Read what an artifact found beside its manifest; none where there is no such file.

    Raises
    ------
    SignatureError
        It could not be read, or is none that edgead writes.
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
    """Write the content of the file."""
    return (_Content(signatures=signatures).model_dump_json(indent=1) + "\n").encode()
