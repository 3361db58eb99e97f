"""Interface of a head: the section of a manifest by which a network's outputs become scores and a map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgead.errors import SettingsError

Arrays = Mapping[str, np.ndarray]
"""What an artifact has learnt beside its graph, by name: float32 matrices."""

Outputs = Mapping[str, Any]
"""What the network gave, by name, with the batch of one: ndarrays, or arrays on a GPU where the head takes those."""


class Output(NamedTuple):
    """An output that a head needs of the graph: its name, and how many sides it has beside the batch."""

    name: str
    sides: int


@dataclass(frozen=True, slots=True)
class Scored:
    """Patch scores, float32 (h, w), and the image score; both raw, higher is more anomalous.

    `measured` is what the head measures beside them, by name; see `edgead.types.Verdict`.
    """

    patch_scores: np.ndarray
    image_score: float
    measured: Mapping[str, float] = field(default_factory=dict)


class Scorer(Protocol):
    """A head that is ready: everything that scoring needs, prepared once. Not for several threads at once."""

    def score(self, outputs: Outputs, state: Any = None) -> Scored | None:
        """Score one frame.

        Parameters
        ----------
        outputs : mapping
            Of the network; overwritten by the next run.
        state : object, optional
            What `Head.new_state` made for this stream; the head changes it.

        Returns
        -------
        Scored or None
            None where the head needs more frames.

        Raises
        ------
        ValueError
            If the network gave NaN or infinity: no verdict is made of that.
        """
        ...

    def anomaly_map(self, patch_scores: np.ndarray) -> tuple[np.ndarray, float]:
        """Make the map (h, w) float32 at image size, which the caller keeps, and its maximum."""
        ...


@runtime_checkable
class ScoresSeveral(Protocol):
    """A scorer that keeps the scores of several images of one run, and so has a part for each."""

    lanes: Sequence[Scorer]


class Describer(Protocol):
    """Says in numbers what is anomalous in a frame. Not for several threads at once."""

    def describe(self, outputs: Outputs, patch_scores: np.ndarray) -> np.ndarray:
        """Describe a frame that was scored.

        Parameters
        ----------
        outputs : mapping
            Of the network, before its next run.
        patch_scores : ndarray of shape (h, w), float32
            What the frame was scored.

        Returns
        -------
        ndarray of shape (3 n,), float32
            Frames with defects of one kind are near each other, by Euclidean distance. The first third says how they
            differ from what is good, and by its length how far; the second, of length 1, how they look; the third, of
            length 1, how they look beside the rest of the same frame. See `edgead.detector.known_kinds`.
        """
        ...


class Head(BaseModel, ABC):
    """Options of a head, as a manifest has them, and what it needs and makes.

    A subclass gives `kind` a default, adds its options as fields with bounds, and says the rest by methods. With state,
    `frames` is how many frames of a stream it takes until there is a score, and `new_state` makes what it keeps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: str

    @property
    @abstractmethod
    def outputs(self) -> tuple[Output, ...]:
        """What it needs of the graph; the first, with sides (h, w) or (h, w, d), is the grid of patches."""

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays that it needs of the artifact."""
        return ()

    @property
    def frames(self) -> int:
        return 1

    @property
    def in_order(self) -> bool:
        """Whether frames mean something in their order alone: images in none are no test, and make no thresholds."""
        return False

    @property
    def takes_gpu_arrays(self) -> bool:
        """Whether it scores here what the network left on the GPU."""
        return False

    def new_state(self) -> Any:
        """Make the state of one stream; None for a head that has none."""
        return None

    def score_still(self, scorer: Scorer, outputs: Outputs) -> Scored:
        """Score one image alone: with state, a stream that shows nothing else until there is a score."""
        state, scored = self.new_state(), None
        for _ in range(self.frames):
            scored = scorer.score(outputs, state)
        if scored is None:
            raise ValueError(f"the head {self.kind!r} gave no score after {self.frames} frames, as many as it asks for")
        return scored

    def check(self, outputs: Outputs, arrays: Arrays) -> None:
        """Raise ValueError unless the arrays fit the options and the buffers of the outputs; says what was found."""

    @abstractmethod
    def open(self, outputs: Outputs, arrays: Arrays, image_size: tuple[int, int]) -> Scorer:
        """Prepare scoring.

        Parameters
        ----------
        outputs : mapping
            The buffers that a runtime writes into: their shapes, and where they are. With a batch of one; on a GPU, of
            more as well where the scorer of one is a `ScoresSeveral`.
        arrays : mapping
            What `arrays` names.
        image_size : (int, int)
            Height and width of the map.
        """

    @property
    def grows(self) -> bool:
        """Whether lessons add to what it has learnt."""
        return False

    def leaves_out(self, fold: int) -> bool:
        """Whether an image of that fold can be scored as if its fold had not been learnt."""
        return False

    def open_left_out(
        self, outputs: Outputs, arrays: Arrays, image_size: tuple[int, int], fold: int, whole: Scorer | None = None
    ) -> Scorer:
        """Prepare scoring images of a fold that it `leaves_out`; the scorer of the `whole` saves time where it is open.

        Raises
        ------
        ValueError
            There is no fold of that number.
        """
        raise ValueError(f"the head {self.kind!r} has no fold {fold}")

    def open_describer(self, outputs: Outputs, arrays: Arrays, scorer: Scorer) -> Describer:
        """Prepare describing frames, from what `open` takes and what it gave, which holds much of it already.

        Raises
        ------
        SettingsError
            What it scores by does not show in what way a frame is anomalous.
        """
        raise SettingsError(
            f"the head {self.kind!r} says how anomalous a frame is, not in what way: kinds of defects need a model "
            "with a memory bank; train one of the same parts beside it with `edgead train --detector patchcore`"
        )

    @abstractmethod
    def reference(self, outputs: Arrays, arrays: Arrays, image_size: tuple[int, int]) -> tuple[float, np.ndarray]:
        """Score an image plainly in float64, to compare with; where it has state, a still image.

        `outputs` are float64 arrays without the batch. Returns the image score and the map.
        """
