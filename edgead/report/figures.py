"""The charts of a report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgead.artifact.manifest import Calibration
from edgead.html.charts import Axis, Chart
from edgead.report.findings import Findings

_BINS = 48
# Where the highest score is more than this many times the lowest, scores are drawn on a logarithmic axis.
_WIDE = 30
SCALE = "score: 0 a typical good part, 100 the limit"


def score_histogram(found: Findings) -> str:
    """Good parts upwards, defects downwards, with the thresholds."""
    good, defective = found.scores(good=True), found.scores(good=False)
    limits = found.calibration
    axis, edges, shown = _score_axis(limits, np.concatenate([good, defective, [limits.reject, limits.review]]))
    good, defective = shown(good), shown(defective)
    above, below = np.histogram(good, edges)[0], np.histogram(defective, edges)[0]
    y = Axis(-1.08 * (below.max() or 1), 1.15 * (above.max() or 1), "images", mirrored=True)
    chart = Chart(axis, y, f"Scores of {good.size} good and {defective.size} defective images")
    chart.bars(edges, above, "good")
    chart.bars(edges, -below, "bad")
    reject, review = map(shown, (limits.reject, limits.review))
    chart.mark(reject, "warn", f"reject above {reject:.4g}")
    if review < reject:
        chart.mark(review, "soft", f"review above {review:.4g}", row=1)
    names = [("good", f"{good.size} good, upwards"), ("bad", f"{defective.size} defects, downwards")]
    chart.legend(names, upper=True)
    return chart.svg()


def roc_curve(found: Findings) -> str:
    """Defects found over good parts flagged, with both thresholds as points."""
    good, defective = np.sort(found.scores(good=True)), np.sort(found.scores(good=False))
    cuts = np.unique(np.concatenate([good, defective]))[::-1]
    share_above = _shares_at_or_above
    x, y = np.append(0, share_above(good, cuts)), np.append(0, share_above(defective, cuts))
    chart = Chart(
        Axis(0, 1, "share of good parts flagged"),
        Axis(0, 1.02, "share of defects found"),
        f"ROC curve, area {found.metrics['image_AUROC']:.4f}",
    )
    chart.line([0, 1], [0, 1], "soft")
    chart.line(np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1], "good")
    limits = found.calibration
    points = {"reject": limits.reject} | ({"review": limits.review} if limits.review < limits.reject else {})
    for name, limit in points.items():
        chart.point(float(np.mean(good > limit)), float(np.mean(defective > limit)), "warn", name)
    return chart.svg()


def pro_curve(found: Findings, limit: float = 0.3) -> str | None:
    """Mean overlap of the defects' regions over the share of good pixels flagged; None without masks."""
    if found.pro_curve is None:
        return None
    rates, overlaps = found.pro_curve
    ends = float(np.interp(limit, np.append(0, rates), np.append(0, overlaps)))
    within = rates <= limit
    chart = Chart(
        Axis(0, limit, "share of good pixels flagged"),
        Axis(0, 1.02, "mean overlap of regions"),
        f"PRO curve, area to {limit:g} {found.metrics['AUPRO']:.4f}",
    )
    chart.line([0.05, 0.05], [0, 1], "soft")
    chart.line([0, *rates[within], limit], [0, *overlaps[within], ends], "good")
    return chart.svg()


def drift_curves(found: Findings) -> str:
    """Share of good parts at or below a score: those of the calibration beside those of the test."""
    calibrated, tested = np.array(found.calibration.scores), np.sort(found.scores(good=True))
    axis, _, shown = _score_axis(found.calibration, np.concatenate([calibrated, tested, [found.calibration.reject]]))
    chart = Chart(axis, Axis(0, 1.02, "share of good parts"), "Scores of the test's good parts and the calibration's")
    for scores, kind in ((calibrated, "soft"), (tested, "good")):
        shares = np.arange(scores.size + 1) / scores.size
        steps = np.concatenate([[axis.low], np.repeat(shown(scores), 2), [axis.high]])
        chart.line(steps, np.repeat(shares, 2), kind)
    chart.mark(shown(found.calibration.reject), "warn", "reject", row=9)
    chart.legend([("soft", f"{calibrated.size} of the calibration"), ("good", f"{tested.size} of the test")])
    return chart.svg()


def _score_axis(limits: Calibration, values: np.ndarray) -> tuple[Axis, np.ndarray, Callable[[Any], Any]]:
    """An axis for raw scores, the edges of its bins, and where a raw score lies on it."""
    low, high = float(values.min()), float(values.max())
    wide = low > 0 and high / low > _WIDE
    name, zero, step = "raw image score", 0.0, 1.0
    if not wide and limits.typical is not None and limits.reject > limits.typical:
        name, zero, step = SCALE, limits.typical, (limits.reject - limits.typical) / 100

    def shown(raw: Any) -> Any:
        return (raw - zero) / step

    low, high = shown(low), shown(high)
    spread: Callable[..., np.ndarray] = np.geomspace if wide else np.linspace
    margin = 0.02 * (high - low) or abs(low) * 0.02 or 1.0
    low, high = (low, high * 1.05) if wide else (low - margin, high + margin)
    return Axis(low, high, name, logarithmic=wide), spread(low, high, _BINS + 1), shown


def _shares_at_or_above(ascending: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    return (ascending.size - np.searchsorted(ascending, cuts, side="left")) / ascending.size
