"""Options as typed dictionaries, for editors and type checkers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from edgead.errors import SettingsError

if TYPE_CHECKING:
    import threading

    from edgead.process.real_time import Scheduling
    from edgead.stream import OnVerdict


class RateOptions(TypedDict, total=False):
    """Fields of `edgead.adapt.recalibrate.AskedRates`."""

    false_reject_rate: float | None
    review_rate: float | None
    group: str
    accept_outliers: bool


class TeachOptions(TypedDict, total=False):
    """Fields of `edgead.adapt.teach.TeachPlan`."""

    held_out_share: float
    group: str
    reason: str
    by: str
    output: Path | None


class StreamOptions(TypedDict, total=False):
    """Parameters of `edgead.stream.run`."""

    on_verdict: OnVerdict | None
    stop: threading.Event | None
    late_after_ms: float | None
    scheduling: Scheduling


def check_options(function: Callable[..., Any], options: Mapping[str, object], known: type, advice: str = "") -> None:
    """Raise SettingsError for a name that `known` lacks; suggest a similar name there or of a parameter."""
    others = [each.name for each in signature(function).parameters.values() if each.kind is not each.VAR_KEYWORD]
    for wrong in options.keys() - known.__annotations__.keys():
        ending = [name for name in known.__annotations__ if name.endswith(f"_{wrong}")]
        near = ending or get_close_matches(wrong, [*known.__annotations__, *others], 1)
        then = advice or f"known are {', '.join(known.__annotations__)}"
        meant = f"is {near[0]} meant? {then[0].upper()}{then[1:]}" if near else then
        raise SettingsError(f"there is no option {wrong!r}: {meant}")
