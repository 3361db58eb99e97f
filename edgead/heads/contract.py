"""Interface of heads: a head turns a network's outputs into scores and an anomaly map; the manifest has its options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgead.errors import SettingsError

Arrays = Mapping[str, np.ndarray]
"""Learnt arrays of an artifact besides its graph, by name: float32 matrices."""

Outputs = Mapping[str, Any]
"""Outputs of the network by name, as a batch of one: ndarrays, or arrays on a GPU if the head takes these."""


class Output(NamedTuple):
    """Output that a head needs from the graph: its name, and its number of dimensions without the batch."""

    name: str
    sides: int


@dataclass(frozen=True, slots=True)
class Scored:
    """Patch scores, float32 (h, w), and the image score; both raw, higher is more anomalous.

    `measured` has further values that the head measures, by name; see `edgead.types.Verdict`.
    """

    patch_scores: np.ndarray
    image_score: float
    measured: Mapping[str, float] = field(default_factory=dict)


class Scorer(Protocol):
    """Opened head: everything that scoring needs, prepared once. Not for several threads at once."""

    def score(self, outputs: Outputs, state: Any = None) -> Scored | None:
        """Score one frame.

        Parameters
        ----------
        outputs : mapping
            Outputs of the network; its next run changes them.
        state : object, optional
            State of this stream, made by `Head.new_state`; it is changed.

        Returns
        -------
        Scored or None
            None while the head needs more frames.

        Raises
        ------
        ValueError
            The network gave NaN or infinity, so that no verdict is possible.
        """
        ...

    def anomaly_map(self, patch_scores: np.ndarray) -> tuple[np.ndarray, float]:
        """Compute the map, float32 (h, w) at image size, owned by the caller, and its maximum."""
        ...


@runtime_checkable
class ScoresSeveral(Protocol):
    """Scorer for several images of one run, with one scorer (lane) for each."""

    lanes: Sequence[Scorer]


class Describer(Protocol):
    """Computes a feature vector of a frame's anomaly. Not for several threads at once."""

    def describe(self, outputs: Outputs, patch_scores: np.ndarray) -> np.ndarray:
        """Describe a frame that was scored.

        Parameters
        ----------
        outputs : mapping
            Outputs of the network, before its next run.
        patch_scores : ndarray of shape (h, w), float32
            Patch scores of the frame.

        Returns
        -------
        ndarray of shape (3 n,), float32
            Frames with the same kind of defect are near each other, by Euclidean distance. The first third is the
            difference from good parts; the second, of length 1, the look of the defect; the third, of length 1, its
            look compared with the rest of the frame. See `edgead.detector.known_kinds`.
        """
        ...


class Head(BaseModel, ABC):
    """Head: its options, as a section of the manifest, and the methods that every head has.

    A subclass gives `kind` a default, adds its options as fields with bounds, and implements the methods. For a head
    with state, `frames` is the number of frames of a stream before the first score, and `new_state` makes the state.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: str

    @property
    @abstractmethod
    def outputs(self) -> tuple[Output, ...]:
        """Outputs of the graph that it needs; the first, of shape (h, w) or (h, w, d), is the grid of patches."""

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the artifact's arrays that it needs."""
        return ()

    @property
    def frames(self) -> int:
        return 1

    @property
    def in_order(self) -> bool:
        """Whether frames are only meaningful in order; then single images can neither test nor calibrate the model."""
        return False

    @property
    def takes_gpu_arrays(self) -> bool:
        """Whether it can score outputs that stay on the GPU, on this machine."""
        return False

    def new_state(self) -> Any:
        """Make the state of one stream; None for a head without state."""
        return None

    def score_still(self, scorer: Scorer, outputs: Outputs) -> Scored:
        """Score a single image; a head with state gets it as a stream that repeats it until there is a score."""
        state, scored = self.new_state(), None
        for _ in range(self.frames):
            scored = scorer.score(outputs, state)
        if scored is None:
            raise ValueError(f"the head {self.kind!r} gave no score after {self.frames} frames, as many as it asks for")
        return scored

    def check(self, outputs: Outputs, arrays: Arrays) -> None:
        """Raise ValueError, naming what was found, unless the arrays fit the options and the output buffers."""

    @abstractmethod
    def open(self, outputs: Outputs, arrays: Arrays, image_size: tuple[int, int]) -> Scorer:
        """Prepare scoring; return the scorer.

        Parameters
        ----------
        outputs : mapping
            The buffers that a runtime writes into, for a batch of one; on a GPU also for more, if the scorer for one is
            a `ScoresSeveral`.
        arrays : mapping
            The arrays that `self.arrays` names.
        image_size : (int, int)
            Height and width of the map.
        """

    @property
    def grows(self) -> bool:
        """Whether the model can be taught more images."""
        return False

    def leaves_out(self, fold: int) -> bool:
        """Whether images of this fold can be scored as if the fold had not been learnt."""
        return False

    def open_left_out(
        self, outputs: Outputs, arrays: Arrays, image_size: tuple[int, int], fold: int, whole: Scorer | None = None
    ) -> Scorer:
        """Prepare scoring the images of a left-out fold; `whole`, an open scorer with all folds, saves time.

        Raises
        ------
        ValueError
            There is no fold of that number.
        """
        raise ValueError(f"the head {self.kind!r} has no fold {fold}")

    def open_describer(self, outputs: Outputs, arrays: Arrays, scorer: Scorer) -> Describer:
        """Prepare describing frames, from the arguments of `open` and the scorer that it returned.

        Raises
        ------
        SettingsError
            The head's outputs do not show in which way a frame is anomalous.
        """
        raise SettingsError(
            f"the head {self.kind!r} says how anomalous a frame is, not in what way: kinds of defects need a model "
            "with a memory bank; train one of the same parts beside it with `edgead train --detector patchcore`"
        )

    @abstractmethod
    def reference(self, outputs: Arrays, arrays: Arrays, image_size: tuple[int, int]) -> tuple[float, np.ndarray]:
        """Score an image in float64 by plain numpy, as a reference; with state, as a still image.

        `outputs` are float64 arrays without the batch. Returns the image score and the map.
        """
