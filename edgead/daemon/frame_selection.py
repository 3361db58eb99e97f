"""Choice of the frames that a pipeline judges, and of the part that each shows: by its trigger, and by codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from edgead.daemon.part_code import PartCode
from edgead.errors import SettingsError
from edgead.site.schema import PipelineSection
from edgead.triggers import AnsweringTrigger, NamingTrigger, PartTrigger, RequestTrigger, Trigger, open_trigger
from edgead.types import NO_PART, Frame, Part, Verdict


class Asking:
    """Chooses the frames of a pipeline and names their parts, in its thread; the numbers may be read from any.

    Parameters
    ----------
    pipeline : str
    section : PipelineSection
    """

    def __init__(self, pipeline: str, section: PipelineSection):
        self._pipeline, self._section = pipeline, section
        code = section.part.code if section.part else None
        self._code = PartCode(pipeline, code) if code else None
        self._trigger: Trigger | None = None
        self._missed = 0  # parts that triggers which were closed had no frame for

    @property
    def missed(self) -> int:
        """Parts that were named and that no frame came for."""
        trigger = self._trigger
        return self._missed + (trigger.missed if isinstance(trigger, PartTrigger) else 0)

    @property
    def codes(self) -> dict[str, int]:
        """What became of the codes of parts; empty where none are read."""
        return dict(self._code.counts) if self._code is not None else {}

    @property
    def problem(self) -> str | None:
        """Why nobody can ask for a frame; None while all is well."""
        return self._trigger.problem if isinstance(self._trigger, AnsweringTrigger) else None

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Have the trigger open.

        Raises
        ------
        SettingsError
            Its line cannot be opened, or what it needs is not installed.
        """
        trigger = self._trigger = open_trigger(self._section.trigger)
        try:
            yield
        finally:
            self._trigger = None
            trigger.close()
            if isinstance(trigger, PartTrigger):  # with those whose frame will not come any more
                self._missed += trigger.missed

    def close(self) -> None:
        """Read no more codes."""
        if self._code is not None:
            self._code.close()

    def fire(self, part: Part) -> None:
        """Ask for the next frame that the camera captures, from any thread; raises SettingsError as `Pipeline.fire`."""
        options, trigger = self._section.trigger, self._trigger
        if not options.on_request:
            kind = options.kind
            raise SettingsError(f"{self._pipeline}: its trigger is {kind}, which takes no requests; software does")
        if not isinstance(trigger, RequestTrigger):
            raise SettingsError(f"{self._pipeline}: is not running, it cannot be triggered")
        if isinstance(trigger, PartTrigger):
            trigger.fire(part=part)
        elif part != NO_PART:
            raise SettingsError(f"{self._pipeline}: its trigger {options.kind} takes requests, but no part's name")
        else:
            trigger.fire()

    def wanted(self, frame: Frame) -> Frame | None:
        """Give the frame with the part that it shows; None where it is not to be judged."""
        trigger = self._trigger
        if trigger is None or not trigger.accepts(frame):
            return None
        if isinstance(trigger, NamingTrigger):
            frame = replace(frame, part=trigger.part)
        return frame if self._code is None else self._code.named(frame)

    def answer(self, verdict: Verdict | None) -> None:
        """Report what became of the frame that was wanted last: its verdict, or None where it has none."""
        if isinstance(self._trigger, AnsweringTrigger):
            self._trigger.answer(verdict)
