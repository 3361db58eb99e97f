"""Raw signature file beside a model's manifest; `edgead.artifact.signatures` parses it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edgead.files.regular_files import MissingFileError, UnreadableFileError, read_regular

SIGNATURES = "manifest.sig"
_MAX_BYTES = 64 << 10


class SignatureFile(NamedTuple):
    """Content of a signature file, None without a file; or why it is unreadable: an error if signatures are needed."""

    content: bytes | None = None
    problem: str = ""


def find_signatures(folder: Path) -> SignatureFile:
    """Read the signature file of a model's folder, if there is one."""
    try:
        return SignatureFile(read_regular(folder / SIGNATURES, _MAX_BYTES))
    except MissingFileError:
        return SignatureFile()
    except UnreadableFileError as error:
        return SignatureFile(problem=str(error))
