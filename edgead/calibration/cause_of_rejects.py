"""Diagnosis of too many rejects among good parts: the likely cause and the next step."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

import numpy as np

from edgead.artifact.graph import Graph
from edgead.calibration.blind import MAX_REJECTED
from edgead.calibration.group_conformal import one_of_each
from edgead.calibration.two_sample import same_distribution_p_value

# Significance level: at most 1 of 100 honest sets has so many rejects.
_CHANCE = 0.01
_FEWEST, _NEARLY_ALL = 5, 0.9
# Without a shift half of the scores below the limit lie below the old median: far fewer if all scores have risen,
# nearly half if only some parts are new.
_AS_LEARNT, _DIFFERENT = 1 / 3, 0.05
# Shares of rejects among parts with a certain word in their names that count as nearly all, and as few.
_MOST, _FEW, _FEWEST_NAMED = 0.8, 0.2, 4
_MAX_NAMED, _SHOWN = 5, 2


class Cause(NamedTuple):
    """Likely cause of many rejects: another product or camera, parts not learnt, or a shift of all scores.

    `said` is the text for the user: the cause and the next step.
    """

    kind: Literal["other", "unlearnt", "shift"]
    said: str


def cause_of(
    names: Sequence[str],
    scores: Sequence[float],
    graph: Graph,
    model: Path,
    *,
    groups: Sequence[int] | None = None,
    unlike: bool = False,
    known_good: bool = True,
    of_several: bool = False,
) -> Cause | None:
    """Find why more good parts are rejected than chance allows; None if chance allows it, or there are no old scores.

    `names`, `scores`, `groups`: name (with folders), score and group of each image; without groups each is its own.
    `graph`, `model`: graph that gave the scores, and the model's folder.
    `unlike`: whether some images differ from the golden images, so that no limit shall be made from them.
    `known_good`: false if nobody has said that the parts are good: then only a rejection of nearly all has a cause.
    `of_several`: the model has learnt several products, so that a new limit for these parts would concern all.
    """
    limits = graph.calibration
    if limits is None or not limits.scores or not scores:
        return None
    learnt, drawn = one_of_each(limits.scores, limits.groups), np.array(one_of_each(scores, groups))
    above = sum(score > limits.reject for score in learnt)
    count = int(np.count_nonzero(drawn > limits.reject))
    chance = beta_binomial_tail(count, len(drawn), 1 + above, max(1, len(learnt) - above))
    is_rejected = [score > limits.reject for score in scores]
    rejected, total = sum(is_rejected), len(scores)
    nearly_all = total >= _FEWEST and rejected >= _NEARLY_ALL * total
    if chance >= _CHANCE or not (known_good or nearly_all):
        return None
    passing = drawn[drawn <= limits.reject]
    known = [score for score in learnt if score <= limits.reject] or learnt
    shift = np.quantile(drawn, 0.25) - np.quantile(learnt, 0.25)
    is_shift = (
        passing.size > 0
        and np.mean(passing <= np.median(known)) < _AS_LEARNT
        and same_distribution_p_value(known, passing) < _DIFFERENT
        and np.count_nonzero(drawn - shift > limits.reject) < count / 2  # otherwise only some scores have moved
    )
    teach = f"`edgead teach {shlex.quote(str(model))} GOOD_IMAGES`"
    tested = f"{teach[:-1]} --bad DEFECTS`"
    calibrate = f"`edgead calibrate {shlex.quote(str(model))} GOOD_IMAGES --bad DEFECTS`"
    apart = "`edgead train GOOD_IMAGES -o NEW_MODEL`"
    if nearly_all or (is_shift and unlike):
        many = f"{'All' if rejected == total else f'{rejected} of'} {total} {'good parts' if known_good else 'images'}"
        golden = f"Compare {model / graph.golden[0].image} with yours" if graph.golden else "Look at the heat maps"
        some = "" if known_good else "if some of them are good, "
        said = f"{many} are rejected: {some}another product, camera, light or model? {golden}."
        learn = f"the same product in another light or grade, with defects like it as the test: {tested}"
        return Cause("other", f"{said} Where yours are right, learn {learn}; another product, apart: {apart}.")
    if named := _of_names(names, is_rejected):
        said = f"{named} (by their names), which the model has not learnt: teach those that are good: {teach}."
        return Cause("unlearnt", said)
    if is_shift and of_several:
        said = (
            "All scores are higher than at the training, and the model has one limit for several products, so that "
            f"calibrating on one passes defects of the others: learn this product apart: {apart}."
        )
        return Cause("other", said)
    if is_shift and count > MAX_REJECTED * len(drawn):  # a limit from these parts alone is refused
        said = (
            f"All scores are higher than at the training, and {rejected} of {total} good parts are rejected: another "
            "light, or parts that the model has not learnt? Teach those that are good, with defects in this light as "
            f"the test: {tested}."
        )
        return Cause("shift", said)
    if is_shift:
        said = (
            "All scores are higher than at the training: calibrate on good parts it has not learnt, with defects in "
            f"this light as the test: {calibrate}."
        )
        return Cause("shift", said)
    first = ", ".join(name for _, name in sorted(zip(scores, names, strict=True), reverse=True)[:_SHOWN])
    said = (
        f"{total - rejected} of {total} good parts score as those that were learnt, {rejected} "
        f"({100 * rejected / total:.0f} %) apart from them, {first} first: parts, grades or a light that the model "
        f"has not learnt? Look at them, and teach those that are good: {teach}."
    )
    return Cause("unlearnt", said)


def _of_names(names: Sequence[str], is_rejected: Sequence[bool]) -> str:
    """Find words such that nearly all parts with the word in their name are rejected, and few others; empty if none."""
    rejected, words = sum(is_rejected), [_words(name) for name in names]
    for place in dict.fromkeys(place for found in words for place in found):
        all_of = Counter(found.get(place, "") for found in words)
        bad = Counter(found.get(place, "") for found, one in zip(words, is_rejected, strict=True) if one)
        kinds = sorted(word for word in bad if word and all_of[word] > 2 and bad[word] >= _MOST * all_of[word])
        inside, others = sum(bad[word] for word in kinds), len(names) - sum(all_of[word] for word in kinds)
        if min(inside, others) >= _FEWEST_NAMED and inside >= _MOST * rejected and rejected - inside <= _FEW * others:
            more = f" and {len(kinds) - _MAX_NAMED} more" if len(kinds) > _MAX_NAMED else ""
            return f"{inside} of {rejected} rejected good parts are of {', '.join(kinds[:_MAX_NAMED])}{more}"
    return ""


def _words(name: str) -> dict[tuple[str, int], str]:
    """Split a file's name into folders and words with their positions, and the letters or long number at its start."""
    path = PurePath(name)
    start = re.findall(r"^(?:[^\W\d_]+|\d{2,}(?=\d{3}(?!\d)))", path.stem)
    parts = {"folder": path.parent.parts, "word": re.findall(r"[^\W_]+", path.stem), "start": start}
    return {(what, place): word for what, words in parts.items() for place, word in enumerate(words)}


def beta_binomial_tail(count: int, total: int, a: int, b: int) -> float:
    """Probability of `count` or more successes in `total`, whose rate is drawn from a beta distribution."""

    def log_choose(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    def log_beta(p: float, q: float) -> float:
        return math.lgamma(p) + math.lgamma(q) - math.lgamma(p + q)

    terms = (log_choose(total, k) + log_beta(k + a, total - k + b) - log_beta(a, b) for k in range(count, total + 1))
    return min(1.0, math.fsum(math.exp(term) for term in terms))
