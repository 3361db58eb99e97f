"""A graph of an artifact as runtimes take it: its ONNX file and the arrays that it takes as inputs, or an IR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgead.artifact.files import ArtifactError, read_file
from edgead.artifact.ir_file import check_ir
from edgead.artifact.manifest import Calibration, Golden
from edgead.artifact.npy_array import read_array
from edgead.artifact.onnx_file import check_closed, with_constants
from edgead.errors import EdgeadError

_AGAIN = "write it again with `edgead export`"


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """One of an artifact's files of numbers; its `sha256` is None in a draft."""

    folder: Path
    name: str
    sha256: str | None

    @property
    def path(self) -> Path:
        return self.folder / self.name

    def content(self) -> bytes:
        """Read it as it is; raises ArtifactError where it cannot be read, or is another file than was written."""
        return read_file(self.folder, self.name, self.sha256)

    def read(self) -> np.ndarray:
        """Read an array, float32, read only.

        Raises
        ------
        ArtifactError
            It cannot be read, is another file than was written, or no finite float32 array.
        """
        content = self.content()
        try:
            return read_array(content)
        except ValueError as error:
            raise ArtifactError(f"{self.path} is no finite float32 array: {error}; train the model again") from error


@dataclass(frozen=True, slots=True)
class Graph:
    """One of an artifact's graphs with the thresholds and the golden images that were made by running it.

    `score_tolerance` bounds how far golden scores may be from those on record, relatively. `arrays` are its inputs
    beside the image, in their order: what was learnt, so that the graph may be the same for many products. With
    `constants` it is no ONNX file but an OpenVINO IR, and these are its second file.
    """

    precision: str
    path: Path
    calibration: Calibration | None
    golden: list[Golden]
    score_tolerance: float
    sha256: str | None = None  # of the file; None in a draft
    arrays: Mapping[str, ArrayFile] = field(default_factory=dict)
    constants: ArrayFile | None = None

    def read(self) -> bytes:
        """Read the ONNX file: these bytes are what was hashed, and what an engine that feeds `arrays` is to be given.

        Raises
        ------
        ArtifactError
            It is none, cannot be read, is another file than was written, may not end, or is not all there.
        """
        if self.constants is not None:
            raise ArtifactError(
                f"{self.path} is an OpenVINO IR, no ONNX file: take the runtime openvino, and for other runtimes and "
                "precisions import the model as ONNX"
            )
        content = read_file(self.path.parent, self.path.name, self.sha256)
        try:
            check_closed(content)
        except EdgeadError as error:
            raise ArtifactError(f"{self.path} cannot be used: {error}; {_AGAIN}") from error
        return content

    def read_ir(self) -> tuple[bytes, bytes]:
        """Read the two files of an IR: layers and constants.

        Raises
        ------
        ArtifactError
            It is none, cannot be read, is another file than was written, or may not end.
        """
        if self.constants is None:
            raise ArtifactError(f"{self.path} is no OpenVINO IR")
        document = read_file(self.path.parent, self.path.name, self.sha256)
        try:
            check_ir(document)
        except EdgeadError as error:
            raise ArtifactError(f"{self.path} cannot be used: {error}; import the model again") from error
        return document, self.constants.content()

    def read_whole(self) -> bytes:
        """Read the ONNX file with the arrays as constants in it, for an engine that takes the image alone.

        Raises
        ------
        ArtifactError
            As `read`, or an array cannot be read, or the graph has no such input.
        """
        content = self.read()
        try:
            return with_constants(content, {name: file.read() for name, file in self.arrays.items()})
        except EdgeadError as error:
            raise ArtifactError(f"{self.path} cannot be used: {error}; {_AGAIN}") from error
