"""Tally of parts: how many were good, and the yield that follows of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import reduce


@dataclass(frozen=True, slots=True)
class Tally:
    """Parts by what was decided of them, and what people said of them since.

    Attributes
    ----------
    ok, review, reject : int
    fault : int
        Parts of several views of which one was missing: they were not inspected.
    false_rejects : int
        Of review and reject, how many a person found good.
    """

    ok: int = 0
    review: int = 0
    reject: int = 0
    fault: int = 0
    false_rejects: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    @property
    def inspected(self) -> int:
        """Parts of which something was decided."""
        return self.ok + self.review + self.reject

    @property
    def first_yield(self) -> float | None:
        """The share that was found ok; None where nothing was inspected."""
        return self.ok / self.inspected if self.inspected else None

    @property
    def reviewed_yield(self) -> float | None:
        """The share of good parts once people have looked: with the false rejects that they marked."""
        return (self.ok + self.false_rejects) / self.inspected if self.inspected else None

    def figures(self) -> dict[str, int | float | None]:
        """Write all of it under the names of columns."""
        shares = {"yield": self.first_yield, "yield_after_review": self.reviewed_yield}
        return {"inspected": self.inspected, **{one.name: getattr(self, one.name) for one in fields(self)}, **shares}


def total(tallies: Iterable[Tally]) -> Tally:
    return reduce(Tally.__add__, tallies, Tally())
