"""Settings of a commissioning draft, and the rates that its number of parts supports."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from edgead.calibration.plan import OFFERED_RATES, comfortable, strictest_rate
from edgead.components.options import Section
from edgead.dataset.places import Place, read_ignored, read_region

FEWEST_IMAGES, MAX_IMAGES = 20, 600

Numbers = Annotated[tuple[Annotated[int, Field(ge=0, le=65_535)], ...], Field(min_length=4, max_length=400)]
"""x, y, width and height of a rectangle, or the corners x, y, x, y, ... of a polygon: as `--ignore` takes them."""


class DraftSettings(Section):
    """What an engineer sets: how many parts, where to look, and which places never count."""

    wanted: Annotated[int, Field(ge=FEWEST_IMAGES, le=MAX_IMAGES)] = 60
    region: Numbers | None = None
    ignored: Annotated[tuple[Numbers, ...], Field(max_length=50)] = ()


class State(Section):
    """What `draft.json` holds.

    `revision` counts the changes of what is drawn, so that two who change it at once notice each other. `learnt` names
    the folder of the last result, and `learnt_from` what it was learnt from.
    """

    camera: str
    begun_by: str
    begun_at: datetime
    changed_by: str
    revision: int = 0
    drawn: DraftSettings = DraftSettings()
    frame_size: tuple[int, int] | None = None
    next_number: int = 1
    learnt: str | None = None
    learnt_from: str | None = None


def check_places(drawn: DraftSettings, frame_size: tuple[int, int]) -> None:
    """Raise SettingsError where what is drawn does not fit frames of a size (height, width)."""
    ignore: list[Place] = [",".join(map(str, numbers)) for numbers in drawn.ignored]
    if drawn.region is not None:
        _, outside = read_region(drawn.region, frame_size)
        ignore += [] if outside is None else [outside]
    read_ignored(ignore, frame_size, "the camera's frame")


def rates_of(count: int) -> dict[str, Any]:
    """The false-reject rate that so many parts support, if any, and how many the next stricter one takes."""
    rate = strictest_rate(count) if count >= FEWEST_IMAGES else None
    stricter = [offered for offered in OFFERED_RATES if rate is None or offered < rate]
    following = stricter[-1] if stricter else None
    return {
        "rate": rate,
        "next_rate": following,
        "next_parts": following and next(parts for parts in range(MAX_IMAGES) if comfortable(following, parts)),
    }
