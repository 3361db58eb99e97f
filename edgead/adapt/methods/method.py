"""Base of all methods: a configuration, how it learns from images, and what comes of it."""

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
    """Settings that every method has: a subclass gives them defaults of its own, and adds others.

    Attributes
    ----------
    image_size : (int, int)
        Height and width of the network's input.
    seed : int
        Of all that is drawn at random.
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
    """Good images of a training: those that were learnt, those of the thresholds with their groups and folds."""

    learnt: Sequence[Path]
    calibration: Sequence[Path]
    groups: Sequence[int]
    folds: Sequence[int]


@dataclass(frozen=True)
class Trained:
    """A detector that has learnt, ready to be written.

    Attributes
    ----------
    name : str
        Of the method.
    settings : dict
        The configuration as plain JSON types.
    write_graph : callable
        Writes the graph, and files that belong to it, into a folder, as a manifest describes it.
    preprocessing : Preprocessing
    head : Head
        What the outputs are scored by.
    arrays : mapping of str to ndarray
        What the head needs beside the graph, float32 matrices.
    learns_from : {"good", "unlabelled", "nothing"}
    graph_arrays : mapping of str to ndarray
        What the graph takes as inputs after the image, by name, float32 with 1 to 4 sides: what is learnt, where the
        rest of the network is the same for every product.
    precision : str
        Of the graph.
    outputs_of : callable
        Gives the outputs for one preprocessed image, with a batch of one, by the names that the head has for them.
    notes : mapping of str to object
        What the manifest says of it beside the settings, as plain JSON types.
    versions : mapping of str to str
        Of the software that made it.
    network : nn.Module, optional
        Of a method that trains one.
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

    Attributes
    ----------
    groups : sequence of int
        The group of each image, which a method that compares images learns across; empty where each is its own.
    folds : sequence of int
        The fold of each image, for a method that `leaves_out`: see `memory_bank.folds`. Empty where the method
        may deal them.
    progress : callable
        Called with (stage, done, total).
    checkpoint : edgead.workstation.trainer.checkpoint.Checkpoint, optional
        Where an interrupted training goes on; methods without training steps have nothing to resume.
    device : torch.device, optional
        Where a method that trains a network does; None for those without torch.
    """

    groups: Sequence[int] = ()
    folds: Sequence[int] = ()
    progress: StageProgress = no_progress
    checkpoint: Any = None
    device: Any = None


class Method(ABC, Generic[Config]):
    """A detector that learns: one subclass a file, found by its name in `edgead.adapt.methods.METHODS`.

    Attributes
    ----------
    name : str
    config_class : type
        A frozen dataclass, a subclass of `MethodConfig`, with a default for every setting.
    presets : dict
        By name, what differs from the defaults of `config_class`.
    purpose : str
        When to take it, in half a sentence.
    preset_purposes : dict
        The same of each preset.
    learns_from : {"good", "unlabelled", "nothing"}
    calibrated : bool
        Whether training holds good images out and makes thresholds from them. Otherwise all are learnt, and thresholds
        come with `edgead calibrate`.
    leaves_out : bool
        Whether what it learns comes in folds, so that each image can be scored as one that it has not learnt; see
        `edgead.adapt.memory_bank.folds`.
    compares_places : bool
        Whether it compares a place with the same place of a part it has learnt: it would take a tile for another.
    image_features : ndarray of shape (n, d), float32
        Of each image that it has learnt from, by which two products are found; empty where it has none.
    in_order : bool
        Whether it learns from the frames of a stream in their order; `edgead train` has images in none.
    smallest_px : int
        Least height and width of the network's input that `edgead train` takes: by default two patches of the layers
        that are compared, of stride 16; below it the image score sees little but the network's padding.
    inputs : tuple of str
        Which inputs (`Preprocessing.colour`) it can learn from. With `rgb_relief`, its class takes `channels`.
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
    image_features: np.ndarray = np.empty((0, 0), np.float32)

    @abstractmethod
    def __init__(self, config: Config, *, weights: Path | None = None, pretrained: bool = True):
        """Build the untrained detector; `weights` takes the place of the packaged ones, `pretrained` looks for any."""
        self.config = config

    @property
    @abstractmethod
    def head(self) -> Head:
        """What the network's outputs are scored by."""

    @abstractmethod
    def write_graph(self, folder: Path, manifest: Manifest) -> None:
        """Write the graph, and files that belong to it, into a folder."""

    @property
    def leaves_out(self) -> bool:
        """See the attributes."""
        return False

    @property
    def precision(self) -> str:
        """Precision of the graph that is written."""
        return "fp32"

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """Arrays that the head needs beside the graph, once they are learnt; by default the graph has everything."""
        return {}

    @property
    def graph_arrays(self) -> Mapping[str, np.ndarray]:
        """Arrays that the graph takes as inputs; see `Trained`. By default none."""
        return {}

    @property
    def notes(self) -> Mapping[str, Any]:
        """Facts for the manifest beside the settings, wherever it is trained."""
        return {}

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the software that makes and runs a model, for the manifest."""
        return software_versions()

    def facts(self, false_reject_rate: float) -> dict[str, Any]:
        """Facts for the manifest that depend on the rate of its thresholds; by default none."""
        return {}

    @classmethod
    def stages(cls, precision: str) -> tuple[Sequence[str], Sequence[str]]:
        """Stages of learning, and those after the calibration, as far as they are known before a training."""
        return (), ()

    def choose_precision(self, precision: str, images: int, *, cross_validates: bool) -> None:
        """Take the precision that is asked for, of TRAINED_PRECISIONS, once it is known what is learnt from.

        Parameters
        ----------
        precision : str
        images : int
            How many there are.
        cross_validates : bool
            Whether thresholds come from trainings that each leave out a part of the images.

        Raises
        ------
        SettingsError
            A precision that the training could not end in.
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
        """Find the device of a name to train on; None for what needs none."""
        return None

    def open_checkpoint(self, folder: Path, belongs_to: Mapping[str, Any]) -> Any:
        """Open the state of an interrupted training; None for what has nothing to resume."""
        return None

    def peak_memory(self, device: Any) -> dict[str, int | None]:
        """Most memory that this process has held since it started, MiB."""
        return {"peak_memory_mib": peak_memory_mib()}

    def finish(self, artifact: Artifact, good: GoodPaths, progress: StageProgress) -> Artifact:
        """Add to a calibrated artifact what the method makes of it, such as a graph of another precision."""
        return artifact

    @abstractmethod
    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Learn from images; see `fit`."""

    @classmethod
    def variant(cls, settings: Mapping[str, Any]) -> type[Self]:
        """The class that these settings are of: another one where a method has networks that share but their name."""
        return cls

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Any], *, weights: Path | None = None, pretrained: bool = True, channels: int = 3
    ) -> Self:
        """Build an untrained detector from settings such as `settings()` gives; missing ones keep their defaults.

        `channels` of the network's input are 6 for one that learns from `rgb_relief`.

        Raises
        ------
        SettingsError
            A setting that is unknown or cannot be, or weights that the method has no use for.
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
        """How an image becomes the network's input."""
        return Preprocessing(image_size=self.config.image_size)

    def prepared(self, preprocessing: Preprocessing) -> Preprocessing:
        """Take how images are prepared once their ranges are known, before `fit`; gives what the method makes of it."""
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
    ) -> Trained:
        """Learn from images.

        Parameters
        ----------
        images : sequence of ndarray of shape (h, w, 3), uint8, RGB
            Already preprocessed to `preprocessing`; good ones, unless `learns_from` says otherwise.
        groups, folds, progress, checkpoint, device
            See `Course`.

        Raises
        ------
        SettingsError
            Too few images for the method.
        DatasetError
            A folder that the settings name holds no images.
        """
        where = self.choose_device("cpu") if device is None else device
        self.learn(images, Course(groups, folds, progress, checkpoint, where))
        return self.trained()

    def trained(self) -> Trained:
        """Give what would be written now; before `fit`, what times and shapes can be measured with."""
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
