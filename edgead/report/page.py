"""Report as one self-contained HTML page with charts."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timezone
from operator import attrgetter
from typing import Any

import numpy as np
from markupsafe import Markup

from edgead.artifact.manifest import Calibration
from edgead.dataset.folders import GOOD
from edgead.detector import Detector
from edgead.html.charts import Axis, Chart
from edgead.html.pages import render_page
from edgead.metrics import Rate
from edgead.report.evaluate import Outcome
from edgead.report.findings import Findings
from edgead.report.guarantee import percent
from edgead.report.limit_choice import limits_shown
from edgead.report.worst_cases import show_case
from edgead.serialization.facts import fact_text
from edgead.types import DECISIONS, score_text
from edgead.version import __version__

_BINS, _LATENCY_BINS = 48, 40
# Where the highest score is more than this many times the lowest, scores are drawn on a logarithmic axis.
_WIDE = 30
SCALE = "score: 0 a typical good part, 100 the limit"
_CASES, _NEAREST = 8, 4  # most images of each kind, and without mistakes; the page stays below 2 MB
_LATENCY_COLUMNS = ("mean_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms")
# P-values below which scores are said to differ, and to differ possibly.
_DIFFERS, _MAY_DIFFER = 0.01, 0.1
# Shift in interquartile ranges, times the root of 1 / n + 1 / m, that the test finds in 85 % of cases (normal scores).
_VISIBLE = 3.0
# Fields with polygons and images, which are not listed.
_DRAWN = {"ignored", "alignment"}


def score_histogram(found: Findings) -> Markup:
    """Draw a histogram of scores, good parts upwards and defects downwards, with the thresholds."""
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


def roc_curve(found: Findings) -> Markup:
    """Draw the ROC curve, defects found over good parts flagged, with both thresholds as points."""
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


def pro_curve(found: Findings, limit: float = 0.3) -> Markup | None:
    """Draw the mean overlap of the defects' regions over the share of good pixels flagged; None without masks."""
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


def drift_curves(found: Findings) -> Markup:
    """Draw the cumulative distributions of good scores in the calibration and in the test."""
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
    """Make an axis for raw scores, the edges of its bins, and a function from a raw score to its place."""
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


def report_page(detector: Detector, found: Findings, *, model: str, data: str) -> str:
    """Render the report page.

    `detector`: detector of the report, which judges the shown images again.
    `model`, `data`: names of the model and of the test set.
    Returns HTML that loads no other file, and works without its one script.
    """
    score = attrgetter("image_score")
    by_score = sorted(found.of(good=True), key=score)
    return render_page(
        __package__,
        "report.html",
        title=f"{model} on {data}",
        version=__version__,
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        tiles=_tiles(found),
        in_force=_in_force(found),
        warnings=found.evaluation.warnings(),
        scores=_scores(found),
        types=_types(found),
        volumes=_volumes(found),
        limits=limits_shown(found, str(detector.artifact.path)),
        guarantees=_guarantees(found),
        misses=_cases(detector, found.misses(), sorted(found.of(good=False), key=score)),
        false_rejects=_cases(detector, found.evaluation.false_rejects(), by_score[::-1]),
        drift=_drift(found),
        latency=_latency(found),
        model_card=_model_card(found),
    )


def _tiles(found: Findings) -> list[tuple[str, str, str]]:
    """List the key figures: value, name and remark."""
    metrics = found.metrics
    rejects, escapes = metrics["false_reject_rate"], metrics["escape_rate"]
    by_pixel = []
    if metrics["AUPRO"] is not None:
        by_pixel = [(f"{metrics['AUPRO']:.4f}", "AUPRO", f"pixel AUROC {metrics['pixel_AUROC']:.4f}")]
    return [
        (f"{rejects['count']} of {rejects['total']}", "good parts rejected", _interval(rejects)),
        (f"{escapes['count']} of {escapes['total']}", "defects passed as ok", _interval(escapes)),
        (f"{metrics['image_AUROC']:.4f}", "image AUROC", f"F1max {metrics['image_F1Max']:.4f}"),
        *by_pixel,
        (f"{found.latency['total'].p50_ms:.1f} ms", "a frame, p50", f"p99 {found.latency['total'].p99_ms or 0:.1f} ms"),
    ]


def _in_force(found: Findings) -> str:
    limits = found.calibration
    limit = score_text(limits.reject, limits.typical, limits.reject)
    rejects = found.guarantees[0]
    said = f"Counted at the limit in force: score {limit}, raw {limits.reject:.6g}. It is {rejects.comparison}."
    learnt = found.metrics["learnt_account"]
    return " ".join([said, f"{learnt}." * bool(learnt), found.evaluation.advice]).rstrip()


def _scores(found: Findings) -> dict[str, Any]:
    metrics = found.metrics
    rows = [
        ("image AUROC", metrics["image_AUROC"]),
        ("image AP", metrics["image_AP"]),
        ("image F1max", metrics["image_F1Max"]),
        ("pixel AUROC", metrics["pixel_AUROC"]),
        ("pixel AP", metrics["pixel_AP"]),
        ("pixel F1max", metrics["pixel_F1Max"]),
        ("AUPRO to 0.3", metrics["AUPRO"]),
        ("AUPRO to 0.05", metrics["AUPRO_0.05"]),
        ("AUPIMO", metrics["AUPIMO"]),
    ]
    return {
        "histogram": score_histogram(found),
        "roc": roc_curve(found),
        "pro": pro_curve(found),
        "measures": [(name, _number(value)) for name, value in rows if value is not None],
        "masks": metrics["defects_with_masks"],
        "defects": len(found.of(good=False)),
    }


def _types(found: Findings) -> dict[str, Any]:
    names = ["image_AUROC", *(["AUPRO", "AUPIMO"] if found.metrics["AUPRO"] is not None else [])]
    rows = []
    for count in found.types:
        metrics = found.metrics["defect_types"].get(count.kind, {})
        good = count.kind == GOOD
        what = "rejected" if good else "passed as ok"
        text = f"{count.missed.count} of {count.missed.total} {what}, {_interval(count.missed)}"
        figures = [""] * len(names) if good else [_number(metrics.get(name), 3) for name in names]
        decisions = {decision: count.decisions[decision] for decision in DECISIONS}
        total = sum(decisions.values())
        rows.append({"kind": count.kind, "decisions": decisions, "total": total, "cells": [text, *figures]})
    head = ("type", *DECISIONS, "", "mistakes, 95 % interval", *(name.removeprefix("image_") for name in names))
    return {"head": head, "rows": rows}


def _volumes(found: Findings) -> dict[str, Any] | None:
    """List the verdicts of whole volumes, the highest score first; None if the images are no slices."""
    volumes = found.metrics.get("volumes")
    if volumes is None:
        return None
    said = "A volume scores as the highest mean of three neighbouring slices. "
    if volumes["threshold"] is None:
        said += "The model has no limit for volumes."
    else:
        rejects, escapes = (
            f"{rate['count']} of {rate['total']} {what} ({_interval(rate)})"
            for rate, what in (
                (volumes["false_reject_rate"], "good volumes are rejected"),
                (volumes["escape_rate"], "defective ones pass"),
            )
        )
        said += f"At a limit of {volumes['threshold']:.4g}, {rejects}, and {escapes}."
    verdicts = sorted(volumes["verdicts"], key=lambda one: -one["score"])
    rows = [(one["kind"], one["worst"], one["decision"] or "", f"{one['score']:.4g}") for one in verdicts]
    return {"said": said, "head": ("type", "worst slice", "decision", "score"), "rows": rows}


def _guarantees(found: Findings) -> dict[str, Any]:
    limits = found.calibration
    rows = []
    for guarantee in found.guarantees:
        chance = "" if guarantee.probability is None else f"{guarantee.probability:.3g}"
        counted = f"{guarantee.counted.count} of {guarantee.counted.total}"
        interval = _interval(guarantee.counted)
        rows.append((f"good parts {guarantee.name}", guarantee.aim, counted, interval, chance, guarantee.verdict))
    method = {
        "split_conformal": f"Split conformal from {len(limits.scores)} held-out good images: the rate is guaranteed "
        "for parts like those. The chance is that of so many or more while the guarantee holds (beta-binomial).",
        "group_conformal": f"Group conformal from {len(limits.scores)} held-out good images in "
        f"{len(set(limits.groups))} groups: the rate is guaranteed for parts of such groups, on average over groups.",
        "cross_conformal": f"Cross-conformal from all {len(limits.scores)} good images, each scored by what was learnt "
        "from the others: the rate is expected, not proven, for what ships has learnt from all.",
        "cross_validated": f"Cross-validated on {len(limits.scores)} good images, each scored by a model that had not "
        "seen it: expected, not guaranteed, for the model that ships has learnt from all.",
        "unlabelled": f"Split conformal from {len(limits.scores)} held-out images that nobody has labelled: the rate "
        f"is guaranteed for good parts if at most {percent(limits.most_defective)} of those were defective.",
        "by_hand": "Set by hand, or moved by a lesson: the rate is what the calibration's scores say of it, and no "
        "guarantee.",
        "none": "There are no thresholds yet.",
    }[limits.method]
    head = ("", "asked", "counted", "95 % interval (Clopper-Pearson)", "chance", "what that says")
    return {"head": head, "rows": rows, "method": f"{method} {found.metrics['learnt_account']}"}


def _cases(detector: Detector, mistakes: list[Outcome], nearest: list[Outcome]) -> dict[str, Any]:
    """Prepare the worst mistakes, or the nearest misses if there are none."""
    shown = mistakes[:_CASES] or nearest[:_NEAREST]
    cases = [show_case(detector, outcome) for outcome in shown]
    return {"count": len(mistakes), "total": len(nearest), "cases": cases}


def _drift(found: Findings) -> dict[str, Any]:
    p_value, advice = found.same_scores_p_value, found.evaluation.advice
    words = "differ" if p_value < _DIFFERS or advice else "may differ"
    way = "higher" if found.moved > 0 else "lower"
    said = f"The scores {words} (p = {p_value:.3g}): their median is {abs(found.moved):.2f} interquartile ranges {way}."
    if p_value >= _MAY_DIFFER and not advice:
        calibrated, tested = found.compared
        visible = _VISIBLE * math.sqrt(1 / calibrated + 1 / tested)
        said = (
            f"Too few to tell (p = {p_value:.3g}): {tested} parts beside {calibrated} of the calibration show a shift "
            f"of {visible:.2g} interquartile ranges, and seldom a smaller one."
        )
    return {"chart": drift_curves(found), "said": f"{said} {advice}".rstrip()}


def latency_histogram(totals: np.ndarray) -> Markup:
    """Draw a histogram of the total latency; heights are logarithmic, so that one outlier in thousands is visible."""
    edges = np.histogram_bin_edges(totals, bins=_LATENCY_BINS)
    counts, _ = np.histogram(totals, edges)
    x = Axis(float(edges[0]), float(edges[-1]), "milliseconds a frame")
    chart = Chart(x, Axis(0.7, 1.5 * counts.max(), "frames", logarithmic=True), f"Latency of {totals.size} frames")
    chart.bars(edges, counts, "good")
    for row, p in enumerate((50, 99)):
        chart.mark(float(np.percentile(totals, p, method="higher")), "soft", f"p{p}", row=row)
    return chart.svg()


def _latency(found: Findings) -> dict[str, Any]:
    rows = []
    for stage, latency in found.latency.items():
        values = [getattr(latency, name) for name in _LATENCY_COLUMNS]
        rows.append((stage, *("" if value is None else f"{value:.2f}" for value in values)))
    return {
        "chart": latency_histogram(found.totals_ms),
        "head": ("ms", *(name.removesuffix("_ms") for name in _LATENCY_COLUMNS)),
        "rows": rows,
        "threads": found.machine["threads"]["kernels"],
        "cpu": found.machine["cpu"],
        "load": f"{found.machine['state']['load_1min'] or 0:.1f}",
    }


def _model_card(found: Findings) -> list[tuple[str, str]]:
    manifest, limits = found.manifest, found.calibration
    prepared = manifest.preprocessing.model_dump(exclude_none=True, exclude=_DRAWN)
    properties: dict[str, Any] = {
        "detector": manifest.detector,
        "graph": f"{found.precision}, input {fact_text(prepared)}",
        "scoring": fact_text(manifest.head.model_dump()),
        "limits": f"reject above {limits.reject:.6g}, review above {limits.review:.6g}, {limits.method}",
        "changes of limits": "; ".join(
            f"{change.changed_at:%Y-%m-%d}: {change.before.reject:.6g} to {change.after.reject:.6g}, "
            f"{change.after.method}, {change.author}"
            for change in manifest.threshold_changes
        ),
        **{name.replace("_", " "): fact_text(value) for name, value in manifest.training.items()},
        "versions": fact_text(manifest.versions),
        "manifest sha256": manifest.manifest_sha256,
    }
    return [(name, str(value)) for name, value in properties.items() if value not in ("", None)]


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _interval(rate: Rate | dict[str, Any]) -> str:
    low, high = (rate.low, rate.high) if isinstance(rate, Rate) else (rate["low"], rate["high"])
    return f"{percent(low)} to {percent(high)}"
