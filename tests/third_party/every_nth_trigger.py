"""A trigger: `trigger: {kind: every_nth, n: 3}` judges every third frame."""

from typing import Annotated, Literal

from pydantic import Field

from edgead.line.triggers import TriggerOptions, register
from edgead.types import Frame


class EveryNthOptions(TriggerOptions):
    """Judge every nth frame."""

    kind: Literal["every_nth"]
    n: Annotated[int, Field(ge=2, le=1000, description="One frame in so many.")]


class EveryNthTrigger:
    def __init__(self, options: EveryNthOptions):
        self._n = options.n

    def accepts(self, frame: Frame) -> bool:
        return frame.number % self._n == 0

    def close(self) -> None:
        pass


register("every_nth", EveryNthOptions, EveryNthTrigger)
