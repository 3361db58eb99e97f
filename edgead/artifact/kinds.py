"""Manifest section of the kinds of rejects that a model knows: their names, and the example rejects of each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator
from typing_extensions import Self

from edgead.artifact.strict_section import StrictSection
from edgead.types import UNKNOWN_KIND

EXAMPLES = "kinds/examples.npy"
# The current descriptor; kinds that an earlier descriptor made can still be opened, but are stale.
DESCRIPTOR = "patches160"

# Least number of marked defects, in all and of one kind: fewer say nothing about other defects of the kind.
LEAST_BAD = 3

# A reject is compared with every example: well below 1 ms for so many.
MAX_EXAMPLES = 2000
MAX_KINDS = 200

# A name is shown on pages and in tables, in the columns of file names: one line of bounded length.
Name = Annotated[str, StringConstraints(min_length=1, max_length=64, strip_whitespace=True)]
_Distance = Annotated[float, Field(ge=0, le=1e30)]


class Kinds(StrictSection):
    """Kinds of rejects; see `edgead.detector.known_kinds`.

    Attributes
    ----------
    names : list of str
        The kinds; the first is number 1.
    labels : list of int
        The kind of each example, as an index into `names`; its feature vector is the same row of the array in `file`.
    groups : list of int
        Number of the part that each example shows; examples with the same number show the same part.
    distances : list of float
        Distance of each example from the nearest examples of other parts, see `edgead.detector.known_kinds`.
    descriptor : str
        Name of the method that made the feature vectors.
    residual_scale : float
        Factor that residuals are multiplied by before comparison, see `edgead.detector.known_kinds`.
    bank_sha256 : str
        Hash of the memory bank that the feature vectors were made with; with another bank they are meaningless.
    unknown_level : float
        A reject whose p-value is at most this is of an unknown kind.
    """

    names: Annotated[list[Name], Field(min_length=1, max_length=MAX_KINDS)]
    labels: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=MAX_EXAMPLES)]
    groups: list[int]
    distances: list[_Distance]
    file: str = EXAMPLES
    descriptor: Literal["patches40", "patches160"] = "patches40"
    residual_scale: Annotated[float, Field(gt=0)] = 1.0
    bank_sha256: str
    unknown_level: Annotated[float, Field(ge=0, lt=1)] = 0.05

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not len(self.labels) == len(self.groups) == len(self.distances):
            raise ValueError("labels, groups and distances of the kinds' examples differ in number")
        if set(self.labels) != set(range(len(self.names))):
            raise ValueError(f"there are {len(self.names)} kinds, and examples of {len(set(self.labels))}")
        for name in self.names:
            if self.names.count(name) > 1 or name == UNKNOWN_KIND or not name.isprintable():
                raise ValueError(f"{name!r} cannot name a kind: it is there twice, reserved, or not printable")
        return self

    def counts(self) -> dict[str, int]:
        """Count the examples of each kind."""
        return {name: self.labels.count(number) for number, name in enumerate(self.names)}
