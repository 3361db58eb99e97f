"""The tables of the panel: one for each measure, and what is chosen with a set left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.panel_results import Result
from benchmarks.panel_sets import JUDGED, LABELS

NONE = "–"


@dataclass(frozen=True, slots=True)
class Measure:
    """How a measure is called and printed, and which way is better."""

    title: str
    text: Callable[[float], str]
    higher_is_better: bool = False

    def best(self, values: Mapping[str, float]) -> str:
        """The name with the best value; the first of equal ones."""
        choose = max if self.higher_is_better else min
        return choose(values, key=lambda name: values[name])

    def worst(self, values: Sequence[float]) -> float:
        return min(values) if self.higher_is_better else max(values)


def _score(value: float) -> str:
    return f"{value:.3f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


MEASURES = {
    "image_AUROC": Measure("image AUROC", _score, True),
    "image_AP": Measure("image AP", _score, True),
    "escapes_at_1": Measure("escapes at 1 % realised false rejects", _percent),
    "escapes_at_5": Measure("escapes at 5 % realised false rejects", _percent),
    "false_rejects": Measure("realised false rejects, shipped thresholds", _percent),
    "reviews": Measure("good parts sent to review, shipped thresholds", _percent),
    "escapes": Measure("defects not rejected, shipped thresholds", _percent),
    "escapes_same": Measure("defects not rejected, best limit with the same realised false rejects", _percent),
    "passed": Measure("defects neither rejected nor sent to review, shipped thresholds", _percent),
    "pixel_AUROC": Measure("pixel AUROC", _score, True),
    "AUPRO": Measure("AUPRO", _score, True),
    "train_s": Measure("training, s", "{:.0f}".format),
    "frame_ms": Measure("frame, median ms", "{:.1f}".format),
    "frame_p95_ms": Measure("frame, 95th percentile ms", "{:.1f}".format),
}
# What a setting is chosen by; rates of shipped thresholds and times are not.
CHOSEN_BY = ("image_AUROC", "image_AP", "escapes_at_1", "escapes_at_5", "pixel_AUROC", "AUPRO")


def tables(results: Sequence[Result], *, latency_ms: float | None = None) -> list[str]:
    """Lay all tables out in Markdown.

    Parameters
    ----------
    results : sequence of Result
    latency_ms : float, optional
        Settings whose median frame takes longer, on average over the judged sets, are not chosen.
    """
    lines = []
    for name, measure in MEASURES.items():
        values = _values(results, name)
        if any(values.values()):
            lines += [f"**{measure.title}**", "", *measure_table(values, measure), ""]
    return [*lines, *chosen_table(results, latency_ms), "", *remarks(results)]


def measure_table(values: Mapping[str, Mapping[str, float]], measure: Measure) -> list[str]:
    """Rows: sets, then mean and worst of the judged ones; columns: settings.

    Parameters
    ----------
    values : mapping of a setting to a mapping of a set to its value
        A setting that lacks a set which another has gets no mean and no worst: it would be one over other sets.
    """
    judged = _judged(values)
    beside = [name for name in _sets(values) if name not in judged]
    lines = [_row("", values), _row("---", ["---"] * len(values))]
    rows: list[tuple[str, Callable[[Mapping[str, float]], float | None]]] = []
    for name in judged:
        rows.append((LABELS.get(name, name), lambda column, name=name: column.get(name)))
    if judged:
        rows.append((f"**mean of {len(judged)}**", lambda column: mean(column, judged)))
        rows.append((f"**worst of {len(judged)}**", lambda column: _worst(column, judged, measure)))
    for name in beside:
        rows.append((f"{LABELS.get(name, name)} (beside)", lambda column, name=name: column.get(name)))
    return lines + [_row(label, [_cell(take(column), measure) for column in values.values()]) for label, take in rows]


def chosen_table(results: Sequence[Result], latency_ms: float | None = None) -> list[str]:
    """What each set has by the setting that is best on the mean of the other judged sets, measure by measure."""
    ours = [result for result in results if not result.is_opponent]
    times = _values(ours, "frame_ms")
    slow = {
        setting
        for setting, column in times.items()
        if latency_ms is not None and (took := mean(column, _judged(times))) is not None and took > latency_ms
    }
    columns = {}
    for name in CHOSEN_BY:
        values = {setting: column for setting, column in _values(ours, name).items() if setting not in slow}
        columns[name] = leave_one_out(values, MEASURES[name])
    order = _sets(_values(ours, "image_AUROC"))
    judged = [name for name in order if name in JUDGED]
    lines = ["**Chosen with the set left out**: what the setting that is best on the other sets has on this one", ""]
    if slow:
        lines += [f"Not chosen, above {latency_ms:g} ms: {', '.join(sorted(slow))}.", ""]
    lines += [_row("", [MEASURES[name].title for name in CHOSEN_BY]), _row("---", ["---"] * len(CHOSEN_BY))]
    for data in [*judged, *(name for name in order if name not in judged)]:
        label = LABELS.get(data, data) + ("" if data in judged else " (beside)")
        lines.append(_row(label, [_choice(columns[name].get(data), MEASURES[name]) for name in CHOSEN_BY]))
    kept = {n: {data: value for data, (_, value) in columns[n].items() if data in judged} for n in CHOSEN_BY}
    means = [_cell(mean(kept[n], list(kept[n])), MEASURES[n]) for n in CHOSEN_BY]
    worst = [_cell(_worst(kept[n], list(kept[n]), MEASURES[n]), MEASURES[n]) for n in CHOSEN_BY]
    return [*lines, _row("**mean**", means), _row("**worst**", worst)]


def leave_one_out(values: Mapping[str, Mapping[str, float]], measure: Measure) -> dict[str, tuple[str, float]]:
    """Choose a setting for each set by the mean over the judged sets without it.

    Returns
    -------
    dict of a set to (setting, its value there)
        Without the sets that no other judged set is beside. Only settings with a value on all judged sets take part.
    """
    judged = _judged(values)
    complete = {setting: column for setting, column in values.items() if all(name in column for name in judged)}
    chosen = {}
    for left_out in _sets(values):
        others = [name for name in judged if name != left_out]
        if not others or not complete:
            continue
        means = {setting: sum(column[name] for name in others) / len(others) for setting, column in complete.items()}
        best = measure.best(means)
        if left_out in complete[best]:
            chosen[left_out] = (best, complete[best][left_out])
    return chosen


def mean(column: Mapping[str, float], sets: Sequence[str]) -> float | None:
    """Mean over the sets; None where one is missing."""
    if not sets or any(name not in column for name in sets):
        return None
    return sum(column[name] for name in sets) / len(sets)


def remarks(results: Sequence[Result]) -> list[str]:
    """What a reader must know of how these results came about."""
    asked: dict[float, list[str]] = {}
    for result in results:
        if limits := result.content.get("calibration"):
            sets = asked.setdefault(limits["false_reject_rate"], [])
            sets += [result.set_name] if result.set_name not in sets else []
    lines = ["False rejects asked for: " + "; ".join(f"{100 * r:g} % ({', '.join(s)})" for r, s in asked.items()) + "."]
    groups = {result.set_name: result.content for result in results if result.content.get("groups")}
    if groups:
        counts = (f"{name} {found['groups']}, {found['calibration_groups']}" for name, found in groups.items())
        lines.append(f"Groups of good images, and how many of them the thresholds are from: {'; '.join(counts)}.")
    for what, facts in (
        ("commits", {result.content["commit"] for result in results}),
        ("CPUs", {str(result.content["machine"]["cpu"]) for result in results}),
    ):
        mixed = ": compare with care" if len(facts) > 1 else ""
        lines.append(f"Measured {what}: {', '.join(sorted(facts))}{mixed}.")
    if any(result.is_opponent for result in results):
        lines.append("anomalib learns from all good images, edgead holds some of them out for its thresholds.")
        lines.append(
            "Pixel measures of what crops are those of the crop. Its frames run in torch, edgead's in an engine."
        )
    loads = [result.content["other_load"] for result in results if result.content.get("other_load")]
    if loads:
        lines.append(f"While frames were timed, others used the machine in {len(loads)} results, such as: {loads[-1]}.")
    return lines


def _values(results: Sequence[Result], measure: str) -> dict[str, dict[str, float]]:
    """A column for each setting, opponents last; a set without a value is not in it."""
    columns: dict[str, dict[str, float]] = {}
    for result in sorted(results, key=lambda result: result.is_opponent):
        column = columns.setdefault(result.setting, {})
        value = result.measures.get(measure)
        if value is not None:
            column[result.set_name] = value
    return columns


def _sets(values: Mapping[str, Mapping[str, float]]) -> list[str]:
    return sorted({name for column in values.values() for name in column})


def _judged(values: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [name for name in _sets(values) if name in JUDGED]


def _worst(column: Mapping[str, float], sets: Sequence[str], measure: Measure) -> float | None:
    if not sets or any(name not in column for name in sets):
        return None
    return measure.worst([column[name] for name in sets])


def _choice(chosen: tuple[str, float] | None, measure: Measure) -> str:
    return NONE if chosen is None else f"{measure.text(chosen[1])} ({chosen[0]})"


def _cell(value: float | None, measure: Measure) -> str:
    return NONE if value is None else measure.text(value)


def _row(label: str, cells: Sequence[str] | Mapping[str, object]) -> str:
    return f"| {' | '.join([label, *cells])} |"
