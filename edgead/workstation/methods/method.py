"""Base of all methods: a configuration, a network that learns from images, and what comes of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import nn
from typing_extensions import Self

from edgead.artifact.inputs import Colour
from edgead.artifact.manifest import LearnsFrom, Preprocessing
from edgead.dataset.folders import StageProgress, no_progress
from edgead.heads import Head
from edgead.workstation.methods.settings import plain_settings, read_settings
from edgead.workstation.trainer.checkpoint import Checkpoint
from edgead.workstation.trainer.device import CPU


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


@dataclass(frozen=True)
class Trained:
    """What is exported of a method: nothing in it learns any more.

    Attributes
    ----------
    name : str
        Of the method.
    settings : dict
        The configuration as plain JSON types.
    network : nn.Module
        uint8 RGB (n, h, w, 3) -> what the head's `outputs` name, in their order.
    preprocessing : Preprocessing
    head : Head
        What the outputs are scored by.
    arrays : mapping of str to ndarray
        What the head needs beside the graph, float32 matrices.
    learns_from : {"good", "unlabelled", "nothing"}
    graph_arrays : mapping of str to ndarray
        Buffers of the network that the exported graph takes as inputs, by name, float32 with 1 to 4 sides: what is
        learnt, where the rest of the network is the same for every product.
    notes : mapping of str to object
        What the manifest says of it beside the settings, as plain JSON types.
    """

    name: str
    settings: dict[str, Any]
    network: nn.Module
    preprocessing: Preprocessing
    head: Head
    arrays: Mapping[str, np.ndarray]
    learns_from: LearnsFrom = "good"
    graph_arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Course:
    """How a training runs, whatever the method.

    Attributes
    ----------
    groups : sequence of int
        The group of each image, which a method that compares images learns across; empty where each is its own.
    folds : sequence of int
        The fold of each image, for a method that `leaves_out`: see `memory_bank.folds`. Empty where the method
        may deal them.
    progress : callable
        Called with (stage, done, total).
    checkpoint : Checkpoint, optional
        Where an interrupted training goes on; methods without training steps have nothing to resume.
    device : torch.device
        Where to train.
    """

    groups: Sequence[int] = ()
    folds: Sequence[int] = ()
    progress: StageProgress = no_progress
    checkpoint: Checkpoint | None = None
    device: torch.device = CPU


class Method(ABC, Generic[Config]):
    """A detector that learns: one subclass a file, found by its name in `edgead.workstation.methods.METHODS`.

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
    in_order : bool
        Whether it learns from the frames of a stream in their order; `edgead train` has images in none.
    smallest_px : int
        Least height and width of the network's input that `edgead train` takes: by default two patches of the layers
        that are compared, of stride 16; below it the image score sees little but the network's padding.
    inputs : tuple of str
        Which inputs (`Preprocessing.colour`) it can learn from. With `rgb_relief`, its class takes `channels`.
    network : nn.Module
        The module that is exported.
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
    network: nn.Module

    @abstractmethod
    def __init__(self, config: Config, *, weights: Path | None = None, pretrained: bool = True):
        """Build the untrained network; `weights` takes the place of the packaged ones, `pretrained` looks for any."""
        self.config = config

    @property
    @abstractmethod
    def head(self) -> Head:
        """What the network's outputs are scored by."""

    @property
    def leaves_out(self) -> bool:
        """See the attributes."""
        return False

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """What the head needs beside the graph, once it is learnt; by default the graph has everything."""
        return {}

    @property
    def graph_arrays(self) -> Mapping[str, np.ndarray]:
        """What the exported graph takes as inputs; see `Trained`. By default nothing."""
        return {}

    @property
    def notes(self) -> Mapping[str, Any]:
        """What the manifest says of it beside the settings, wherever it is trained."""
        return {}

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
        checkpoint: Checkpoint | None = None,
        device: torch.device = CPU,
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
        self.learn(images, Course(groups, folds, progress, checkpoint, device))
        return self.trained()

    def trained(self) -> Trained:
        """Give what would be exported now; before `fit`, what times and shapes can be measured with."""
        return Trained(
            self.name,
            self.settings(),
            self.network,
            self.preprocessing,
            self.head,
            self.arrays,
            self.learns_from,
            self.graph_arrays,
            self.notes,
        )

    def facts(self, false_reject_rate: float) -> dict[str, Any]:
        """What the manifest records of this method beside its settings."""
        return {}
