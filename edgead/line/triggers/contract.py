"""Interface of a trigger."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from edgead.components.options import Section
from edgead.types import NO_PART, Frame, Part, Verdict


class Trigger(Protocol):
    """Chooses the frames that are judged."""

    def accepts(self, frame: Frame) -> bool:
        """Whether to judge a frame; called with every frame of a pipeline, in their order."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class RequestTrigger(Trigger, Protocol):
    """A trigger that can be asked for a frame, by the page or the API."""

    def fire(self, at_ns: int | None = None) -> None:
        """Ask for the first frame after a moment (`time.perf_counter_ns()`, now by default); from any thread."""
        ...


@runtime_checkable
class NamingTrigger(Trigger, Protocol):
    """A trigger that learns which part a frame is asked of."""

    @property
    def part(self) -> Part:
        """What the frame shows that was accepted last."""
        ...


@runtime_checkable
class PartTrigger(NamingTrigger, RequestTrigger, Protocol):
    """A trigger that can be asked for a frame of a part."""

    @property
    def missed(self) -> int:
        """Parts that were named and that no frame came for."""
        ...

    def fire(self, at_ns: int | None = None, part: Part = NO_PART) -> None: ...


@runtime_checkable
class AnsweringTrigger(Trigger, Protocol):
    """A trigger by somebody who waits for the verdict."""

    @property
    def problem(self) -> str | None:
        """Why nobody can ask for a frame; None while all is well. Asked with every frame, and while none comes."""
        ...

    def answer(self, verdict: Verdict | None) -> None:
        """Report what became of the frame accepted last: its verdict, or None where it has none."""
        ...


class TriggerOptions(Section):
    """Options of a trigger. Those of each kind have a field `kind: Literal[NAME]`, and a default for it or none."""

    kind: str
    on_request: ClassVar[bool] = False
    """What is opened with them is a RequestTrigger."""
    wants_all: ClassVar[bool] = False
    """Every frame shall have a verdict: one without it counts as not inspected."""
