"""Watch for a change of parts' scores and of the camera's images, with a stated rate of false alarms.

Each channel follows a value of every part, or a share of the parts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

import numpy as np
from pydantic import Field

from edgead.artifact.camera_view import ViewMeter
from edgead.artifact.manifest import CROSS, Calibration, CameraView
from edgead.calibration.group_conformal import one_of_each
from edgead.components.options import Section
from edgead.errors import SettingsError
from edgead.line.drift.betting import Bag, Change, ChangeEvidence, ShareEvidence
from edgead.line.drift.words import drift_reason
from edgead.types import Verdict

_LEFT_OUT = "scores beside good images"
# Channels of a CameraView's values, in their order.
_CAMERA = ("brightness", "sharpness", "place across", "place down")
# After an alarm, another channel counts as changed too if it soon reaches this evidence, which is below its own bar
# (while nothing has changed, it is above this at about one part in ten thousand). Only soon, since a new product may
# move a camera's channel a little, which shows after hundreds of parts.
_CHANGED_TOO, _SOON_PARTS = 1e5, 50


_Bets = TypeVar("_Bets", ChangeEvidence, ShareEvidence)


class Channel(Generic[_Bets]):
    """Channel of the watch: one measure of the parts, with the evidence that it has changed."""

    def __init__(self, evidence: _Bets):
        self._evidence: _Bets = evidence

    @property
    def level(self) -> float:
        return self._evidence.level

    @property
    def change(self) -> Change:
        return self._evidence.change

    def to_dict(self) -> dict[str, Any]:
        return {"sums": self._evidence.sums.tolist()}

    def take(self, kept: dict[str, Any]) -> None:
        self._evidence.sums = _sums(kept, self._evidence.sums.size)


class ValueChannel(Channel[ChangeEvidence]):
    """Channel of a value that every part has, compared with the values of all earlier parts.

    Parameters
    ----------
    values : sequence of float
        Values that the first part is compared with; may be empty.
    higher_only : bool
        Whether only a rise counts as a change, since `values` may be higher than the values of good parts on the line.
    """

    def __init__(self, values: Sequence[float] = (), *, higher_only: bool = False):
        super().__init__(ChangeEvidence(higher_only=higher_only))
        self._bag = Bag(values)

    def add(self, value: float, tie_break: float) -> None:
        self._evidence.add(self._bag.p_value(value, tie_break))

    def to_dict(self) -> dict[str, Any]:
        return {"bag": self._bag.to_dict(), **super().to_dict()}

    def take(self, kept: dict[str, Any]) -> None:
        self._bag = Bag.from_dict(kept["bag"])
        super().take(kept)


class ShareChannel(Channel[ShareEvidence]):
    """Channel of an event: while nothing has changed, it happens to a share of parts of at most `most`."""

    def __init__(self, most: float):
        super().__init__(ShareEvidence(most))

    def add(self, happened: bool) -> None:
        self._evidence.add(happened)


def _sums(kept: dict[str, Any], bets: int) -> np.ndarray:
    sums = np.array(kept["sums"], np.float64)
    if sums.shape != (bets,) or not np.all(sums >= 0):
        raise ValueError(f"{bets} sums of bets are needed, found {sums.size}")
    return sums


Cause = Literal["camera", "product"]


def map_level(anomaly_map: np.ndarray) -> float:
    """Return the median of an anomaly map, taken from every fourth pixel of each side, since maps are smooth."""
    return float(np.median(anomaly_map[::4, ::4]))


class DriftSection(Section):
    """Watch for parts or images that no longer look like the parts that the thresholds were made for."""

    average_run_length: Annotated[
        float, Field(ge=100, le=1e12, description="Number of parts in which at most one false alarm is expected.")
    ] = 1_000_000
    most_flagged: Annotated[
        float | None,
        Field(
            gt=0,
            lt=1,
            description="Share of parts, defects included, that may be sent to review or rejected; by default 0.2, or "
            "twice the model's review rate if that is more.",
        ),
    ] = None
    images: Annotated[bool, Field(description="Compare brightness, sharpness and place with golden images.")] = True
    seed: Annotated[int, Field(ge=0, lt=2**63, description="Seed of the random order of equal values.")] = 0


class OtherWatchError(SettingsError):
    """Stored state that cannot be restored: it is of another model, or of other settings."""


@dataclass(frozen=True, slots=True)
class DriftState:
    """State of the drift watch after a part; a warning stays until the watch starts again."""

    state: Annotated[
        Literal["ok", "warning", "off"], Field(description="off: the model cannot be watched, for `reason`.")
    ]
    cause: Annotated[Cause | None, Field(description="camera: the images themselves have changed.")]
    reason: str | None
    parts: Annotated[int, Field(description="Parts since the watch began.")]
    alarm_part: Annotated[int | None, Field(description="Number of the part that raised the warning.")]
    evidence: Annotated[float | None, Field(description="Evidence of a change; 1 raises the warning.")]


class DriftWatch:
    """Watch that reports when parts or images no longer look like earlier parts or images.

    Channels: the scores and the median of the anomaly map of parts that pass, the share of parts that do not pass, and,
    with images, brightness, sharpness and place of the whole view. Each channel bets on conformal p-values among all
    earlier values (`edgead.line.drift.betting`). While parts are exchangeable, also with the calibration's good parts,
    at most n / `average_run_length` false alarms are expected among n parts, all channels together.

    Scores of learnt images come from models that had learnt less than the final model, so they may be higher than the
    scores of similar new parts. A separate channel compares parts with these scores, and bets only on scores that are
    higher still: learnt scores that are too high make no such bet easier to win.

    Parameters
    ----------
    calibration : Calibration
        Calibration of the graph that judges.
    golden : sequence of ndarray of shape (H, W, 3), uint8, BGR
        Golden images of the model; without golden images, the watch compares no images.
    section : DriftSection
    views : sequence of CameraView
        Views of further good images, as the model keeps them; the stream's first images are compared with these.
    """

    def __init__(
        self,
        calibration: Calibration,
        golden: Sequence[np.ndarray] = (),
        section: DriftSection | None = None,
        *,
        views: Sequence[CameraView] = (),
    ):
        self.section = section or DriftSection()
        if calibration.volumes is not None:
            raise SettingsError(
                "the model judges slices of volumes, which change from one end of each to the other: drift compares "
                "parts that are alike. Set drift to null"
            )
        rate, asked = calibration.review_rate, self.section.most_flagged
        # Few good images support no strict rate; between it and 1 there is always room for a larger share.
        self._most_flagged = max(0.2, min(2 * rate, (1 + rate) / 2)) if asked is None else asked
        if rate >= self._most_flagged:
            raise SettingsError(
                f"most_flagged is the share of parts that are sent to review or rejected while all is well, defects "
                f"included: {asked:g} is no more than the good ones' {rate:g}"
            )
        # Of images that belong together only one counts: parts on the line are independent of each other.
        self._scores = one_of_each(calibration.scores, calibration.groups)
        self._left_out = calibration.method in CROSS
        self._views = list(views)
        self._meter = ViewMeter(golden) if golden and self.section.images else None
        self._limit = calibration.review
        self.start_again()

    def accept(self) -> None:
        """Accept the camera's images as they are now, and start again."""
        self._views = []
        self.start_again()

    def start_again(self) -> None:
        """Forget all parts and the warning."""
        self._rng = np.random.default_rng(self.section.seed)
        self._parts = 0
        self._alarm_part: int | None = None
        self._changed: dict[str, Change] = {}
        # Given the highest score that passes, those below it are distributed as the scores of passing parts.
        passing = [score for score in self._scores if score <= self._limit][:-1]
        self._values = {"scores": ValueChannel([] if self._left_out else passing), "map level": ValueChannel()}
        if self._left_out:
            self._values[_LEFT_OUT] = ValueChannel(passing, higher_only=True)
        if self._meter is not None:
            views = [tuple(view.model_dump().values()) for view in self._views]
            columns = zip(*views, strict=True) if views else [()] * len(_CAMERA)
            self._values |= {name: ValueChannel(column) for name, column in zip(_CAMERA, columns, strict=True)}
        self._flagged = ShareChannel(self._most_flagged)

    def add(self, verdict: Verdict, image: np.ndarray | None = None) -> DriftState:
        """Take the next part.

        Parameters
        ----------
        verdict : Verdict
            Verdict of the calibration's model. With another threshold than before, the watch starts again.
        image : ndarray of shape (H, W, 3), uint8, BGR, optional
            Frame of the part; without it the camera's channels skip this part.
        """
        limit = verdict.threshold if verdict.review_threshold is None else verdict.review_threshold
        if limit != self._limit:
            self._limit = limit
            self.start_again()
        view = self._meter.measure(image) if self._meter is not None and image is not None else None
        return self.add_measured(verdict.image_score, map_level(verdict.anomaly_map), view)

    def add_measured(self, image_score: float, map_level: float, view: CameraView | None = None) -> DriftState:
        """Take the next part by its measures: its score, the median of its anomaly map, its view."""
        self._parts += 1
        passes = image_score <= self._limit  # also False for a NaN
        self._flagged.add(not passes)
        if passes:
            self._add("scores", image_score)
            if self._left_out:
                self._add(_LEFT_OUT, image_score)
            self._add("map level", map_level)
        if self._meter is not None and view is not None:
            for name, value in zip(_CAMERA, view.model_dump().values(), strict=True):
                self._add(name, value)
        return self._conclude()

    @property
    def state(self) -> DriftState:
        """State after the last part."""
        return self._state(self._furthest)

    def _state(self, furthest: float) -> DriftState:
        evidence = furthest / self._bar
        if self._alarm_part is None:
            return DriftState("ok", None, None, self._parts, None, evidence)
        images = {name: change for name, change in self._changed.items() if name in _CAMERA}
        reason = drift_reason(images or self._changed, camera=None if self._meter is None else bool(images))
        return DriftState("warning", "camera" if images else "product", reason, self._parts, self._alarm_part, evidence)

    def to_dict(self) -> dict[str, Any]:
        """Return the whole state as JSON types, for `restore`."""
        return {
            "made_for": self._made_for(),
            "limit": self._limit,
            "accepted": not self._views,
            "parts": self._parts,
            "alarm_part": self._alarm_part,
            "random": self._rng.bit_generator.state,
            "changed": self._changed,
            "channels": {name: channel.to_dict() for name, channel in self._channels.items()},
        }

    def restore(self, kept: dict[str, Any]) -> None:
        """Continue from the state of a watch of the same model and settings.

        Raises
        ------
        OtherWatchError
            The state belongs to another model or to other settings; the watch is as it was.
        SettingsError
            The state is damaged; the watch is as it was.
        """
        other = copy(self)
        if kept.get("accepted", True):
            other._views = []
        other.start_again()
        try:
            if kept["made_for"] != self._made_for():
                raise OtherWatchError("the state of the drift watch belongs to another model or to other settings")
            other._rng.bit_generator.state = kept["random"]
            for name, channel in other._channels.items():
                channel.take(kept["channels"][name])
            other._limit, other._parts = float(kept["limit"]), int(kept["parts"])
            other._alarm_part = None if kept["alarm_part"] is None else int(kept["alarm_part"])
            other._changed = dict(kept["changed"])
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, SettingsError):
                raise
            raise SettingsError(f"the state of the drift watch is damaged: {error!r}") from error
        self.__dict__.update(other.__dict__)

    def _add(self, name: str, value: float) -> None:
        if math.isfinite(value):
            self._values[name].add(value, self._rng.random())

    def _conclude(self) -> DriftState:
        furthest = self._furthest
        if self._alarm_part is None and furthest >= self._bar:
            self._alarm_part = self._parts
        if self._alarm_part is not None and self._parts <= self._alarm_part + _SOON_PARTS:
            for name, channel in self._channels.items():
                if channel.level >= min(_CHANGED_TOO, self._bar):
                    self._changed.setdefault(name, channel.change)
        return self._state(furthest)

    @property
    def _furthest(self) -> float:
        return max(self._flagged.level, *(channel.level for channel in self._values.values()))

    @property
    def _channels(self) -> dict[str, Channel[Any]]:
        return {**self._values, "flagged parts": self._flagged}

    @property
    def _bar(self) -> float:
        """Evidence at which a channel raises the warning: all channels together keep the rate of false alarms."""
        return self.section.average_run_length * (len(self._values) + 1)

    def _made_for(self) -> str:
        section = self.section.model_dump() | {"most_flagged": self._most_flagged}
        inputs = [self._scores, section, sorted(self._values)]
        return hashlib.sha256(repr(inputs).encode()).hexdigest()
