"""The file of a model's signatures as it lies beside its manifest; `edgead.artifact.signatures` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edgead.files.regular_files import MissingFileError, UnreadableFileError, read_regular

SIGNATURES = "manifest.sig"
_MAX_BYTES = 64 << 10


class SignatureFile(NamedTuple):
    """Its content, None where there is none; or why it cannot be read, which is no matter to who asks for none."""

    content: bytes | None = None
    problem: str = ""


def find_signatures(folder: Path) -> SignatureFile:
    """Look for signatures beside the manifest of a folder."""
    try:
        return SignatureFile(read_regular(folder / SIGNATURES, _MAX_BYTES))
    except MissingFileError:
        return SignatureFile()
    except UnreadableFileError as error:
        return SignatureFile(problem=str(error))
