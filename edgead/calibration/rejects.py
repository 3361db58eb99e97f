"""Cause of rejects among good parts, where they are more than chance allows, and the step that helps against it."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

import numpy as np

from edgead.artifact.graph import Graph
from edgead.calibration.group_conformal import one_of_each
from edgead.calibration.two_sample import same_distribution_p_value

# Of 100 honest sets at most one has so many rejects.
_CHANCE = 0.01
# Where so few pass, nothing says that any part is of this product.
_FEWEST, _NEARLY_ALL = 5, 0.9
# In learnt parts half of the scores below the limit lie below their median. Where all scores are higher fewer do, and
# nearly half where some parts are as those that were learnt.
_AS_LEARNT, _DIFFERENT = 1 / 3, 0.05
# Of the parts with one word in their names: most are rejected, or few are.
_MOST, _FEW, _FEWEST_NAMED = 0.8, 0.2, 4
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Cause:
    """Why good parts are rejected: another product or camera, parts that were not learnt, or a shift of all scores.

    `said` is the cause with the next step, in words; `share` is that of the rejected parts.
    """

    kind: Literal["other", "unlearnt", "shift"]
    said: str
    share: float


def cause_of(
    names: Sequence[str],
    scores: Sequence[float],
    graph: Graph,
    model: Path,
    *,
    groups: Sequence[int] | None = None,
    unlike: bool = False,
    known_good: bool = True,
) -> Cause | None:
    """Find why more of these parts are rejected than chance allows; None where it does allow them.

    Limits without scores of good parts have nothing to compare with, and no cause is found.

    Parameters
    ----------
    names : sequence of str
        Of the images, from the folder on in which all of them lie.
    scores : sequence of float
        Of the images, by the graph.
    graph : Graph
        With its limits, the scores behind these, and golden images.
    model : Path
        Folder of the model.
    groups : sequence of int, optional
        Group of each image, where some belong together.
    unlike : bool
        Some do not look as the golden images: no limit shall be made from them.
    known_good : bool
        False where nobody has said that the parts are good: only that nearly all are rejected has a cause then.
    """
    limits = graph.calibration
    if limits is None or not limits.scores or not scores:
        return None
    is_rejected = [score > limits.reject for score in scores]
    rejected, total = sum(is_rejected), len(scores)
    learnt, drawn = one_of_each(limits.scores, limits.groups), one_of_each(scores, groups)
    above = sum(score > limits.reject for score in learnt)
    count = sum(score > limits.reject for score in drawn)
    if beta_binomial_tail(count, len(drawn), 1 + above, max(1, len(learnt) - above)) >= _CHANCE:
        return None
    nearly_all = total >= _FEWEST and rejected >= _NEARLY_ALL * total
    if not (known_good or nearly_all):
        return None
    what, share = "good parts" if known_good else "images", rejected / total
    passing = np.array(scores)[~np.array(is_rejected)]
    known = [score for score in learnt if score <= limits.reject] or learnt
    is_shift = len(passing) > 0 and np.mean(passing <= np.median(known)) < _AS_LEARNT
    is_shift = is_shift and same_distribution_p_value(known, passing) < _DIFFERENT
    teach, calibrate = (f"`edgead {verb} {shlex.quote(str(model))} GOOD_IMAGES`" for verb in ("teach", "calibrate"))
    if nearly_all or (is_shift and unlike):
        many = f"All {total} {what} are" if rejected == total else f"{rejected} of {total} {what} are"
        golden = f"Compare {model / graph.golden[0].image} with yours" if graph.golden else "Look at the heat maps"
        some = "" if known_good else "if some of them are good, "
        return Cause("other", f"{many} rejected: {some}another product, camera, light or model? {golden}.", share)
    if named := _of_names(names, is_rejected):
        said = f"{named} (by their names), which the model has not learnt: teach those that are good: {teach}."
        return Cause("unlearnt", said, share)
    if is_shift:
        said = f"All scores are higher than at the training: calibrate on good parts of this production: {calibrate}."
        return Cause("shift", said, share)
    said = (
        f"{total - rejected} of {total} good parts score as those that were learnt, {rejected} ({100 * share:.0f} %) "
        "apart from them: parts or grades that the model has not learnt? Look at them, and teach those that are good: "
        f"{teach}."
    )
    return Cause("unlearnt", said, share)


def _of_names(names: Sequence[str], is_rejected: Sequence[bool]) -> str:
    """Words of the names whose parts are nearly all rejected, while few of the others are; empty for none."""
    rejected, total = sum(is_rejected), len(names)
    words = [_words(name) for name in names]
    for place in dict.fromkeys(place for found in words for place in found):
        all_of = Counter(found.get(place, "") for found in words)
        bad = Counter(found.get(place, "") for found, one in zip(words, is_rejected, strict=True) if one)
        kinds = sorted(word for word in bad if word and all_of[word] > 2 and bad[word] >= _MOST * all_of[word])
        inside, others = sum(bad[word] for word in kinds), total - sum(all_of[word] for word in kinds)
        few_others = others >= _FEWEST_NAMED and rejected - inside <= _FEW * others
        if few_others and inside >= max(_FEWEST_NAMED, _MOST * rejected):
            shown = [*kinds[:_MAX_NAMED], *([f"{len(kinds) - _MAX_NAMED} more"] if len(kinds) > _MAX_NAMED else [])]
            listed = " and ".join([", ".join(shown[:-1]), shown[-1]] if shown[1:] else shown)
            return f"{inside} of {rejected} rejected good parts are of {listed}"
    return ""


def _words(name: str) -> dict[tuple[str, int], str]:
    """Folders and words of a file's name by their places, and the letters before its first digit."""
    path = PurePath(name)
    words = [word for word in re.split(r"[\W_]+", path.stem) if word]
    letters = re.match(r"[^\W\d_]*", path.stem)
    found = {("folder", place): word for place, word in enumerate(path.parent.parts)}
    found |= {("word", place): word for place, word in enumerate(words)}
    return found | {("letters", 0): letters[0] if letters else ""}


def beta_binomial_tail(count: int, total: int, a: int, b: int) -> float:
    """Probability of `count` or more successes in `total`, whose rate is drawn from a beta distribution."""

    def log_choose(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    def log_beta(p: float, q: float) -> float:
        return math.lgamma(p) + math.lgamma(q) - math.lgamma(p + q)

    terms = (log_choose(total, k) + log_beta(k + a, total - k + b) - log_beta(a, b) for k in range(count, total + 1))
    return min(1.0, math.fsum(math.exp(term) for term in terms))
