"""Section `alarms` of the site file, and who receives notices of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgead.components.options import Name, Seconds, Section


class AlarmsSection(Section):
    """Limits at which a pipeline raises an alarm: a notice on the page, and at the sinks of `notices`."""

    rejects_in_a_row: Annotated[
        int | None,
        Field(ge=2, le=10_000, description="So many rejects in a row; as many others resolve it. null: no alarm."),
    ] = 20
    yield_below: Annotated[
        float | None,
        Field(
            gt=0,
            lt=100,
            description="Per cent of the last `of` parts that are not rejected; it is resolved once at most half as "
            "many are rejected as may be.",
        ),
    ] = None
    of: Annotated[int, Field(ge=10, le=100_000, description="The parts that `yield_below` is of.")] = 200
    no_part_for_s: Annotated[
        Seconds | None, Field(description="No verdict for so long while the pipeline runs; the next one resolves it.")
    ] = None
    not_inspected_above: Annotated[
        float | None,
        Field(
            gt=0,
            lt=100,
            description="Per cent of the last minute's frames that got no verdict, or a late one; ten times as many "
            "are critical, at most half as many resolve it. null: no alarm.",
        ),
    ] = 1.0


class NoticesSection(Section):
    """Notices of alarms, faults and drift: the page shows all of them, sinks may receive them too."""

    sinks: Annotated[tuple[Name, ...], Field(description="Sinks of kind mqtt or webhook that receive them too.")] = ()
    settle_s: Annotated[
        float,
        Field(
            ge=0, le=3600, description="A fault is raised once it has stood, and resolved once it has gone, so long."
        ),
    ] = 3.0
