"""Validated pair of thresholds: both finite, and review not above reject."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationError, model_validator
from typing_extensions import Self

from edgead.artifact.strict_section import StrictSection
from edgead.errors import SettingsError
from edgead.types import Decision

# Beyond every score: with these as thresholds every image goes to review.
LOWEST, HIGHEST = -1e30, 1e30

# Strict: `true` and "0" are not taken for numbers.
Score = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Limits(StrictSection):
    """Scores above `reject` are rejected, those above `review` are sent to review."""

    review: Annotated[Score, Field(description="Scores above it are sent to review.")]
    reject: Annotated[Score, Field(description="Scores above it are rejected; not below `review`.")]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.review > self.reject:
            raise ValueError(
                f"review {self.review:g} is above reject {self.reject:g}: give a review threshold that is at most the "
                "reject threshold"
            )
        return self

    @classmethod
    def checked(cls, **values: object) -> Self:
        """Make limits from values that a person entered.

        Raises SettingsError: a value is no finite number, or review is above reject.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            found = error.errors()[0]
            name = "".join(f"{part} " for part in found["loc"])
            raise SettingsError(f"thresholds: {name}{found['msg'].removeprefix('Value error, ')}") from None

    def decide(self, score: float) -> Decision:
        """Decide by an image's score; NaN is rejected."""
        return "ok" if score <= self.review else "review" if score <= self.reject else "reject"

    def values(self) -> dict[str, float]:
        return {"review": self.review, "reject": self.reject}
