"""One sentence for a reject, built of nothing but its record: true by construction, in any language of a small table.

A language is a file of `languages/`: `en.json` shows what it must hold, and a test compares the others with it.
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
# No calibration has so many parts.
_MIN_P = 1e-12
# Above this share a percentage is clearer than "1 in 7".
_OFTEN = 0.1


@dataclass(frozen=True, slots=True)
class Counts:
    """How many verdicts there were, the one that is spoken of included: by decision, and by kind.

    `period` is "today" or "run": since midnight where the device stands, or since a program began.
    """

    decisions: Mapping[str, int]
    kinds: Mapping[str, int] = field(default_factory=dict)
    period: Literal["today", "run"] = "today"


def sentence(record: Mapping[str, Any], language: str = DEFAULT, counts: Counts | None = None) -> str:
    """Say in one sentence what a record says of a reject, or of a part for review.

    Parameters
    ----------
    record : mapping
        As `verdict_record`, `Verdict.to_dict` and the evidence store give it. What it lacks is left out.
    language : str
        One of `language_names`.
    counts : Counts, optional

    Returns
    -------
    str
        Empty for an "ok" decision. Sizes are in pixels of the frame, of the box with the highest peak. Scores are on
        the scale of `edgead.types.scaled_score`, raw where there is none (`edgead.types.score_texts`). A p-value p
        becomes "1 in n", n = 1 / p rounded down, or above 0.1 per cent, rounded up: both are true where p is.

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
    >>> sentence({**record, "kind": None, "p_value": 1 / 900}, "en", Counts({"reject": 14}))
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
    """List the languages: their English names by their codes, such as "de"."""
    return {path.stem: _read(path.stem)["language"] for path in sorted(_FOLDER.glob("*.json"))}


def preferred_language(accepted: str) -> str:
    """Choose a language by the header Accept-Language (RFC 9110, 12.5.4); English where none is known.

    >>> preferred_language("fr, de-AT;q=0.9, en;q=0.5")
    'de'
    """
    known = language_names()
    best, chosen = 0.0, DEFAULT
    for part in accepted[:1000].split(","):
        tag, _, weight = part.partition(";")
        code = tag.strip().lower().partition("-")[0]
        if code in known and _weight(weight) > best:  # of equal ones the first
            best, chosen = _weight(weight), code
    return chosen


def _weight(parameter: str) -> float:
    try:
        return float(parameter.strip().removeprefix("q=")) if parameter else 1.0
    except ValueError:
        return 0.0


def checked_language(code: str) -> str:
    """Give the code of a language that there is a table for; raises SettingsError for any other.

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
    """Kind, depth, size and place."""
    if kind := _kind(record):
        yield table[UNKNOWN_KIND] if kind == UNKNOWN_KIND else _one_line(kind)
    if push_mm := _number_in(record.get("measured") or {}, "push_mm"):
        yield table["push"]["low" if push_mm > 0 else "high"].format(
            mm=_local(f"{float(f'{abs(push_mm):.2g}'):g}", table)
        )
    boxes = record.get("boxes")
    if not boxes:
        if boxes is not None:  # known to be none: the score is high, and yet no place of the map is
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
    """The kind as people call it, where the evidence store knows that, or else as the model does."""
    return record.get("shown_kind") or record.get("kind")


def _one_line(name: str) -> str:
    """Keep what a person may have called a kind from breaking the line that the sentence stands on."""
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


def _count(record: Mapping[str, Any], table: Mapping[str, Any], counts: Counts | None) -> str:
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
