"""Sentences that describe rejects, composed from the fields of their records, in several languages.

A language is a file of `languages/`: `en.json` defines the required entries, and a test compares the others with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from edgead.errors import SettingsError
from edgead.types import UNKNOWN_KIND, score_text, score_texts

DEFAULT = "en"
_FOLDER = Path(__file__).parent / "languages"
# No calibration has so many parts: lower p-values are not stated.
_MIN_P = 1e-12
# Above this rate a percentage is clearer than "1 in 7".
_OFTEN = 0.1


@dataclass(frozen=True, slots=True)
class VerdictCounts:
    """Counts of verdicts by decision and by kind, including the verdict that the sentence describes.

    `period` is "today" or "run": since midnight in the device's time zone, or since the program's start.
    """

    decisions: Mapping[str, int]
    kinds: Mapping[str, int] = field(default_factory=dict)
    period: Literal["today", "run"] = "today"


def sentence(record: Mapping[str, Any], language: str = DEFAULT, counts: VerdictCounts | None = None) -> str:
    """Compose one sentence from the record of a reject, or of a part for review.

    Parameters
    ----------
    record : mapping
        Record from `verdict_record`, `Verdict.to_dict` or the evidence store. Missing fields are left out.
    language : str
        One of `language_names`.
    counts : VerdictCounts, optional

    Returns
    -------
    str
        Empty for an "ok" decision. Size and place are those of the box with the highest peak, in pixels of the frame.
        Scores are on the scale of `edgead.types.scaled_score`, raw if there is none (`edgead.types.score_texts`). A
        p-value p becomes "1 in n", n = 1 / p rounded down, or above 0.1 a percentage, rounded up: p is not understated.

    Raises
    ------
    SettingsError
        There is no such language.

    Examples
    --------
    >>> box = {"x": 400, "y": 20, "width": 41, "height": 6, "peak": 3.4, "place": "top right"}
    >>> record = {"decision": "reject", "kind": "scratch", "image_score": 3.1, "threshold": 2.6, "boxes": [box]}
    >>> sentence({**record, "typical_score": 2.0})
    'Reject: scratch, 41 x 6 px, top right; score 183 (limit 100).'
    >>> sentence({**record, "kind": None, "p_value": 1 / 900}, "en", VerdictCounts({"reject": 14}))
    'Reject: 41 x 6 px, top right; score 3.1 (limit 2.6); at most 1 good part in 900 scores so high; 14 rejects today.'
    >>> sentence({**record, "kind": None, "measured": {"push_mm": -0.312}})
    'Reject: 0.31 mm too high, 41 x 6 px, top right; score 3.1 (limit 2.6).'
    >>> sentence(record, "de")
    'Ausschuss: scratch, 41 x 6 px, oben rechts; Wert 3,1 (Grenze 2,6).'
    """
    table = _read(checked_language(language))
    decision = table["decisions"].get(record.get("decision"))
    if decision is None:
        return ""
    parts = [", ".join(_what(record, table)), _score(record, table), _rarity(record, table)]
    said = "; ".join(filter(None, [*parts, _count(record, table, counts)]))
    return f"{decision}: {said}." if said else f"{decision}."


@cache
def language_names() -> dict[str, str]:
    """Map the codes of the languages, such as "de", to their English names."""
    return {path.stem: _read(path.stem)["language"] for path in sorted(_FOLDER.glob("*.json"))}


def preferred_language(accepted: str) -> str:
    """Choose a language by the header Accept-Language (RFC 9110, 12.5.4); English if none is known.

    >>> preferred_language("fr, de-AT;q=0.9, en;q=0.5")
    'de'
    """
    known = language_names()
    best, chosen = 0.0, DEFAULT
    for part in accepted[:1000].split(","):
        tag, _, weight = part.partition(";")
        code = tag.strip().lower().partition("-")[0]
        if code in known and _weight(weight) > best:  # among equal weights the first wins
            best, chosen = _weight(weight), code
    return chosen


def _weight(parameter: str) -> float:
    try:
        return float(parameter.strip().removeprefix("q=")) if parameter else 1.0
    except ValueError:
        return 0.0


def checked_language(code: str) -> str:
    """Validate a language and return the code of its table; raises SettingsError for an unknown one.

    >>> checked_language("de-AT")
    'de'
    """
    known = language_names()
    base = code.lower().replace("_", "-").partition("-")[0]
    if base not in known:
        raise SettingsError(f"there is no language {code!r}: known are {', '.join(known)}")
    return base


@cache
def _read(code: str) -> dict[str, Any]:
    return json.loads((_FOLDER / f"{code}.json").read_text(encoding="utf-8"))


def _what(record: Mapping[str, Any], table: Mapping[str, Any]) -> Iterator[str]:
    """Yield kind, depth, size and place of the anomaly."""
    if kind := _kind(record):
        yield table[UNKNOWN_KIND] if kind == UNKNOWN_KIND else _one_line(kind)
    if push_mm := _number_in(record.get("measured") or {}, "push_mm"):
        yield table["push"]["low" if push_mm > 0 else "high"].format(
            mm=_local(f"{float(f'{abs(push_mm):.2g}'):g}", table)
        )
    boxes = record.get("boxes")
    if not boxes:
        if boxes is not None:  # known to be empty: the score is high, but no place of the map is
            yield table["no region"]
        return
    strongest = max(boxes, key=lambda box: -math.inf if box.get("peak") is None else box["peak"])
    if "width" in strongest and "height" in strongest:
        yield table["size"].format(width=strongest["width"], height=strongest["height"])
    if place := table["places"].get(strongest.get("place")):
        yield place
    if len(boxes) > 1:
        yield table["strongest"].format(count=len(boxes))


def _kind(record: Mapping[str, Any]) -> str | None:
    """Return the kind that a person has given in the evidence store, or else the model's."""
    return record.get("shown_kind") or record.get("kind")


def _one_line(name: str) -> str:
    """Replace line breaks in a kind's name, which a person may have entered."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())


def _score(record: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    score = _number_in(record, "image_score")
    if score is None:
        return ""
    decision = record["decision"]
    limit = _number_in(record, "threshold" if decision == "reject" else "review_threshold")
    if limit is None:
        return table["score"]["alone"].format(score=_local(score_text(score, None, score), table))
    texts = score_texts(score, limit, _number_in(record, "typical_score"), _number_in(record, "threshold"))
    shown = {name: _local(text, table) for name, text in zip(("score", "limit"), texts, strict=True)}
    return table["score"][decision].format(**shown)


def _rarity(record: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    p_value = _number_in(record, "p_value")
    if p_value is None or not _MIN_P <= p_value < 1:
        return ""
    if p_value > _OFTEN:
        return table["rare"]["percent"].format(percent=math.ceil(100 * p_value - 1e-9))
    # 1 / (1 / 900) is a little less than 900.
    return table["rare"]["one in"].format(count=math.floor(1 / p_value * (1 + 1e-12)))


def _count(record: Mapping[str, Any], table: Mapping[str, Any], counts: VerdictCounts | None) -> str:
    if counts is None:
        return ""
    decision, kind = record["decision"], _kind(record)
    # Parts of unknown kind need not be like each other.
    of_kind = counts.kinds.get(kind, 0) if kind and kind != UNKNOWN_KIND else 0
    count, forms = (of_kind, "kind") if of_kind else (counts.decisions.get(decision, 0), decision)
    if not count:
        return ""
    return table["count"][forms][counts.period]["one" if count == 1 else "more"].format(count=count)


def _number_in(record: Mapping[str, Any], name: str) -> float | None:
    value = record.get(name)
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def _local(number: str, table: Mapping[str, Any]) -> str:
    return number.replace(".", table["decimal"])
