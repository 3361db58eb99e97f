"""The escape rate by kind before the defects come, from defects made of a few real ones; and its page.

The page loads nothing, and every number on it says that it is of made defects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

from edgead.html.pages import render_page
from edgead.metrics import Rate
from edgead.report.made_against_real import FEWEST, Likeness, Pair, at_level, compare_with_real
from edgead.version import __version__

# A forecast is meant to be off by no more than this; so many standard deviations are 95 % of a normal distribution.
NEAR, _DEVIATIONS = 0.1, 1.96


@dataclass(frozen=True, slots=True)
class Judged:
    """What a detector said of one image.

    Attributes
    ----------
    source : str
        The reject that it is or was made of, or the part that it was drawn on.
    group : int or str
        Of the source: those of one group show the same part.
    image_score : float
    is_ok : bool
    """

    source: str
    group: int | str
    image_score: float
    is_ok: bool


@dataclass(frozen=True, slots=True)
class KindForecast:
    """The forecast of one kind.

    Attributes
    ----------
    escape_rate : Rate
        The forecast: the share of made defects that is judged ok where those of each reject score as it does, see
        `edgead.report.made_against_real.at_level`, or all of them as the rejects do where they were learnt of a kind;
        of drawn ones, the share as it is. What was made of rejects of one
        group goes together: the interval is that of so many groups, not of so many images.
    made : Rate
        Share of the made defects that was judged ok as they are.
    sources, groups : int
        Rejects that the defects were made of, and groups of them; of drawn ones, parts that they were drawn on.
    likeness : Likeness, optional
        The made defects beside their own rejects; None for drawn ones.
    others : Rate, optional
        Share judged ok of further real defects, of which none was made.
    """

    escape_rate: Rate
    made: Rate
    sources: int
    groups: int
    likeness: Likeness | None = None
    others: Rate | None = None

    @property
    def is_flagged(self) -> bool:
        """Whether the made defects are known not to be like the real ones."""
        by_others = self.others is not None and not self.others.low <= self.escape_rate.rate <= self.others.high
        return by_others or (self.likeness is not None and self.likeness.verdict == "not like")

    @property
    def groups_wanted(self) -> int:
        """Groups of which a forecast of about this rate would be off by at most 0.1, in 95 % of cases.

        The rate is that of Agresti and Coull (1998), with two further groups of either kind: of none in ten that passed
        does not follow that none passes.
        """
        rate = (self.escape_rate.rate * self.groups + 2) / (self.groups + 4)
        return math.ceil(rate * (1 - rate) * (_DEVIATIONS / NEAR) ** 2)

    @property
    def said(self) -> str:
        """Whether the made defects may stand for real ones, in words."""
        if self.others is not None:
            found = f"{self.others.count} of {self.others.total} further real ones passed"
            return f"{'not like' if self.is_flagged else 'like'}: {found}"
        return "not compared: drawn" if self.likeness is None else self.likeness.verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "made_images": self.escape_rate.total,
            "sources": self.sources,
            "groups_of_sources": self.groups,
            "groups_wanted": self.groups_wanted,
            "escape_rate_from_made": _plain(self.escape_rate),
            "made_escape_rate": _plain(self.made),
            "made_against_real": self.likeness and self.likeness.to_dict(),
            "other_real_escape_rate": self.others and _plain(self.others),
            "flagged": self.is_flagged,
        }


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a model would let pass of each kind, by made defects.

    Attributes
    ----------
    method : str
        How they were made.
    threshold : float
        Of the model.
    kinds : mapping of str to KindForecast
    parts : int
        Good parts that the defects are on.
    learnt_parts : int
        Of them, those that the model has learnt: what is on them stands out more than on new parts.
    """

    method: str
    threshold: float
    kinds: Mapping[str, KindForecast]
    parts: int
    learnt_parts: int = 0

    def warnings(self) -> list[str]:
        """What speaks against taking the forecast as it stands."""
        said = []
        if self.learnt_parts:
            said.append(
                f"the model has learnt {self.learnt_parts} of the {self.parts} parts that the defects are on: defects "
                "stand out more on those; make them on parts that it has not seen"
            )
        for kind, one in self.kinds.items():
            if one.likeness is not None and one.likeness.verdict == "too few rejects":
                said.append(
                    f"{kind}: made of {one.likeness.groups} different rejects, at least {FEWEST} say whether made "
                    "defects are like the real ones"
                )
            if one.is_flagged:
                said.append(
                    f"{kind}: the made defects do not score as the real ones do; the forecast rests on the "
                    f"{one.sources} rejects themselves"
                )
        return said

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; each rate says in its name that it is of made defects."""
        return {
            "forecast": "from made defects",
            "method": self.method,
            "threshold": self.threshold,
            "made_on_parts": self.parts,
            "made_on_learnt_parts": self.learnt_parts,
            "kinds": {kind: one.to_dict() for kind, one in self.kinds.items()},
            "warnings": self.warnings(),
        }


def forecast_kind(
    made: Sequence[Judged], real: Sequence[Judged], limit: float, others: Sequence[Judged] = ()
) -> KindForecast:
    """Forecast the escape rate of one kind.

    Parameters
    ----------
    made : sequence of Judged
        At least one.
    real : sequence of Judged
        The rejects that they were made of; empty for drawn ones.
    limit : float
        A score up to this is judged ok.
    others : sequence of Judged
        Further real ones.
    """
    groups = [one.group for one in made]
    as_made = Rate.of_groups([one.is_ok for one in made], groups)
    further = Rate.of_groups([one.is_ok for one in others], [one.group for one in others]) if others else None
    by_source: dict[str, list[float]] = {}
    for one in made:
        by_source.setdefault(one.source, []).append(one.image_score)
    pairs = [
        Pair(one.group, one.image_score, np.array(by_source[one.source])) for one in real if one.source in by_source
    ]
    if not pairs:
        if real:
            return _of_learnt(made, real, limit, as_made, further)
        return KindForecast(as_made, as_made, len(by_source), len(set(groups)), others=further)
    levelled = at_level(pairs, limit)
    events = [bool(event) for own in levelled for event in own]
    of_pairs = [pair.group for pair, own in zip(pairs, levelled, strict=True) for _ in own]
    return KindForecast(
        Rate.of_groups(events, of_pairs),
        as_made,
        len(by_source),
        len(set(groups)),
        compare_with_real(pairs, limit),
        further,
    )


def _of_learnt(
    made: Sequence[Judged], real: Sequence[Judged], limit: float, as_made: Rate, others: Rate | None
) -> KindForecast:
    """What was learnt of a kind is brought to the level of its rejects as a whole, and as sure as so many groups."""
    scores = np.array([one.image_score for one in made])
    like = compare_with_real([Pair(one.group, one.image_score, scores) for one in real], limit)
    passed = round(like.shifted_escape_rate * len(made))
    rate = Rate.worth_images(passed, len(made), like.groups, like.groups)
    return KindForecast(rate, as_made, like.rejects, like.groups, like, others)


def _plain(rate: Rate) -> dict[str, Any]:
    return {**asdict(rate), "rate": rate.rate}


def forecast_page(forecast: Forecast, *, model: str, data: str) -> str:
    """Write the page; `model` and `data` are names."""
    wanted = f"different ones for +-{NEAR * 100:.0f} %"
    head = (
        "kind",
        "escape rate, from made defects",
        "95 % interval",
        "made images",
        "made of",
        wanted,
        "made against real",
    )
    rows = [
        (
            kind,
            _percent(one.escape_rate.rate),
            _interval(one.escape_rate),
            one.escape_rate.total,
            f"{one.sources} {'parts' if one.likeness is None else f'rejects in {one.groups} groups'}",
            one.groups_wanted,
            one.said,
        )
        for kind, one in forecast.kinds.items()
    ]
    compared = [
        (
            kind,
            like.rejects,
            _percent(like.real_escape_rate),
            _percent(like.made_escape_rate),
            _percent(like.shifted_escape_rate),
            f"{like.shift:+.2f}",
            f"{like.p_value:.3g}",
        )
        for kind, one in forecast.kinds.items()
        if (like := one.likeness) is not None
    ]
    of_set = [
        ("how they were made", forecast.method),
        ("good parts", f"{forecast.parts}, of which the model has learnt {forecast.learnt_parts}"),
        ("reject above", f"{forecast.threshold:.6g}"),
    ]
    return render_page(
        __package__,
        "forecast.html",
        title=f"Forecast of {model} from made defects in {data}",
        version=__version__,
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        kinds={"head": head, "rows": rows},
        notes=[("note", warning) for warning in forecast.warnings()],
        compared=compared,
        of_set=of_set,
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.0f} %"


def _interval(rate: Rate) -> str:
    return f"{100 * rate.low:.0f} to {100 * rate.high:.0f} %"
