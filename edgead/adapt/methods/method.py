"""Base class of all methods: configuration, training on images, and the trained detector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import cv2
import numpy as np
import onnxruntime
from typing_extensions import Self

from edgead.adapt.methods.settings import plain_settings, read_settings
from edgead.artifact.folder import Artifact
from edgead.artifact.inputs import Colour
from edgead.artifact.manifest import LearnsFrom, Manifest, Preprocessing
from edgead.dataset.folders import StageProgress, no_progress
from edgead.errors import SettingsError
from edgead.heads import Head
from edgead.process.memory import peak_memory_mib
from edgead.version import __version__


@dataclass(frozen=True)
class MethodConfig:
    """Settings of every method; subclasses change the defaults and add settings.

    Attributes
    ----------
    image_size : (int, int)
        Height and width of the network's input.
    seed : int
        Seed of all random numbers.
    """

    image_size: tuple[int, int] = (320, 320)
    seed: int = 0


Config = TypeVar("Config", bound=MethodConfig)
WriteGraph = Callable[[Path, Manifest], None]
OutputsOf = Callable[[np.ndarray], dict[str, np.ndarray]]
AUTO, FP32, INT8 = TRAINED_PRECISIONS = ("auto", "fp32", "int8")


def software_versions() -> dict[str, str]:
    """Versions of the software that runs a model, for the manifest."""
    modules = (onnxruntime, np, cv2)
    return {"edgead": __version__} | {module.__name__: str(module.__version__) for module in modules}


@dataclass(frozen=True)
class GoodPaths:
    """Good images of a training: learnt images, and calibration images with their groups and folds."""

    learnt: Sequence[Path]
    calibration: Sequence[Path]
    groups: Sequence[int]
    folds: Sequence[int]


@dataclass(frozen=True)
class Trained:
    """A trained detector, ready to be written.

    `name`: name of the method.
    `settings`: the configuration as plain JSON types.
    `write_graph`: writes the graph, and files that belong to it, into a folder, as a manifest describes it.
    `head`: computes scores from the outputs.
    `arrays`: arrays that the head needs besides the graph, float32 matrices.
    `learns_from`: {"good", "unlabelled", "nothing"}.
    `graph_arrays`: inputs of the graph after the image, by name, float32 with 1 to 4 dimensions: learnt values, if the
        rest of the network is the same for every product.
    `precision`: precision of the graph.
    `outputs_of`: returns the outputs for one preprocessed image, as a batch of one, by the names that the head uses.
    `notes`: further facts for the manifest besides the settings, as plain JSON types.
    `versions`: versions of the software that made the detector.
    `network` (nn.Module): the torch network, if the method trains one.
    """

    name: str
    settings: dict[str, Any]
    write_graph: WriteGraph
    outputs_of: OutputsOf
    preprocessing: Preprocessing
    head: Head
    arrays: Mapping[str, np.ndarray]
    learns_from: LearnsFrom = "good"
    graph_arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    precision: str = "fp32"
    notes: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    network: Any = None


@dataclass(frozen=True)
class Course:
    """Circumstances of a training, whatever the method.

    `groups`: group of each image: only images of different groups are compared; empty if each is its own group.
    `folds`: fold of each image, for a method that `leaves_out`: see `memory_bank.folds`. Empty if the method shall
        choose.
    `checkpoint` (edgead.workstation.trainer.checkpoint.Checkpoint): state to continue an interrupted training; methods
        without training steps have nothing to resume.
    `device` (torch.device): device to train a network on; None for methods without torch.
    `seen`: called by a method that compares features, before it learns, with the mean features of each image: an array
        of shape (n, d), float32.
    """

    groups: Sequence[int] = ()
    folds: Sequence[int] = ()
    progress: StageProgress = no_progress
    checkpoint: Any = None
    device: Any = None
    seen: Callable[[np.ndarray], None] | None = None


class Method(ABC, Generic[Config]):
    """A detector that can be trained: one subclass per file, found by its name in `edgead.adapt.methods.METHODS`.

    `config_class`: a frozen dataclass, a subclass of `MethodConfig`, with a default for every setting.
    `presets`: for each preset, the settings that differ from the defaults of `config_class`.
    `purpose`: when to use the method, in half a sentence.
    `preset_purposes`: when to use each preset.
    `learns_from`: {"good", "unlabelled", "nothing"}.
    `calibrated`: whether training makes thresholds from good images. Otherwise it learns all images, and `edgead
        calibrate` makes the thresholds.
    `leaves_out`: whether it learns in folds, so that each image can be scored as if it had not been learnt; see
        `edgead.adapt.memory_bank.folds`.
    `compares_places`: whether it compares each place with the same place of learnt parts; then it cannot work on tiles.
    `in_order`: whether it learns from the frames of a stream in their order, which the images of `edgead train` lack.
    `smallest_px`: smallest height and width of the network's input, pixels: by default two patches of stride 16; below
        this the image score depends mostly on the network's padding.
    `inputs`: inputs (`Preprocessing.colour`) that it can learn from. With `rgb_relief`, its class takes `channels`.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[Any]]
    presets: ClassVar[Mapping[str, dict[str, Any]]] = {"default": {}}
    purpose: ClassVar[str] = ""
    preset_purposes: ClassVar[Mapping[str, str]] = {}
    learns_from: ClassVar[LearnsFrom] = "good"
    calibrated: ClassVar[bool] = True
    compares_places: ClassVar[bool] = False
    in_order: ClassVar[bool] = False
    smallest_px: ClassVar[int] = 32
    inputs: ClassVar[tuple[Colour, ...]] = ("rgb",)

    @abstractmethod
    def __init__(self, config: Config, *, weights: Path | None = None, pretrained: bool = True):
        """Build the untrained detector: weights of the package, of the file `weights`, or (not `pretrained`) random."""
        self.config = config

    @property
    @abstractmethod
    def head(self) -> Head:
        """Head that computes scores from the network's outputs."""

    @abstractmethod
    def write_graph(self, folder: Path, manifest: Manifest) -> None:
        """Write the graph, and files that belong to it, into a folder."""

    @property
    def leaves_out(self) -> bool:
        """Whether it learns in folds; see the attributes of the class."""
        return False

    @property
    def precision(self) -> str:
        """Precision of the graph that is written."""
        return "fp32"

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """Learnt arrays that the head needs besides the graph; none by default."""
        return {}

    @property
    def graph_arrays(self) -> Mapping[str, np.ndarray]:
        """Learnt arrays that are inputs of the graph; see `Trained`. None by default."""
        return {}

    @property
    def notes(self) -> Mapping[str, Any]:
        """Facts for the manifest besides the settings."""
        return {}

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the software that makes and runs a model, for the manifest."""
        return software_versions()

    def facts(self, false_reject_rate: float) -> dict[str, Any]:
        """Facts for the manifest that depend on the rate of the thresholds; none by default."""
        return {}

    @classmethod
    def stages(cls, precision: str) -> tuple[Sequence[str], Sequence[str]]:
        """Names of the stages of learning, then of the stages after calibration, as far as known before training."""
        return (), ()

    def choose_precision(self, precision: str, images: int, *, cross_validates: bool) -> None:
        """Set the precision, one of TRAINED_PRECISIONS; called before learning, when the number of images is known.

        `images`: number of images.
        `cross_validates`: whether thresholds come from several trainings, each of which leaves out some of the images.
        Raises SettingsError: the method cannot be trained in this precision.
        """
        if precision not in TRAINED_PRECISIONS:
            raise SettingsError(f"precision {precision!r}: choose one of {', '.join(TRAINED_PRECISIONS)}")

    @abstractmethod
    def outputs_of(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network on a preprocessed image; see `Trained`."""

    @abstractmethod
    def network_ms(self) -> float:
        """Time one run of the untrained network, ms of processor time on one core of this machine."""

    def choose_device(self, name: str) -> Any:
        """Find the device to train on by its name; None if the method learns without torch, and refuses a GPU."""
        if name == "cuda":
            raise SettingsError(f"{self.name} learns on the CPU: leave out --device")
        return None

    def open_checkpoint(self, folder: Path, belongs_to: Mapping[str, Any]) -> Any:
        """Open the state of an interrupted training; None if the method has nothing to resume."""
        return None

    def peak_memory(self, device: Any) -> dict[str, int | None]:
        """Peak memory of this process since its start, MiB."""
        return {"peak_memory_mib": peak_memory_mib()}

    def finish(self, artifact: Artifact, good: GoodPaths, progress: StageProgress) -> Artifact:
        """Complete a calibrated artifact, for example by a graph of another precision."""
        return artifact

    @abstractmethod
    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Learn from images; see `fit`."""

    @classmethod
    def variant(cls, settings: Mapping[str, Any]) -> type[Self]:
        """Return the class for these settings; a method may have one class for each of its networks."""
        return cls

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Any], *, weights: Path | None = None, pretrained: bool = True, channels: int = 3
    ) -> Self:
        """Build an untrained detector from settings, as `settings()` returns them; missing ones keep their defaults.

        `channels` is the number of input channels: 6 for a detector that learns from `rgb_relief`.

        Raises SettingsError: a setting is unknown or invalid, or the method cannot use weights.
        """
        method = cls.variant(settings)
        config = read_settings(method.config_class, settings, detector=method.name)
        of_pairs = {} if channels == 3 else {"channels": channels}
        return method(config, weights=weights, pretrained=pretrained, **of_pairs)

    def settings(self) -> dict[str, Any]:
        """The configuration as plain JSON types."""
        return plain_settings(self.config)

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of an image into the network's input."""
        return Preprocessing(image_size=self.config.image_size, fill=getattr(self.config, "fill", "stretch"))

    def prepared(self, preprocessing: Preprocessing) -> Preprocessing:
        """Receive the preprocessing of the training, before `fit`; return it with the method's changes."""
        return preprocessing

    def fit(
        self,
        images: Sequence[np.ndarray],
        *,
        groups: Sequence[int] = (),
        folds: Sequence[int] = (),
        progress: StageProgress = no_progress,
        checkpoint: Any = None,
        device: Any = None,
        seen: Callable[[np.ndarray], None] | None = None,
    ) -> Trained:
        """Learn from images.

        `images` (sequence of ndarray of shape (h, w, 3), uint8, RGB): already preprocessed to `preprocessing`; good
            images, unless `learns_from` says otherwise.
        `groups`, `folds`, `progress`, `checkpoint`, `device`, `seen`: see `Course`.
        Raises SettingsError: there are too few images for the method.
        Raises DatasetError: a folder that the settings name holds no images.
        """
        where = self.choose_device("cpu") if device is None else device
        self.learn(images, Course(groups, folds, progress, checkpoint, where, seen))
        return self.trained()

    def trained(self) -> Trained:
        """Return the detector in its present state; before `fit` it serves to measure times and shapes."""
        return Trained(
            self.name,
            self.settings(),
            self.write_graph,
            self.outputs_of,
            self.preprocessing,
            self.head,
            self.arrays,
            self.learns_from,
            self.graph_arrays,
            self.precision,
            self.notes,
            self.versions,
        )
