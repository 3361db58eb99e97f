"""Frozen backbone as a graph: it takes an image, a scale and a metric, and gives patch features.

The package contains the graphs of the presets. Scale and metric are inputs: with neutral values the graph gives raw
features, with the learnt values it is the detector's graph.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgead.adapt.memory_bank.feature_space import FeatureScale
from edgead.adapt.workers import in_order, share_cores
from edgead.artifact.folder import Artifact, ArtifactError, write_arrays
from edgead.artifact.inputs import Preprocessing
from edgead.artifact.manifest import GraphRecord, Manifest
from edgead.artifact.onnx_file import with_initializers, with_properties, with_sides
from edgead.components.added import load_entry
from edgead.errors import SettingsError
from edgead.heads.nearest import NearestHead
from edgead.process.installation import plugin_command
from edgead.runtime import open_runtime
from edgead.runtime.contract import Runtime

PACKAGED = Path(__file__).parents[1] / "backbones"
# Names of weights in a graph begin with this.
WEIGHTS_OF = "backbone."
DESCRIPTION, PAIRS = "backbones.json", "pairs"
LITE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
RESNETS = ("resnet18", "wide_resnet50_2")
BACKBONES = LITE + RESNETS
# Layers: the stem and the ends of the seven groups of blocks; two groups have stride 16, two stride 32.
LITE_LAYERS = ("stem", "stride2", "stride4", "stride8", "stride16a", "stride16", "stride32a", "stride32")
RESNET_LAYERS = ("layer1", "layer2", "layer3", "layer4")
# Layers of the packaged graphs, their finest stride, and the number that input sides are multiples of, in pixels.
LAYERS = ("stride8", "stride16")
_STRIDE, STEP_PX = 8, 16
OUTPUT = "features"

# A layer x is divided by sqrt(|x|^2 + r^2). With this r^2 no |x|^2 up to 2^23 changes the float32 sum, and the root is
# a power of two: the result is exactly x / 2^24.
_NEUTRAL_SQUARED_LENGTH, _RAW_FACTOR = 2.0**48, np.float32(2.0**24)


class AddedBackbone(Protocol):
    """A backbone of another package.

    A package adds backbones by `[project.entry-points."edgead.backbones"]` with `NAME = "module:BACKBONES"`, a mapping
    from names to objects of this protocol.

    `layers`: names of the layers, finest first.
    `patch`: both sides of an image must be multiples of this, pixels.
    `licence`: licence of the weights.
    """

    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def patch(self) -> int: ...
    @property
    def licence(self) -> str: ...

    def build(self, layers: Sequence[str], image_size: tuple[int, int], weights: Path | None, pretrained: bool) -> Any:
        """Build the backbone as a torch network, see `edgead.workstation.backbones.pretrained.build_backbone`."""
        ...


def find_added(name: str | None, own: Collection[str] = BACKBONES) -> AddedBackbone | None:
    """Look up a backbone of another package; None for edgead's `own` backbones, for which no package is imported."""
    return None if name is None or name in own else added_backbones().get(name)


def added_backbones() -> Mapping[str, AddedBackbone]:
    """Return all backbones that other packages add, by name.

    Raises SettingsError: the backbones of a package cannot be imported.
    """
    found: dict[str, AddedBackbone] = {}
    for entry in entry_points(group="edgead.backbones"):
        try:
            found |= load_entry(entry)
        except Exception as error:
            raise SettingsError(f"backbones of {entry.value} cannot be imported: {error}") from error
    return found


def check_backbone(name: str, layers: Sequence[str]) -> None:
    """Raise SettingsError unless a backbone of that name exists and has these layers, at least one."""
    added = {} if name in BACKBONES else added_backbones()
    if name not in (*BACKBONES, *added):
        known = f"unknown backbone {name!r}: choose one of {', '.join((*BACKBONES, *added))}"
        raise SettingsError(
            known if added else f"{known}; others come with edgead-foundation: {plugin_command('edgead-foundation')}"
        )
    layers_of = LITE_LAYERS if name in LITE else RESNET_LAYERS if name in RESNETS else added[name].layers
    unknown = [layer for layer in layers if layer not in layers_of]
    if unknown or not layers:
        raise SettingsError(f"layers {list(layers)} of {name}: choose from {', '.join(layers_of)}")


@dataclass(frozen=True, slots=True)
class FrozenBackbone:
    """Graph from an image of fixed size and type to patch features, without learnt values.

    `graph`: ONNX. After the image it takes `mean` and `inverse_std` (d,), `squared_length` (layers,) and `metric` (d,
        d, 1, 1), float32.
    `channels`: channels of each layer that the features come from; d in total.
    `precision`: precision of the graph.
    """

    graph: bytes
    channels: tuple[int, ...]
    precision: str = "fp32"

    def inputs(self, scale: FeatureScale, metric: np.ndarray) -> dict[str, np.ndarray]:
        """Return the graph's inputs besides the image, in its order, for a scale and a metric.

        Without damping the graph gives features 2^24 times smaller than `FeatureScale.standardise` does; the metric
        multiplies them back, without loss, as all factors are powers of two.
        """
        lengths = np.full(len(self.channels), _NEUTRAL_SQUARED_LENGTH) if not scale.damps else scale.squared_length
        matrix = metric if scale.damps else metric * _RAW_FACTOR
        given = {"mean": scale.mean, "inverse_std": scale.inverse_std, "squared_length": lengths}
        return {name: one.astype(np.float32) for name, one in given.items()} | {
            "metric": np.ascontiguousarray(matrix.T, np.float32)[:, :, None, None]
        }

    @property
    def neutral(self) -> dict[str, np.ndarray]:
        """The inputs with which the graph gives raw features."""
        width = sum(self.channels)
        scale = FeatureScale(
            np.zeros(width, np.float32), np.ones(width, np.float32), np.ones(len(self.channels)), self.channels, False
        )
        return self.inputs(scale, np.eye(width))


def is_packaged(name: str, layers: Sequence[str]) -> bool:
    """Whether the package contains the graph of a backbone that ends at these layers."""
    return name in LITE and tuple(layers) == LAYERS


def packaged_backbone(name: str, spec: Preprocessing, precision: str) -> FrozenBackbone:
    """Read a backbone of the package, for inputs of one size and type.

    `name`: a name in `LITE`.
    `precision` ({"fp32", "int8"}): int8 takes 8-bit images only.
    Raises SettingsError: the sides are not multiples of 16 pixels.
    Raises ArtifactError: the package is damaged.
    """
    height, width = spec.image_size
    if height % STEP_PX or width % STEP_PX:
        raise SettingsError(f"image_size {[height, width]}: give multiples of {STEP_PX} pixels, which {name} takes")
    described = json.loads((PACKAGED / DESCRIPTION).read_text(encoding="utf-8"))[name]
    pairs = spec.channels == 6
    graph = _read(name, precision, described)
    if pairs:
        graph = with_initializers(_read(name, PAIRS, described), graph, WEIGHTS_OF)
    channels = tuple(described["channels"]) * (2 if pairs else 1)
    image = (height, width, spec.channels)
    features = (height // _STRIDE, width // _STRIDE, sum(channels))
    return FrozenBackbone(with_sides(graph, image, spec.dtype, features), channels, precision)


def _read(name: str, kind: str, described: Mapping[str, Mapping[str, str]]) -> bytes:
    file = PACKAGED / f"{name}.{kind}.onnx"
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != described["sha256"][kind]:
        raise ArtifactError(f"{file} is not the file that was packaged: install edgead again")
    return content


@contextmanager
def open_raw(
    backbone: FrozenBackbone,
    spec: Preprocessing,
    engine: str = "onnxruntime",
    threads: int | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
) -> Iterator[Runtime]:
    """Yield a runtime of a backbone; without `arrays` (inputs), its output `features` (1, h, w, d) is raw."""
    record = GraphRecord(arrays=tuple(backbone.neutral))
    manifest = Manifest.draft(
        "patchcore", spec, NearestHead(), learnt_in=backbone.precision, graphs={backbone.precision: record}
    )
    with tempfile.TemporaryDirectory(prefix="edgead.") as folder:
        (Path(folder) / record.file).write_bytes(with_properties(backbone.graph, {}))
        write_arrays(Path(folder), manifest, arrays or backbone.neutral)
        runtime = open_runtime(Artifact(Path(folder), manifest), engine, threads=threads)
    try:
        yield runtime
    finally:
        runtime.close()


def each_raw(backbone: FrozenBackbone, spec: Preprocessing, images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Run a backbone over images; yield raw features, float32 (h, w, d), which the next call does not change.

    Raises SettingsError: the backbone gives NaN or infinity.
    """

    def features_of(runtime: Runtime, number: int) -> np.ndarray:
        features: np.ndarray = runtime.run(images[number][None])[OUTPUT][0].copy()
        if not np.isfinite(features).all():
            raise SettingsError("the backbone gave NaN or infinity: its weights are broken, or its engine is")
        return features

    with ExitStack() as opened:
        runtimes = [
            opened.enter_context(open_raw(backbone, spec, threads=threads)) for threads in share_cores(len(images))
        ]
        yield from in_order(runtimes, features_of, range(len(images)))
