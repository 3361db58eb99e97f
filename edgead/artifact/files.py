"""Checked reading of an artifact's files: inside the folder, of bounded size, with the sha256 in the manifest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from edgead.errors import EdgeadError
from edgead.files.regular_files import UnreadableFileError, open_regular, read_regular

MAX_FILE_BYTES = 2 << 30  # an ONNX file cannot have more
MAX_BYTES = 8 << 30  # of all files together: graphs in several precisions, and the weights that they are made from

_BLOCK = 1 << 20
_REMEDY = "copy the whole directory again or retrain"


class ArtifactError(EdgeadError):
    """Directory that is no usable artifact; the message says why and what to do."""


def refuse_missing(path: Path) -> None:
    """Raise ArtifactError if nothing exists at the path of a model."""
    if not os.path.lexists(path):
        raise not_a_model(path, "no such directory")


def not_a_model(path: Path, found: str) -> ArtifactError:
    """Make the error that says what `found` at a path where a model was expected."""
    return ArtifactError(f"{path} is not an edgead model: {found}; make one with `edgead train DATA -o MODEL`")


def check_file(folder: Path, name: str, expected: str, most_bytes: int = MAX_FILE_BYTES) -> int:
    """Compare the sha256 of a file with the expected one; return its number of bytes.

    Raises ArtifactError: the file is missing, too large, outside the folder, or has another hash.
    """
    try:
        with open_regular(_inside(folder, name), most_bytes) as (stream, found):
            _compare(folder, name, _sha256(stream), expected)
            return found.st_size
    except UnreadableFileError as error:
        raise ArtifactError(f"{folder}: {name} {error}; {_REMEDY}") from error


def read_file(folder: Path, name: str, expected: str | None) -> bytes:
    """Read a file once and compare the bytes that were read with the `expected` sha256; None skips the comparison.

    Raises ArtifactError: see `check_file`.
    """
    try:
        content = read_regular(_inside(folder, name), MAX_FILE_BYTES)
    except UnreadableFileError as error:
        raise ArtifactError(f"{folder}: {name} {error}; {_REMEDY}") from error
    if expected is not None:
        _compare(folder, name, hashlib.sha256(content).hexdigest(), expected)
    return content


def file_sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return _sha256(stream)


def _compare(folder: Path, name: str, found: str, expected: str) -> None:
    if found != expected:
        raise ArtifactError(
            f"{folder}: {name} is not the file that was written (sha256 differs): it was edited, damaged or exchanged "
            f"meanwhile; {_REMEDY}"
        )


def _inside(folder: Path, name: str) -> Path:
    file = folder / name
    if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder)):
        raise ArtifactError(f"{folder}: {name} is a link to what is outside the model: do not use it")
    return file


def _sha256(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := stream.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()
