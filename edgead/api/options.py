"""Options as typed dictionaries, for editors and type checkers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from edgead.adapt.training.options import TrainOptions
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
    bad: Sequence[Path]
    output: Path | None


class StreamOptions(TypedDict, total=False):
    """Parameters of `edgead.stream.run`."""

    on_verdict: OnVerdict | None
    stop: threading.Event | None
    late_after_ms: float | None
    scheduling: Scheduling


def check_options(options: Mapping[str, object], others: Iterable[str]) -> None:
    """Raise SettingsError for a name that `TrainOptions` lacks; suggest a similar one of these or of `others`."""
    names = TrainOptions.__annotations__
    for wrong in options.keys() - names.keys():
        near = get_close_matches(wrong, [*others, *names], 1)
        meant = f": is {near[0]} meant? A" if near else ": a"
        raise SettingsError(f"there is no option {wrong!r}{meant} setting of the detector is given in settings={{...}}")
