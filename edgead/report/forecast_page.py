"""The forecast as a page that loads nothing; every number on it says that it is of made defects."""

from __future__ import annotations

from datetime import datetime, timezone

from edgead.html.pages import facts, page, table
from edgead.metrics import Rate
from edgead.report.forecast import NEAR, Forecast
from edgead.version import __version__

_NOT_SAID = (
    "A forecast knows the kinds that it was given and no other. It says how often a defect like the known ones would "
    "pass, not how often defects come. It takes the known rejects as drawn at random from those to come: where a model "
    "or a person found only the plain ones, the true escape rate is higher. The interval is that of so few rejects."
)


def forecast_page(forecast: Forecast, *, model: str, data: str) -> str:
    """Write the page; `model` and `data` are names."""
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    header = f"<p>edgead {__version__}, {made}. All rates are of <b>made</b> defects unless a column says real.</p>"
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
            str(one.escape_rate.total),
            f"{one.sources} {'parts' if one.likeness is None else f'rejects in {one.groups} groups'}",
            str(one.groups_wanted),
            one.said,
        )
        for kind, one in forecast.kinds.items()
    ]
    beside = ("kind", "real rejects", "real passed", "made passed", "made passed at the level of real", "shift", "p")
    compared = [
        (
            kind,
            str(like.rejects),
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
    sections = [
        ("Forecast by kind, from made defects", table(head, rows) + facts([("note", w) for w in forecast.warnings()])),
        ("Made against real: the rejects beside what was made of them", table(beside, compared)),
        ("What it does not say", f"<p>{_NOT_SAID}</p>{facts(of_set)}"),
    ]
    return page(f"Forecast of {model} from made defects in {data}", header, sections)


def _percent(rate: float) -> str:
    return f"{100 * rate:.0f} %"


def _interval(rate: Rate) -> str:
    return f"{100 * rate.low:.0f} to {100 * rate.high:.0f} %"
