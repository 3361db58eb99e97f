"""Requests of an image's verdict, which somebody waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from edgead.errors import EdgeadError, NotNowError, NoVerdictInTimeError
from edgead.types import Frame, Verdict

Outcome = Verdict | EdgeadError
"""What became of a frame: its verdict, or why it has none."""


class Requests:
    """Lets one image at a time through a pipeline for somebody who waits for its verdict.

    Parameters
    ----------
    pipeline : str
        Stands in the messages.
    """

    def __init__(self, pipeline: str):
        self._pipeline = pipeline
        self._one = threading.Lock()
        self._outcomes: SimpleQueue[tuple[str, Outcome]] | None = None

    def ask(self, offer: Callable[[], Frame], within_s: float) -> tuple[Frame, Verdict]:
        """Offer an image and wait for its verdict; called from any thread.

        Parameters
        ----------
        offer : callable
            Hands the image over to the camera, and gives its frame.
        within_s : float
            For the images before it to get theirs, and for it to get its own, each.

        Raises
        ------
        NotNowError
            Others are still before it.
        NoVerdictInTimeError
            It was handed over, and its verdict is not there.
        EdgeadError
            Why it has no verdict, and what `offer` raises.
        """
        if not self._one.acquire(timeout=within_s):
            raise NotNowError(f"{self._pipeline}: is busy with other images")
        try:
            outcomes = self._outcomes = SimpleQueue()
            frame = offer()
            outcome = self._await(outcomes, frame, time.monotonic() + within_s)
        finally:
            self._outcomes = None
            self._one.release()
        if isinstance(outcome, EdgeadError):
            raise outcome
        return frame, outcome

    def answer(self, frame: Frame, outcome: Outcome) -> bool:
        """Report what became of a frame; False where nobody waits for any."""
        outcomes = self._outcomes
        if outcomes is not None:
            outcomes.put((frame.id, outcome))
        return outcomes is not None

    def _await(self, outcomes: SimpleQueue[tuple[str, Outcome]], frame: Frame, deadline_s: float) -> Outcome:
        try:
            while True:
                id, outcome = outcomes.get(timeout=max(0.0, deadline_s - time.monotonic()))
                if id == frame.id:  # others may use the same camera, or have given up waiting
                    return outcome
        except Empty:
            raise NoVerdictInTimeError(
                f"{self._pipeline}: the image was taken as {frame.id}, and its verdict is not there in time: ask for "
                "that verdict later, and do not send the image again"
            ) from None
