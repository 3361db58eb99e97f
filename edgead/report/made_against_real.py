"""Comparison of made defects with the real ones that they were made of, before any other real one is seen."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

# A difference of the rates that matters, and how sure the difference of scores behind it must be: with ten rejects, a
# stricter level flags less than half of the kinds whose made defects are off, and a flag that is wrong costs little.
TOLERANCE, LEVEL = 0.1, 0.2
FEWEST = 5  # groups: of fewer, no pattern of signs is rarer than 1 in 8
_FLIPS = 4999

Likely = Literal["like", "not like", "too few rejects"]


class Pair(NamedTuple):
    """The image score of a reject, its group, and the scores of what was made of it."""

    group: Hashable
    real: float
    made: np.ndarray


@dataclass(frozen=True, slots=True)
class Likeness:
    """What the rejects of one kind say of the defects that were made of them.

    Attributes
    ----------
    rejects, groups : int
        Rejects, and groups of them, each of which is another part.
    real_escape_rate : float
        Share of the rejects themselves that are judged ok.
    made_escape_rate : float
        Share of what was made of them, each reject counting alike.
    shift : float
        Mean over the rejects of how much higher the real one scores than what was made of it; in units of the
        logarithm of the score where all scores are positive, of the score otherwise.
    p_value : float
        Of a shift as far from 0 where made defects score as real ones do: by changes of sign.
    shifted_escape_rate : float
        Share that would be judged ok if all made defects scored higher by the shift.
    """

    rejects: int
    groups: int
    real_escape_rate: float
    made_escape_rate: float
    shift: float
    p_value: float
    shifted_escape_rate: float

    @property
    def verdict(self) -> Likely:
        """Whether the forecast may be taken for that of real defects."""
        if self.groups < FEWEST:
            return "too few rejects"
        change = abs(self.shifted_escape_rate - self.made_escape_rate)
        return "not like" if self.p_value <= LEVEL and change > TOLERANCE else "like"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "verdict": self.verdict}


def at_level(pairs: Sequence[Pair], limit: float) -> list[np.ndarray]:
    """Which made defects are judged ok if those of each reject score as it does on average; bool, one array a reject.

    The reject says how high such a defect scores, what was made of it how much that varies with part and place.
    """
    place = _place(pairs, limit)
    return [place(one.made) + _difference(one, place) <= place(limit) for one in pairs]


def compare_with_real(pairs: Sequence[Pair], limit: float) -> Likeness:
    """Compare the scores of rejects with those of the defects that were made of them; up to `limit` is judged ok."""
    place = _place(pairs, limit)
    differences: dict[Hashable, list[float]] = {}
    for one in pairs:
        differences.setdefault(one.group, []).append(_difference(one, place))
    shift = float(np.mean([difference for own in differences.values() for difference in own]))
    shifted = [np.mean(place(one.made) + shift <= place(limit)) for one in pairs]
    return Likeness(
        rejects=len(pairs),
        groups=len(differences),
        real_escape_rate=float(np.mean([one.real <= limit for one in pairs])),
        made_escape_rate=float(np.mean([np.mean(one.made <= limit) for one in pairs])),
        shift=shift,
        p_value=_sign_p_value(np.array([sum(own) for own in differences.values()])),
        shifted_escape_rate=float(np.mean(shifted)),
    )


def _place(pairs: Sequence[Pair], limit: float) -> Callable[[Any], Any]:
    """Where scores are compared: on the scale of their logarithm where all are positive."""
    positive = limit > 0 and all(one.real > 0 and one.made.min() > 0 for one in pairs)
    return np.log if positive else np.asarray


def _difference(one: Pair, place: Callable[[Any], Any]) -> float:
    return float(place(one.real) - place(one.made).mean())


def _sign_p_value(differences: np.ndarray) -> float:
    """Probability of a sum as far from 0 where each difference is as likely to have the other sign."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (_FLIPS, differences.size))
    # Patterns that differ by nothing but rounding count as equal.
    as_far = np.abs(signs @ differences) >= abs(float(differences.sum())) * (1 - 1e-9)
    return float((1 + np.count_nonzero(as_far)) / (1 + _FLIPS))
