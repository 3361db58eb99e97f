"""Graph of an artifact, as runtimes load it: an ONNX file with arrays for its inputs, or an OpenVINO IR."""

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
    """Array file (.npy) of an artifact; its `sha256` is None in a draft."""

    folder: Path
    name: str
    sha256: str | None

    @property
    def path(self) -> Path:
        return self.folder / self.name

    def content(self) -> bytes:
        """Read the file's bytes; raises ArtifactError if it cannot be read or has another hash."""
        return read_file(self.folder, self.name, self.sha256)

    def read(self) -> np.ndarray:
        """Read an array, float32, read only.

        Raises ArtifactError: the file cannot be read, has another hash, or holds no finite float32 array.
        """
        content = self.content()
        try:
            return read_array(content)
        except ValueError as error:
            raise ArtifactError(f"{self.path} is no finite float32 array: {error}; train the model again") from error


@dataclass(frozen=True, slots=True)
class Graph:
    """Graph of one precision, with its own thresholds and golden scores.

    `score_tolerance` is the largest relative difference of golden scores from the recorded scores. `arrays` are the
    graph's inputs after the image, in order: learnt values are inputs so that many products can share one graph. If
    `constants` is set the graph is an OpenVINO IR, and this is its second file (weights).
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
        """Read and check the ONNX file, for an engine that feeds `arrays` as inputs.

        Raises ArtifactError: the graph is an IR, or the file cannot be read, has another hash, may run forever, or is
            incomplete.
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

        Raises ArtifactError: the graph is no IR, or a file cannot be read, has another hash, or the graph may run
            forever.
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
        """Read the ONNX file and turn the arrays into constants in it, for an engine whose only input is the image.

        Raises ArtifactError: see `read`; also if an array cannot be read, or the graph has no input of that name.
        """
        content = self.read()
        try:
            return with_constants(content, {name: file.read() for name, file in self.arrays.items()})
        except EdgeadError as error:
            raise ArtifactError(f"{self.path} cannot be used: {error}; {_AGAIN}") from error
