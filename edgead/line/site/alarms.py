"""Section `alarms` of the site file, and who receives notices of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgead.components.options import Name, Seconds, Section


class AlarmsSection(Section):
    """Limits at which a pipeline raises an alarm: a notice on the page, and at the sinks of `notices`."""

    rejects_in_a_row: Annotated[
        int | None,
        Field(ge=2, le=10_000, description="Rejects in a row that raise it; as many others resolve it. null: none."),
    ] = 20
    yield_below: Annotated[
        float | None,
        Field(
            gt=0,
            lt=100,
            description="Least per cent of the last `of` parts that are not rejected; resolved at half of the rejects "
            "that this allows.",
        ),
    ] = None
    of: Annotated[int, Field(ge=10, le=100_000, description="Number of parts that `yield_below` counts.")] = 200
    no_part_for_s: Annotated[
        Seconds | None, Field(description="Time without a verdict while the pipeline runs; the next one resolves it.")
    ] = None
    not_inspected_above: Annotated[
        float | None,
        Field(
            gt=0,
            lt=100,
            description="Per cent of the last minute's frames that got no verdict, or a late one; more than ten times "
            "as many are critical, half as many resolve it. null: no alarm.",
        ),
    ] = 1.0


class NoticesSection(Section):
    """Notices of alarms, faults and drift: the page shows all of them, sinks may receive them too."""

    sinks: Annotated[tuple[Name, ...], Field(description="Names of sinks, mqtt or webhook, that receive them.")] = ()
    settle_s: Annotated[
        float,
        Field(ge=0, le=3600, description="Time that a fault must last to be raised, and must be gone to be resolved."),
    ] = 3.0
