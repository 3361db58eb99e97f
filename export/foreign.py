"""Graphs of other tools: their inputs and outputs, found in the graph, given by the user, or refused as unclear.

A graph is not changed, and keeps its own resizing and normalisation. A wrapper gives it the interface of edgead's
graphs: it converts a uint8 RGB image (1, h, w, 3) to the graph's input, the map to `patch_scores` (1, h, w), and the
score to `image_score` (1,). With only a map, the score is its maximum; with only a score, the map is constant.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgead.artifact.files import MAX_FILE_BYTES
from edgead.artifact.inputs import MAX_PIXELS
from edgead.artifact.manifest import GraphRecord, Manifest
from edgead.errors import SettingsError
from edgead.files.regular_files import UnreadableFileError, read_regular

CHANNELS = 3
FLOATS = ("float32", "float16", "float64")
MAX_WHITE = 255.0
# Largest fixed batch of a graph; each frame is computed so many times.
MAX_BATCH = 4
NONE = "none"  # name for an output that shall not be used
# Outputs of anomalib 2, `anomalib.data.InferenceBatch`.
OF_ANOMALIB = frozenset({"anomaly_map", "pred_score", "pred_label", "pred_mask"})
PATCH_SCORES = "patch_scores"  # input of `edgead.heads.map.MapHead`

Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Function that runs the original graph; returns its outputs by name, for the first image of its batch."""


def check_format(path: Path) -> None:
    """Raise SettingsError unless a file has the suffix of a supported graph."""
    if (suffix := path.suffix.lower()) not in (".onnx", ".xml"):
        raise SettingsError(
            f"{path}: edgead imports ONNX (.onnx) and OpenVINO IR (.xml with its .bin), not "
            f"{suffix or 'files without a suffix'}: export the model as one of them"
        )


@dataclass(frozen=True, slots=True)
class Port:
    """Input or output of a graph: its name, numpy's name of its type, and its shape; variable sides are None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sides = " x ".join("any" if side is None else str(side) for side in self.shape) or "one number"
        return f"{self.name} ({sides}, {self.dtype})"


@dataclass(frozen=True, slots=True)
class Input:
    """Input format of a graph: layout, colours and normalisation of an image.

    `layout`: {"nchw", "nhwc"}.
    `colour`: {"rgb", "bgr"}.
    `white`: value of white before `mean` is subtracted and the result divided by `std`; 255 for no scaling.
    `mean`, `std`: values for each channel in the graph's order, or empty.
    """

    port: Port
    layout: str
    colour: str
    white: float
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def batch(self) -> int:
        """Fixed batch size, which is filled with copies of one image."""
        return self.port.shape[0] or 1

    def make(self, image: np.ndarray) -> np.ndarray:
        """Convert an image, uint8 RGB (h, w, 3), to the graph's input in numpy; the reference for the wrapped graph.

        Returns ndarray of the port's type and batch size.
        """
        values = image if self.colour == "rgb" else image[..., ::-1]
        if self.port.dtype != "uint8":
            values = values.astype(np.float32)
            values = values if self.white == MAX_WHITE else values / np.float32(MAX_WHITE / self.white)
            values = values - np.array(self.mean, np.float32) if self.mean else values
            values = values / np.array(self.std, np.float32) if self.std else values
        values = values if self.layout == "nhwc" else values.transpose(2, 0, 1)
        return np.repeat(np.ascontiguousarray(values, self.port.dtype)[None], self.batch, axis=0)

    def sides(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Shape of the graph's input for an image of this height and width."""
        return (self.batch, *size, CHANNELS) if self.layout == "nhwc" else (self.batch, CHANNELS, *size)

    def first(self, value: np.ndarray) -> np.ndarray:
        """Select the values of the first image of a batch in an output."""
        return value[:1] if self.batch > 1 and value.ndim else value


@dataclass(frozen=True, slots=True)
class Outputs:
    """Names of the outputs for map and score, one of which may be missing, and the map's height and width."""

    map: str | None
    score: str | None
    grid: tuple[int, int]

    @property
    def both(self) -> bool:
        return self.map is not None and self.score is not None


class ForeignGraph(ABC):
    """Graph as another tool wrote it.

    `format`: name of the format for people.
    `producer`: producer, as stated in the file.
    `properties`: other metadata of the file, by its own names.
    `record`: record for the manifest, with the files to write.
    """

    path: Path
    format: str
    producer: str
    inputs: Sequence[Port]
    output_names: Sequence[str]
    properties: Mapping[str, str]
    record: GraphRecord

    @abstractmethod
    def open(self, given: Input, size: tuple[int, int]) -> Run:
        """Open the original graph for images of this size; raises SettingsError if the graph does not run."""

    @abstractmethod
    def write(self, draft: Path, manifest: Manifest, given: Input, outputs: Outputs) -> None:
        """Write the wrapped graph into the files of `record`, after `open` with the same size."""


def read_model_file(path: Path) -> bytes:
    """Read a model file; raises SettingsError if it is missing, no regular file, or too large."""
    try:
        return read_regular(path, MAX_FILE_BYTES)
    except UnreadableFileError as error:
        raise SettingsError(f"{path} {error}: copy the model's files again, or export it again") from error


def image_port(graph: ForeignGraph) -> Port:
    """Return the single input of a graph; raises SettingsError if there are several, or it is no image."""
    if len(graph.inputs) != 1:
        raise SettingsError(
            f"{graph.path} has {len(graph.inputs)} inputs ({listed(graph.inputs)}): one that takes an image is needed"
        )
    (port,) = graph.inputs
    if port.dtype not in (*FLOATS, "uint8") or len(port.shape) != 4:
        raise SettingsError(f"{graph.path} takes {port}: a batch of images of floats or uint8 is needed, of 4 sides")
    if (port.shape[0] or 1) > MAX_BATCH:
        raise SettingsError(
            f"{graph.path} takes batches of {port.shape[0]}: export it with a batch of 1, or of any size"
        )
    return port


def find_layout(port: Port, asked: str | None) -> str:
    """Determine the layout of an input: as requested, or from the side with 3 channels.

    Raises SettingsError: no side can be the channels, or two can.
    """
    places = {"nchw": port.shape[1], "nhwc": port.shape[3]}
    fitting = [name for name, side in places.items() if side in (CHANNELS, None)]
    if not fitting or (asked is not None and asked not in fitting):
        raise SettingsError(f"the graph takes {port}: an image of 3 channels does not fit that as {asked or 'it is'}")
    sure = [name for name, side in places.items() if side == CHANNELS]
    if asked is None and len(sure) != 1:
        raise SettingsError(
            f"the graph takes {port}, which does not say where the channels are: add --layout nchw or nhwc"
        )
    return asked or sure[0]


def find_size(port: Port, layout: str, asked: tuple[int, int] | None) -> tuple[int, int] | None:
    """Determine height and width of the input: the graph's or the requested ones; None if the graph takes any.

    Raises SettingsError: the graph takes another size than requested, or a too large one.
    """
    sides = port.shape[1:3] if layout == "nhwc" else port.shape[2:]
    if asked is None and None in sides:
        return None
    size = asked or (sides[0] or 0, sides[1] or 0)
    if any(side not in (None, wanted) for side, wanted in zip(sides, size, strict=True)):
        raise SettingsError(f"the graph takes {port}: --size {size[0]},{size[1]} does not fit it, leave it out")
    check_pixels(size)
    return size


def check_pixels(size: tuple[int, int]) -> None:
    """Raise SettingsError if an input of this height and width is too large for a network."""
    height, width = size
    if height * width > MAX_PIXELS:
        raise SettingsError(
            f"{width} x {height} pixels are too many for a network, at most {MAX_PIXELS}: name fewer with --size"
        )


def find_outputs(given: Mapping[str, np.ndarray], asked: Mapping[str, str | None], known: Mapping[str, str]) -> Outputs:
    """Decide which outputs are the map and the score.

    `given`: outputs of the graph for one image.
    `asked`: names given by the user for the `map` and the `score`; "none" for one that shall not be used.
    `known`: names of both in the tool that exported the graph.
    Raises SettingsError: several outputs could be the map or the score, none can, or a named one is no map or score.
    """
    ports = [Port(name, value.dtype.name, value.shape) for name, value in given.items()]
    floats = [port for port in ports if port.dtype in FLOATS]
    fitting = {
        "map": [port for port in floats if _grid(port) is not None],
        "score": [port for port in floats if math.prod(side or 0 for side in port.shape) == 1],
    }
    chosen = {what: _chosen(what, fitting[what], asked.get(what), known.get(what), ports) for what in fitting}
    if chosen["map"] is None and chosen["score"] is None:
        raise SettingsError(
            f"the graph gives {listed(ports)}: none of them, or none that is to be taken, is a map of one channel or "
            "a score of one number, in floats"
        )
    grid = _grid(chosen["map"]) if chosen["map"] else None
    names = {what: port.name if port else None for what, port in chosen.items()}
    return Outputs(names["map"], names["score"], grid or (1, 1))


def _chosen(
    what: str, fitting: Sequence[Port], asked: str | None, known: str | None, ports: Sequence[Port]
) -> Port | None:
    by_name = {port.name: port for port in fitting}
    if asked == NONE:
        return None
    if asked is not None:
        if asked not in by_name:
            raise SettingsError(
                f"--{what} {asked}: the graph gives {listed(ports)}; as a {what} fits {listed(fitting)}"
            )
        return by_name[asked]
    if known in by_name:
        return by_name[known]
    if len(fitting) > 1:
        raise SettingsError(
            f"the graph gives {len(fitting)} outputs that could be its {what}: {listed(fitting)}; name one with "
            f"--{what} NAME, or leave it out with --{what} {NONE}"
        )
    return fitting[0] if fitting else None


def _grid(port: Port) -> tuple[int, int] | None:
    """Return height and width of an output that is a map of one channel, with a batch axis; None for others."""
    sides = tuple(side or 0 for side in port.shape)
    if math.prod(sides) <= 1 or len(sides) not in (2, 3, 4):
        return None
    for height, width in (sides[-2:], sides[-3:-1]) if len(sides) == 4 else (sides[-2:],):
        if height * width == math.prod(sides) and min(height, width) > 1:
            return height, width
    return None


def listed(ports: Sequence[Port]) -> str:
    """List ports for a message."""
    return ", ".join(map(str, ports)) or "none"
