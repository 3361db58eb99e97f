"""Alternative limits of a model: what each would reject and find, for a slider and a curve."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup

from edgead.calibration.conformal import share_above
from edgead.html.charts import Axis, Chart
from edgead.metrics import Rate
from edgead.report.findings import Findings
from edgead.report.guarantee import percent
from edgead.types import score_text

_MAX_STEPS = 150  # steps of the slider
_LISTED = 8  # rows of the table, which needs no script
_EXPECTED = "good parts expected to be rejected"
_CALIBRATED, _GOOD, _FOUND = "good images of the calibration rejected", "good test images rejected", "defects found"


@dataclass(frozen=True, slots=True)
class LimitOption:
    """Possible limit, with the rates of good parts rejected and of defects found, also by type in `types`."""

    limit: float
    calibrated: Rate | None
    good: Rate
    found: Rate
    types: dict[str, Rate]


def examine_limits(found: Findings) -> list[LimitOption]:
    """Count what limits would reject, from the typical good score to above all scores, including the limit in force.

    Each limit is the middle between two scores, with just enough digits to differ from both. There are at most 150,
    chosen evenly by rank.
    """
    limits = found.calibration
    good, defective = found.of(good=True), found.of(good=False)
    scores = np.unique([*limits.scores, *(one.image_score for one in (*good, *defective))])
    typical = limits.typical if limits.typical is not None else float(np.median(found.scores(good=True)))
    scores = scores[scores >= min(typical, limits.reject)]
    middles = [between(low, high) for low, high in pairwise([*scores, *_beyond(scores)])]
    # The limit in force replaces the one that rejects the same images.
    place = int(np.searchsorted(scores, limits.reject, side="right")) - 1
    if 0 <= place < len(middles):
        middles[place] = limits.reject
    else:
        middles, place = [limits.reject, *middles], 0
    kept = sorted(
        {place, *np.linspace(0, len(middles) - 1, min(_MAX_STEPS, len(middles))).round().astype(int).tolist()}
    )
    return [_step(found, middles[index]) for index in kept]


def between(low: float, high: float) -> float:
    """Return a value between two scores with as few digits as possible; if there is none, the lower one."""
    middle = (low + high) / 2
    shorter = (float(f"{middle:.{digits}g}") for digits in range(3, 17))
    return next((value for value in shorter if low < value < high), low)


def limits_shown(found: Findings, model: str) -> dict[str, Any]:
    """Prepare the data of limits.html: the slider, the table that replaces it without scripts, the curve of escapes.

    `model` is its path, for the shown command `edgead calibrate`.
    """
    steps = examine_limits(found)
    now = next(index for index, step in enumerate(steps) if step.limit == found.calibration.reject)
    chart, places = escape_curve(found, steps, now)
    names = [*([_EXPECTED, _CALIBRATED] if steps[now].calibrated else []), _GOOD, _FOUND]
    names += [f"of these, {kind}" for kind in steps[now].types] if len(steps[now].types) > 1 else []
    said = [
        {
            "scaled": _scaled(found, step),
            "raw": f"{step.limit:.6g}",
            "rows": _texts(found, step)[: len(names)],
            "line": _command(found, model, step.limit),
            "at": place,
        }
        for step, place in zip(steps, places, strict=True)
    ]
    return {
        "between": _between_all(found, model),
        "chart": chart,
        "names": names,
        "now": now,
        "steps": said,
        **_table(found, steps, now),
    }


def _between_all(found: Findings, model: str) -> dict[str, str]:
    """Describe the limit that would separate all good parts from all defects of the test set, if there is one."""
    good, defect = float(found.scores(good=True).max()), float(found.scores(good=False).min())
    limits = found.calibration
    if good <= limits.reject < defect:
        return {"said": "The limit in force makes no mistake on these test images.", "line": ""}

    def score(raw: float) -> str:
        return f"{score_text(raw, limits.typical, limits.reject)} (raw {raw:.6g})"

    said = f"The lowest defect scores {score(defect)}, the highest good part {score(good)}"
    if defect <= good:
        return {"said": f"{said}: every limit makes a mistake on these test images.", "line": ""}
    return {
        "said": f"{said}: a limit between would make no mistake on these test images.",
        "line": _command(found, model, between(good, defect)),
        "counts": f"{len(found.of(good=True))} good parts and {len(found.of(good=False))} defects",
    }


def escape_curve(found: Findings, steps: Sequence[LimitOption], now: int) -> tuple[Markup, list[tuple[float, float]]]:
    """Draw the share of defects that pass over the share of good parts rejected; return each step's place in it too."""
    rejected = [step.good.rate for step in steps]
    escaped = [1 - step.found.rate for step in steps]
    chart = Chart(
        Axis(0, min(1.0, max(0.1, 1.05 * max(rejected))), "share of good parts rejected"),
        Axis(0, 1.02, "share of defects that pass"),
        f"Escapes against false rejects at {len(steps)} limits",
    )
    x = np.repeat(rejected, 2)[1:]
    lows, highs = (np.repeat([1 - bound for bound in of], 2)[:-1] for of in _found_bounds(steps))
    chart.band(x, lows, highs, "good")
    chart.line(x, np.repeat(escaped, 2)[:-1], "good")
    at, (high, low) = steps[now], (1 - steps[now].found.low, 1 - steps[now].found.high)
    chart.line([at.good.low, min(at.good.high, chart.x.high)], [escaped[now]] * 2, "warn")
    chart.line([rejected[now]] * 2, [low, high], "warn")
    chart.point(rejected[now], escaped[now], "warn", "in force")
    chart.movable("limit-dot", rejected[now], escaped[now])
    return chart.svg(), [chart.place(*point) for point in zip(rejected, escaped, strict=True)]


def _found_bounds(steps: Sequence[LimitOption]) -> tuple[list[float], list[float]]:
    return [step.found.high for step in steps], [step.found.low for step in steps]


def _step(found: Findings, limit: float) -> LimitOption:
    limits, rate = found.calibration, found.evaluation.rate_above
    defects = found.of(good=False)
    calibrated = [score > limit for score in limits.scores]
    kinds = found.evaluation.kinds()
    return LimitOption(
        limit,
        Rate.of_groups(calibrated, limits.groups or None) if calibrated else None,
        rate(found.of(good=True), limit),
        rate(defects, limit),
        {kind: rate([one for one in defects if one.image.defect == kind], limit) for kind in kinds},
    )


def _beyond(scores: np.ndarray) -> list[float]:
    """Return one more limit to offer, in a list: the highest score, plus the mean gap between neighbouring scores."""
    return [float(scores[-1] + ((scores[-1] - scores[0]) / len(scores) or abs(scores[-1]) or 1.0))]


def _scaled(found: Findings, step: LimitOption) -> str:
    return score_text(step.limit, found.calibration.typical, found.calibration.reject)


def _texts(found: Findings, step: LimitOption) -> list[str]:
    """Texts beside the names of the slider's rows."""
    texts = [_rate(step.good), _rate(step.found), *map(_rate, step.types.values())]
    return texts if step.calibrated is None else [_one_in(found, step), _rate(step.calibrated), *texts]


def _one_in(found: Findings, step: LimitOption) -> str:
    share = share_above(found.calibration.scores, step.limit, found.calibration.groups)
    return f"about 1 in {math.floor(1 / share + 1e-9)}"


def _rate(rate: Rate) -> str:
    return f"{rate.count} of {rate.total} ({percent(rate.low, 2)} to {percent(rate.high, 2)})"


def _command(found: Findings, model: str, limit: float) -> str:
    """Command that sets a limit; empty if the images do not fit the model, as the limit would be blind."""
    if found.evaluation.unlike:
        return ""
    limits = found.calibration
    value = repr(float(limit))
    words = ["edgead", "calibrate", model, "--reject", value]
    # If nothing is sent to review, raising the reject limit alone would change that.
    words += ["--review", value] if limits.review == limits.reject else []
    words += ["--precision", found.precision] if found.precision != found.manifest.precision else []
    return shlex.join(words)


def _table(found: Findings, steps: Sequence[LimitOption], now: int) -> dict[str, Any]:
    listed = sorted({now, *np.linspace(0, len(steps) - 1, min(_LISTED, len(steps))).round().astype(int).tolist()})
    calibrated = steps[now].calibrated is not None
    head = ["limit", "raw score", *([_CALIBRATED] if calibrated else []), _GOOD, _FOUND]
    rows = []
    for index in listed:
        step = steps[index]
        rates = [*([step.calibrated] if step.calibrated else []), step.good, step.found]
        name = f"{_scaled(found, step)}{', in force' if index == now else ''}"
        rows.append([name, f"{step.limit:.6g}", *(f"{rate.count} of {rate.total}" for rate in rates)])
    return {"head": head, "rows": rows}
