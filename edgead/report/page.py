"""The report as one page that loads nothing, with its charts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from html import escape
from typing import Any

import numpy as np

from edgead.artifact.manifest import PROVEN, Calibration
from edgead.dataset.folders import GOOD
from edgead.detector import Detector
from edgead.html.charts import Axis, Chart
from edgead.html.pages import facts, figure, page, table
from edgead.metrics import Rate
from edgead.profiling.page import latency_histogram
from edgead.report.findings import Findings, TypeCount
from edgead.report.guarantee import percent
from edgead.report.limit_choice import limits_section
from edgead.report.worst_cases import worst_cases
from edgead.types import DECISIONS, score_text
from edgead.version import __version__

_BINS = 48
# Where the highest score is more than this many times the lowest, scores are drawn on a logarithmic axis.
_WIDE = 30
SCALE = "score: 0 a typical good part, 100 the limit"
_CASES = 8  # of each kind; the page stays below 2 MB
_LATENCY_COLUMNS = ("mean_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms")
# Polygons and images, not to be read.
_DRAWN = {"ignored", "alignment"}


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


def report_page(detector: Detector, found: Findings, *, model: str, data: str) -> str:
    """Write the page.

    Parameters
    ----------
    detector : Detector
        That judged; it judges the images that are shown again.
    found : Findings
    model, data : str
        Names of the model and of the test set.

    Returns
    -------
    str
        HTML that loads nothing, and reads without its one script.
    """
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    sections = [
        ("Scores", _scores(found)),
        ("Defects by type", _types(found)),
        ("Another limit", limits_section(found, str(detector.artifact.path))),
        ("What the thresholds guarantee", _guarantees(found)),
        ("The worst misses", _misses(detector, found)),
        ("The worst false rejects", _false_rejects(detector, found)),
        ("Drift: these good parts beside those of the calibration", _drift(found)),
        ("Latency", _latency(found)),
        ("Model card", _model_card(found)),
    ]
    return page(f"{model} on {data}", f"<p>edgead {__version__}, {made}</p>{_summary(found)}", sections)


def _summary(found: Findings) -> str:
    metrics = found.metrics
    rejects, escapes = metrics["false_reject_rate"], metrics["escape_rate"]
    by_pixel = []
    if metrics["AUPRO"] is not None:
        by_pixel = [(f"{metrics['AUPRO']:.4f}", "AUPRO", f"pixel AUROC {metrics['pixel_AUROC']:.4f}")]
    tiles = [
        (f"{rejects['count']} of {rejects['total']}", "good parts rejected", _interval(rejects)),
        (f"{escapes['count']} of {escapes['total']}", "defects passed as ok", _interval(escapes)),
        (f"{metrics['image_AUROC']:.4f}", "image AUROC", f"F1max {metrics['image_F1Max']:.4f}"),
        *by_pixel,
        (f"{found.latency['total'].p50_ms:.1f} ms", "a frame, p50", f"p99 {found.latency['total'].p99_ms or 0:.1f} ms"),
    ]
    cells = (f"<div><b>{value}</b><span>{name}</span><small>{more}</small></div>" for value, name, more in tiles)
    limits = found.calibration
    limit = score_text(limits.reject, limits.typical, limits.reject)
    asked = f"{'at most ' if limits.method in PROVEN else 'about '}{percent(limits.false_reject_rate)}"
    said = (
        f"Counted at the limit in force: score {limit}, raw {limits.reject:.6g}. It is for {asked} false rejects, and "
        f"rejects {percent(rejects['rate'])} of these good parts."
    )
    return f'<div class="tiles">{"".join(cells)}</div><p>{said}</p>'


def _scores(found: Findings) -> str:
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
    pro = pro_curve(found)
    shown = [
        figure(score_histogram(found), "Image scores with the thresholds in force."),
        figure(roc_curve(found), "ROC: how well scores tell defects from good parts, at every threshold."),
        figure(pro, "PRO: how much of each defect is marked; the area counts to 0.3, and to 0.05 (dashed).")
        if pro
        else "<p>The test set has no masks: what the maps mark was not measured.</p>",
        table(("measure", "value"), [(name, _number(value)) for name, value in rows if value is not None]),
    ]
    masks, defects = metrics["defects_with_masks"], len(found.of(good=False))
    if pro and masks < defects:
        shown.append(f"<p>{masks} of {defects} defects have masks: what is measured by pixel is of these.</p>")
    return f'<div class="grid">{"".join(shown)}</div>'


def _types(found: Findings) -> str:
    names = ["image_AUROC", *(["AUPRO", "AUPIMO"] if found.metrics["AUPRO"] is not None else [])]
    rows = []
    for count in found.types:
        metrics = found.metrics["defect_types"].get(count.kind, {})
        figures_of_type = [_number(metrics.get(name), 3) for name in names]
        good = count.kind == GOOD
        what = "rejected" if good else "passed as ok"
        decided = [str(count.decisions[decision]) for decision in DECISIONS]
        text = f"{count.missed.count} of {count.missed.total} {what}, {_interval(count.missed)}"
        rows.append((count.kind, *decided, _share_bar(count), text, *([""] * len(names) if good else figures_of_type)))
    head = ("type", *DECISIONS, "", "mistakes, 95 % interval", *(name.removeprefix("image_") for name in names))
    legend = '<p class="key"><i class="ok"></i>ok <i class="review"></i>review <i class="reject"></i>reject</p>'
    return legend + table(head, rows, raw=(4,))


def _share_bar(count: TypeCount) -> str:
    total = sum(count.decisions.values())
    parts = (
        f'<i class="{decision}" style="width:{100 * number / total:.1f}%"></i>'
        for decision, number in count.decisions.items()
        if number
    )
    return f'<span class="bar">{"".join(parts)}</span>'


def _guarantees(found: Findings) -> str:
    limits = found.calibration
    rows = []
    for guarantee in found.guarantees:
        chance = "" if guarantee.probability is None else f"{guarantee.probability:.3g}"
        counted = f"{guarantee.counted.count} of {guarantee.counted.total}"
        asked = f"{'at most ' if limits.method in PROVEN else 'about '}{percent(guarantee.asked)}"
        rows.append(
            (f"good parts {guarantee.name}", asked, counted, _interval(guarantee.counted), chance, guarantee.verdict)
        )
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
        "by_hand": "Set by hand: the rate is what the calibration's scores say of it, and no guarantee.",
        "none": "There are no thresholds yet.",
    }[limits.method]
    head = ("", "asked", "counted", "95 % interval (Clopper-Pearson)", "chance", "what that says")
    return f'<div class="wraps">{table(head, rows)}</div><p>{method}</p>'


def _misses(detector: Detector, found: Findings) -> str:
    misses = found.misses()
    total = len(found.of(good=False))
    if not misses:
        nearest = sorted(found.of(good=False), key=lambda one: one.image_score)[:4]
        text = f"<p>All {total} defects are rejected. Nearest to the threshold:</p>"
        return text + worst_cases(detector, nearest)
    text = (
        f"<p>{len(misses)} of {total} defects are not rejected at the limit in force; the lowest scores first. "
        "Left the true defect, right where the map is highest.</p>"
    )
    return text + worst_cases(detector, misses[:_CASES])


def _false_rejects(detector: Detector, found: Findings) -> str:
    rejects = found.false_rejects()
    total = len(found.of(good=True))
    if not rejects:
        nearest = sorted(found.of(good=True), key=lambda one: -one.image_score)[:4]
        text = f"<p>None of {total} good parts is rejected. Nearest to the threshold:</p>"
        return text + worst_cases(detector, nearest)
    text = f"<p>{len(rejects)} of {total} good parts are rejected; the highest scores first.</p>"
    return text + worst_cases(detector, rejects[:_CASES])


def _drift(found: Findings) -> str:
    p_value = found.same_scores_p_value
    way = "higher" if found.moved > 0 else "lower"
    said = (
        f"The scores differ (p = {p_value:.3g}): their median is {abs(found.moved):.2f} interquartile ranges {way}. "
        "Calibrate on good parts of this production before the thresholds are relied on."
        if p_value < 0.01
        else f"No difference was found (p = {p_value:.3g})."
    )
    test = "Two-sample Cramér-von Mises test by permutation."
    chart = figure(drift_curves(found), "Share of good parts at or below each score.")
    return f'<div class="grid">{chart}<div><p>{said}</p><p>{test}</p></div></div>'


def _latency(found: Findings) -> str:
    rows = []
    for stage, latency in found.latency.items():
        values = [getattr(latency, name) for name in _LATENCY_COLUMNS]
        rows.append((stage, *("" if value is None else f"{value:.2f}" for value in values)))
    head = ("ms", *(name.removesuffix("_ms") for name in _LATENCY_COLUMNS))
    machine = found.machine
    threads = machine["threads"]["kernels"]
    text = (
        f"While the test images were judged, one after the other, with {threads} threads on {machine['cpu']}; load "
        f"{machine['state']['load_1min'] or 0:.1f}. `edgead profile` measures at the pace of a line."
    )
    chart = figure(
        latency_histogram(found.totals_ms, size={"width": 480, "height": 290}), "All frames; none is left out."
    )
    return f'<div class="grid">{chart}<div>{table(head, rows)}<p>{escape(text)}</p></div></div>'


def _model_card(found: Findings) -> str:
    manifest, limits = found.manifest, found.calibration
    prepared = manifest.preprocessing.model_dump(exclude_none=True, exclude=_DRAWN)
    properties: dict[str, Any] = {
        "detector": manifest.detector,
        "graph": f"{found.precision}, input {_words(prepared)}",
        "scoring": _words(manifest.head.model_dump()),
        "thresholds": f"reject above {limits.reject:.6g}, review above {limits.review:.6g}, {limits.method}",
        "threshold changes": "; ".join(
            f"{change.changed_at:%Y-%m-%d}: {change.before.reject:.6g} to {change.after.reject:.6g}, "
            f"{change.after.method}, {change.author}"
            for change in manifest.threshold_changes
        ),
        **{
            name.replace("_", " "): _words(value) if isinstance(value, dict) else value
            for name, value in manifest.training.items()
        },
        "versions": _words(manifest.versions),
        "manifest sha256": manifest.manifest_sha256,
    }
    rows = [(name, str(value)) for name, value in properties.items() if value not in ("", None)]
    return facts(rows)


def _words(section: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in section.items() if value != "")


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _interval(rate: Rate | dict[str, Any]) -> str:
    low, high = (rate.low, rate.high) if isinstance(rate, Rate) else (rate["low"], rate["high"])
    return f"{percent(low)} to {percent(high)}"
