"""Interface of a trigger, with its extensions for requests, named parts and answers."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from edgead.components.options import Section
from edgead.types import NO_PART, Frame, Part, Verdict


class Trigger(Protocol):
    """Trigger: chooses the frames that are judged."""

    def accepts(self, frame: Frame) -> bool:
        """Return whether to judge a frame; called with every frame of a pipeline, in order."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class RequestTrigger(Trigger, Protocol):
    """Trigger that takes requests for a frame from the page or the API."""

    def fire(self, at_ns: int | None = None) -> None:
        """Request the first frame after a moment (`time.perf_counter_ns()`, now by default); from any thread."""
        ...


@runtime_checkable
class NamingTrigger(Trigger, Protocol):
    """Trigger that knows which part each accepted frame shows."""

    @property
    def part(self) -> Part:
        """Part that the last accepted frame shows."""
        ...


@runtime_checkable
class PartTrigger(NamingTrigger, RequestTrigger, Protocol):
    """Trigger that takes requests for a frame of a part."""

    @property
    def missed(self) -> int:
        """Number of parts that were announced but got no frame."""
        ...

    def fire(self, at_ns: int | None = None, part: Part = NO_PART) -> None: ...


@runtime_checkable
class AnsweringTrigger(Trigger, Protocol):
    """Trigger that gives the verdict back to its requester, such as a PLC."""

    @property
    def problem(self) -> str | None:
        """Reason why requests cannot come; None if they can. Read at every frame, and also while no frames come."""
        ...

    def answer(self, verdict: Verdict | None) -> None:
        """Report the outcome of the last accepted frame: its verdict, or None."""
        ...


class TriggerOptions(Section):
    """Options of a trigger; the options of each kind have a field `kind: Literal[NAME]`, with or without default."""

    kind: str
    on_request: ClassVar[bool] = False
    """Whether these options open a RequestTrigger."""
    wants_all: ClassVar[bool] = False
    """Whether every frame must have a verdict: one without it counts as not inspected."""
