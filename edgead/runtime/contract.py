"""Interface of engines, and the check of a graph's inputs and outputs against the manifest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from edgead.artifact.folder import ArtifactError, Graph
from edgead.artifact.inputs import Preprocessing
from edgead.artifact.manifest import Manifest

_AGAIN = "write it again with `edgead export`"
# Time limit of an engine's first run: some hundred times that of the slowest network on the slowest device.
FIRST_RUN_S = 20.0
_MAX_VALUES = 1 << 27  # values of an output: half a gigabyte


class Runtime(Protocol):
    """Network on an engine; opening runs it once. Not for use from several threads at once."""

    input: np.ndarray
    """Input buffer, uint8 (1, h, w, 3) RGB: write the image here to avoid a copy. It is float32 for images with full
    depth, with 6 channels for colours with heights."""
    outputs: dict[str, Any]
    """Output buffers, which `run` returns."""

    def run(self, images: np.ndarray) -> dict[str, Any]:
        """Run the network on one image.

        Parameters
        ----------
        images : ndarray of shape (1, h, w, 3), uint8, RGB, or float32
            `self.input` itself is used without a copy, anything else is copied into it.

        Returns
        -------
        dict of str to ndarray or DeviceArray
            float32 outputs by name, which the next call overwrites. The output for patch scores may be a DeviceArray if
            the runtime was opened with `on_device`.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class TakesFrames(Protocol):
    """Runtime that can preprocess frames itself, such as on a GPU."""

    def take(self, image: np.ndarray, spec: Preprocessing) -> None:
        """Preprocess a frame into `input` for the next run, with the same pixels as `preprocess` gives.

        Parameters
        ----------
        image : ndarray
        spec : Preprocessing
            Arguments of `edgead.artifact.preprocess.preprocess`; raises the same errors.
        """
        ...


class Several(Protocol):
    """Network that runs on a batch of images, in buffers of its own, with the same results as for single images.

    Results may differ by rounding, as the engine may choose other kernels for a batch than for one image.
    """

    count: int
    """Number of images in a run, more than 1."""
    outputs: dict[str, Any]
    """Output buffers as in `Runtime`, for all images of a run."""
    lanes: list[dict[str, Any]]
    """Outputs of each image, as a batch of one."""

    def take(self, frames: Sequence[tuple[np.ndarray, Preprocessing]]) -> None:
        """Preprocess up to `count` frames for the next run, like `TakesFrames.take`."""
        ...

    def run(self) -> list[dict[str, Any]]:
        """Run the network on the frames of the last `take`; outputs of lanes without a frame are undefined."""
        ...


@runtime_checkable
class RunsSeveral(Protocol):
    """Runtime that may run its network on batches; `several` is None if it cannot."""

    several: Several | None


class Tensor(NamedTuple):
    """Declaration of a graph's input or output: numpy's name of its type, and its shape; variable sides are no int."""

    name: str
    dtype: str
    shape: Sequence[Any]


def check_inputs(graph: Graph, manifest: Manifest, inputs: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """Check a graph's inputs, one batch of images as in the manifest and the arrays that it names; read the arrays.

    Returns
    -------
    dict of str to ndarray
        The arrays for the graph's inputs after the image, float32: set once before the first run, and kept alive.

    Raises
    ------
    ArtifactError
        The graph has other inputs, or an array cannot be read.
    """
    path = graph.path
    _check_names(path, "input", inputs, (manifest.input, *graph.arrays))
    image, *others = inputs
    _check_image(path, manifest, image)
    arrays = {}
    for tensor in others:
        array = graph.arrays[tensor.name].read()
        if tensor.dtype != "float32" or list(tensor.shape) != list(array.shape):
            raise ArtifactError(
                f"{path} takes {tensor.name} as {tensor.dtype} of shape {list(tensor.shape)}, the artifact has float32 "
                f"of shape {list(array.shape)}: {_AGAIN}"
            )
        # Copied for alignment, as engines use wide loads and data within a file may be unaligned.
        arrays[tensor.name] = array.copy()
    return arrays


def _check_image(path: Path, manifest: Manifest, image: Tensor) -> None:
    expected = [*manifest.preprocessing.image_size, manifest.preprocessing.channels]
    batch = image.shape[0] if image.shape else 0
    if list(image.shape[1:]) != expected or (isinstance(batch, int) and batch != 1):
        raise ArtifactError(
            f"{path} takes images of shape {list(image.shape[1:])} in batches of {batch}, the manifest says {expected} "
            f"in batches of 1: {_AGAIN}"
        )
    dtype = manifest.preprocessing.dtype
    if image.dtype != dtype:
        raise ArtifactError(f"{path} takes {image.dtype}, edgead gives it {dtype}: {_AGAIN}")


def check_outputs(path: Path, manifest: Manifest, outputs: Sequence[Tensor]) -> None:
    """Raise ArtifactError unless a graph has the outputs of the manifest with fixed shapes, as buffers need them.

    The first must be a grid of at least one patch, and no finer than the image.
    """
    _check_names(path, "output", outputs, manifest.outputs)
    scored = outputs[0]
    for output, (_, sides) in zip(outputs, manifest.head.outputs, strict=True):
        if output.dtype != "float32":
            raise ArtifactError(f"{path} gives {output.name} as {output.dtype}, edgead takes float32: {_AGAIN}")
        shape = list(output.shape[1:])
        if len(output.shape) != sides + 1 or not all(isinstance(side, int) and side > 0 for side in shape):
            raise ArtifactError(
                f"{path} gives {output.name} of shape {list(output.shape)}, it must have a batch and {sides} known "
                f"sides of at least 1: {_AGAIN}"
            )
    shape, image_size = list(scored.shape[1:]), manifest.preprocessing.image_size
    if shape[0] > image_size[0] or shape[1] > image_size[1] or math.prod(shape) > _MAX_VALUES:
        raise ArtifactError(
            f"{path} gives {scored.name} of shape {shape}: patches must not be more than pixels ({list(image_size)}), "
            f"and values at most {_MAX_VALUES}: {_AGAIN}"
        )


def _check_names(path: Path, what: str, found: Sequence[Tensor], expected: tuple[str, ...]) -> None:
    names = tuple(tensor.name for tensor in found)
    if names != expected:
        raise ArtifactError(
            f"{path} has {what} {', '.join(map(repr, names[:9])) or 'none'}, the manifest says "
            f"{', '.join(map(repr, expected))}: {_AGAIN}"
        )
