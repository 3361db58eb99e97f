"""Processor share and deadline of one report: verdicts share the cores, and Python's lock, with whoever asks."""

from __future__ import annotations

import time

from edgead.evidence.database import EvidenceError


class QueryBudget:
    """The time of one report. It rests after each query, and ends what takes too long.

    Parameters
    ----------
    within_s : float
        After it, `rest` refuses to go on.
    share : float
        Of one core, on average: 1 rests never.
    """

    def __init__(self, within_s: float = float("inf"), share: float = 1.0):
        self._within_s, self._share = within_s, share
        self._ends_s = time.monotonic() + within_s
        self._worked_s = time.thread_time()

    def rest(self) -> None:
        """Sleep as long as the work since the last rest demands.

        Raises
        ------
        EvidenceError
            The time is over.
        """
        worked_s = time.thread_time() - self._worked_s
        left_s = self._ends_s - time.monotonic()
        if left_s <= 0:
            raise EvidenceError(
                f"this takes longer than {self._within_s:g} s: choose a shorter time, or `edgead evidence report`"
            )
        if self._share < 1:
            time.sleep(min(left_s, worked_s * (1 / self._share - 1)))
        self._worked_s = time.thread_time()
