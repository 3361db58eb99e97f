"""Data types of edgead's input and output: Frame and Verdict with their parts, and scores for people."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, get_args

import numpy as np

DetectorDecision = Literal["ok", "review", "reject"]
"""Decisions of a detector, from good to bad."""
Decision = Literal[DetectorDecision, "fault"]
DECISIONS: tuple[Decision, ...] = get_args(DetectorDecision)
FAULT: Decision = "fault"
"""Decision on a part with a missing view, or a file that cannot be judged; no score leads to it."""
Palette = Literal["warm", "blue"]
"""Colours of heat maps: yellow to red, or light blue to violet."""
Opinion = Literal["good", "bad"]
"""A person's judgement of a part, independent of the decision."""
UNKNOWN_KIND = "unknown kind"
"""The `kind` of a reject that resembles none of the known kinds."""
MAX_PART_CHARACTERS = 128
"""Limit for each value of a Part: two-dimensional codes may hold more, identities of parts do not need it."""
# Significant digits of a raw score for people.
_DIGITS, _MAX_DIGITS = 4, 17


def scaled_score(score: float, typical: float | None, limit: float | None) -> float | None:
    """Convert a score to the scale for people: 0 is the typical good part, 100 the limit.

    Parameters
    ----------
    score : float
    typical : float or None
        Median score of the good parts that the limit comes from; None if unknown.
    limit : float or None
        Score above which parts are rejected.

    Returns
    -------
    float or None
        Scaled score, below 0 for a part that scores lower than the typical one. None if there is no scale (no good
        scores are known, or the limit is not above their median); then the raw score is shown.

    Examples
    --------
    >>> scaled_score(0.75, 0.5, 1.0), scaled_score(0.75, None, 1.0)
    (50.0, None)
    """
    if typical is None or limit is None or not limit > typical:
        return None
    scaled = 100 * ((score - typical) / (limit - typical))  # in this order the limit itself is exactly 100
    return scaled if math.isfinite(scaled) else None


def score_texts(score: float, beside: float, typical: float | None, limit: float | None) -> tuple[str, str]:
    """Format a score and the limit `beside` it for people, on the scale of `scaled_score` if there is one.

    Scaled scores are integers, 0 if negative; raw scores have four digits. Both get more digits if needed to differ.

    Examples
    --------
    >>> score_texts(0.75, 1.0, 0.5, 1.0), score_texts(1.0001, 1.0, 0.5, 1.0), score_texts(0.2, 1.0, 0.5, 1.0)
    (('50', '100'), ('100.02', '100'), ('0', '100'))
    >>> score_texts(2.60001, 2.6, None, 2.6)
    ('2.60001', '2.6')
    """
    scaled, other = scaled_score(score, typical, limit), scaled_score(beside, typical, limit)
    if scaled is not None and other is not None:
        if max(scaled, other) > 0:  # otherwise both would be 0
            scaled, other = max(scaled, 0.0), max(other, 0.0)
        texts = _distinct_texts(scaled, other, _scaled_text, 0)
        if score == beside or texts[0] != texts[1]:
            return texts
    return _distinct_texts(score, beside, _raw_text, _DIGITS)


def score_text(score: float, typical: float | None, limit: float) -> str:
    """Format a score for people; see `score_texts`."""
    return score_texts(score, limit, typical, limit)[0]


def _distinct_texts(one: float, other: float, write: Callable[[float, int], str], digits: int) -> tuple[str, str]:
    while one != other and digits < _MAX_DIGITS and write(one, digits) == write(other, digits):
        digits += 1
    return write(one, digits), write(other, digits)


def _scaled_text(value: float, decimals: int) -> str:
    text = f"{round(value, decimals) + 0.0:.{decimals}f}"  # no -0
    return text.rstrip("0").rstrip(".") if decimals else text


def _raw_text(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}"
    return format(Decimal(text), "f") if "e" in text and 1e-9 <= abs(value) < 1e12 else text


@dataclass(frozen=True, slots=True)
class Part:
    """Identity of the part that a frame shows, as far as it is known.

    Attributes
    ----------
    serial : str
        Serial number of the part that the frame shows; empty if unknown, like the others.
    batch : str
        Batch of the part.
    recipe : str
        Recipe of the part: its product.

    Raises
    ------
    ValueError
        A value is too long, or not printable; the message does not repeat it.
    """

    serial: str = ""
    batch: str = ""
    recipe: str = ""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not isinstance(value, str):
                raise ValueError(f"{one.name} is no text")
            if len(value) > MAX_PART_CHARACTERS:
                raise ValueError(f"{one.name} has {len(value)} characters, at most {MAX_PART_CHARACTERS} are taken")
            if not value.isprintable():
                raise ValueError(f"{one.name} holds a character that cannot be printed")


NO_PART = Part()
"""Unknown part."""


@dataclass(frozen=True, slots=True)
class FrameLines:
    """Lines of a line-scan camera from which a frame is joined.

    Attributes
    ----------
    first_line : int
        Running number of its first line, from 0, as an encoder counts: known lost lines are included.
    lost_lines : int
        Number of lines right before the first one that are in no frame, because strips were lost.
    mm_per_line : float or None
        Travel from line to line, if configured.
    """

    first_line: int
    lost_lines: int = 0
    mm_per_line: float | None = None

    def to_dict(self) -> dict[str, int | float]:
        """Convert to values for JSON, with the first line's position in mm as `first_mm`, if known."""
        place = {} if self.mm_per_line is None else {"first_mm": self.first_line * self.mm_per_line}
        return {"first_line": self.first_line, "lost_lines": self.lost_lines, **place}


VALUES = "values"
"""Plane of a frame that has the values of one channel with all their bits: (H, W), uint16 or float32."""

COLOUR = "colour"
"""Plane of a frame with a camera's colours, uint8 BGR (H, W, 3), if its `VALUES` are heights."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Captured image, with other planes of the same instant and facts of the capture.

    Attributes
    ----------
    image : ndarray of shape (H, W, 3), uint8, BGR, C order
        The plane "image".
    number : int
        Running number of the frame in its source, from 0. A gap means that frames were dropped.
    captured_ns : int
        `time.perf_counter_ns()` when the image was in memory; only differences are meaningful.
    captured_at : datetime
        The same instant on the wall clock, UTC.
    source : str
        URI of the source without credentials.
    name : str
        File name for images from files, otherwise empty.
    id : str
        Globally unique id of the capture (UUIDv7, sorts by time); empty for images that come from no source.
    connection : int
        Number of the connection to the camera; frames of different connections are different streams.
    others : mapping of str to ndarray
        Further planes, registered to the image: `VALUES` if the image had 16 bits or floats, `VALUES` and `COLOUR` if
        it had colours with heights; the image itself is for display.
    part : Part
        Part that the frame shows, as given with its trigger.
    lines : FrameLines or None
        Lines from which it is joined, for a line-scan camera.
    """

    image: np.ndarray
    number: int
    captured_ns: int
    captured_at: datetime
    source: str
    name: str = ""
    id: str = ""
    connection: int = 0
    others: Mapping[str, np.ndarray] = field(default_factory=dict)
    part: Part = NO_PART
    lines: FrameLines | None = None

    @property
    def planes(self) -> Mapping[str, np.ndarray]:
        """All planes by name, the image as "image"."""
        return {"image": self.image, **self.others}


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Milliseconds that a frame spent in each stage.

    `age_ms` is the age of the frame when work on it began; `sink_ms` is known only after the sinks have
    written, so it is None in the verdict that a sink gets.
    """

    preprocess_ms: float
    infer_ms: float
    score_ms: float
    smooth_ms: float
    age_ms: float | None = None
    sink_ms: float | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Box:
    """Rectangle around an anomalous region, in pixels of the frame.

    `peak` is the highest value of the map in it; `place` the ninth of the frame that its centre lies in, such as
    "top left", "centre" or "bottom", empty if the frame's size was unknown. `width_mm` and `height_mm` are its sides
    if the model knows the size of a pixel in mm. `lowest_mm` and `highest_mm`, for a model of heights, are the lowest
    and highest point in it above the part's plane, by the medians of 5 x 5 pixels.
    """

    x: int
    y: int
    width: int
    height: int
    peak: float
    place: str = ""
    width_mm: float | None = None
    height_mm: float | None = None
    lowest_mm: float | None = None
    highest_mm: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert the box to values for JSON; unknown sizes in mm are left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __repr__(self) -> str:
        return f"Box({', '.join(f'{name}={value!r}' for name, value in self.to_dict().items())})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Verdict:
    """Verdict of the detector on one frame.

    Verdicts are compared without their times. A verdict has no truth value: use its `decision`.

    Attributes
    ----------
    image_score : float
        Raw score, never clamped; higher is more anomalous.
    decision : {"ok", "review", "reject"}
    anomaly_map : ndarray of shape (h, w), float32
        Raw scores of the frame or its region, at the model's input size or the part of it that the image covers.
    threshold : float
        Limit of `image_score` above which the frame is rejected.
    map_threshold : float
        Limit of `anomaly_map` above which pixels are marked as anomalous in images and boxes.
    boxes : tuple of Box
        Regions above `map_threshold`, largest peak first; empty for an "ok" decision.
    stage_times : StageTimes
    region : (int, int, int, int)
        x, y, width and height of the part of the frame that `anomaly_map` covers; None for the whole frame.
    map_typical : float
        Typical value of `anomaly_map` on good parts, from which an image is coloured.
    review_threshold : float
        Limit of `image_score` above which the frame is sent to review, up to `threshold`; None without one.
    typical_score : float
        Median score of the good parts that the thresholds come from: 0 on the scale for people, where
        `threshold` is 100 (`scaled_score`). None if no such scores are known.
    p_value : float
        Upper bound of the probability that a good part scores as high or higher: conformal, from the good parts that
        the thresholds come from. None if it was not computed.
    pipeline : str
        Name of the daemon's pipeline that judged; empty elsewhere.
    model : str
        Hash of the manifest of the model that judged.
    kind : str
        Name of the kind of defect, "unknown kind" if no known reject is similar; None for an "ok" decision, and
        if the model knows no kinds.
    kind_p_value : float
        Upper bound of the probability that a reject of a known kind is as far or farther from all known rejects:
        conformal. None without `kind`.
    measured : mapping of str to float
        Other measurements of the model, by name; empty for most. `alignment`, of a model that aligns parts, is the
        correlation of the aligned part with the golden image. `push_mm`, of a model of heights that has it, is the
        displacement in mm that would correct the worst place: above 0 it is too low, below 0 too high.
    other_format : {"proportions", "size", "small"}
        Way in which the frame's size differs from those that the model learnt, so that the verdict may be wrong; None
        if it fits.
    palette : {"warm", "blue"}
        Colours of its heat map.

    Examples
    --------
    >>> anomaly_map = np.array([[0.1, 0.2], [0.1, 0.8]], np.float32)
    >>> verdict = Verdict(0.8, "reject", anomaly_map, 0.5, 0.4, (), StageTimes(1, 5, 1, 1))
    >>> verdict
    Verdict(reject, raw score 0.8 > 0.5, 0 boxes)
    >>> from dataclasses import replace
    >>> replace(verdict, typical_score=0.3)
    Verdict(reject, score 250 > 100, raw score 0.8 > 0.5, 0 boxes)
    >>> verdict.mask.tolist()
    [[False, False], [False, True]]
    >>> verdict.is_ok, verdict.to_dict()["decision"]
    (False, 'reject')
    """

    image_score: float
    decision: Decision
    anomaly_map: np.ndarray
    threshold: float
    map_threshold: float
    boxes: tuple[Box, ...]
    stage_times: StageTimes = field(compare=False)
    region: tuple[int, int, int, int] | None = None
    map_typical: float = 0.0
    review_threshold: float | None = None
    typical_score: float | None = None
    p_value: float | None = None
    pipeline: str = ""
    model: str = ""
    kind: str | None = None
    kind_p_value: float | None = None
    measured: Mapping[str, float] = field(default_factory=dict)
    other_format: str | None = None
    palette: Palette = field(default="warm", compare=False)

    @property
    def score(self) -> float | None:
        """Score on the scale for people: 0 is typical, 100 the limit; None without a scale, see `scaled_score`."""
        return scaled_score(self.image_score, self.typical_score, self.threshold)

    @property
    def is_ok(self) -> bool:
        """Whether the part may pass: False for "reject", for "review", and for an image that could not be judged."""
        return self.decision == "ok"

    @property
    def mask(self) -> np.ndarray:
        """Mask of the pixels where `anomaly_map` is above `map_threshold`: bool (h, w)."""
        return self.anomaly_map > self.map_threshold

    def to_dict(self) -> dict[str, Any]:
        """Convert the verdict to values for JSON; the anomaly map is left out."""
        return {
            **({} if self.other_format is None else {"other_format": self.other_format}),  # most have None
            "pipeline": self.pipeline,
            "score": self.score,
            "image_score": float(self.image_score),
            "threshold": float(self.threshold),
            "review_threshold": self.review_threshold,
            "typical_score": self.typical_score,
            "decision": self.decision,
            "p_value": self.p_value,
            "kind": self.kind,
            "kind_p_value": self.kind_p_value,
            "model": self.model,
            "measured": dict(self.measured),
            "boxes": [box.to_dict() for box in self.boxes],
            "stage_times": asdict(self.stage_times),
        }

    def to_json(self) -> str:
        """Format `to_dict` as one line of JSON."""
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False)

    def __repr__(self) -> str:
        sign = ">" if self.image_score > self.threshold else "<="
        boxes = f"{len(self.boxes)} box{'' if len(self.boxes) == 1 else 'es'}"
        raw = f"raw score {self.image_score:.4g} {sign} {self.threshold:.4g}"
        if self.score is not None:
            score, limit = score_texts(self.image_score, self.threshold, self.typical_score, self.threshold)
            raw = f"score {score} {sign} {limit}, {raw}"
        return f"Verdict({self.decision}, {raw}, {boxes})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Verdict):
            return NotImplemented
        # Fields of `Verdict` alone, so that an ImageVerdict can equal a plain one.
        names = [one.name for one in fields(Verdict) if one.compare and one.name != "anomaly_map"]
        return all(getattr(self, name) == getattr(other, name) for name in names) and np.array_equal(
            self.anomaly_map, other.anomaly_map
        )

    def __hash__(self) -> int:
        return hash((self.image_score, self.decision, self.threshold, self.model))

    def __bool__(self) -> bool:
        raise TypeError(
            "a verdict is neither true nor false: ask for verdict.is_ok, or verdict.decision, which is "
            f"{self.decision!r} here"
        )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PartVerdict(Verdict):
    """Verdict on one part from several views: the joint decision, and the scores of the view that represents it.

    Attributes
    ----------
    reason : str
        Reason of a fault; otherwise empty.
    views : tuple of dict
        pipeline, id of the capture, decision, score, image_score and boxes of each view that arrived; `other_format` of
        views that have it.
    """

    reason: str = ""
    views: tuple[dict[str, Any], ...] = ()
