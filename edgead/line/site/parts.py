"""Section `parts` of the site file: parts that several pipelines judge together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgead.components.options import Name, Section


class PartSection(Section):
    """Verdict on a part from the verdicts of several pipelines: of several cameras, or of regions of one camera."""

    pipelines: Annotated[
        tuple[Name, ...], Field(min_length=2, max_length=32, description="Names of the pipelines that view a part.")
    ]
    rule: Annotated[
        Literal["worst", "any", "k_of_n"],
        Field(description="The part is ok if so many views are: worst: all; any: one; k_of_n: `k`. Same for review."),
    ] = "worst"
    k: Annotated[int | None, Field(ge=1, le=32, description="With k_of_n: views that must be ok.")] = None
    timeout_ms: Annotated[
        float, Field(gt=0, le=600_000, description="Time from a part's first capture to the verdict of its last view.")
    ] = 1000.0
    apart_ms: Annotated[
        float,
        Field(
            ge=0,
            le=600_000,
            description="Longest time between captures of one part by two cameras, if no serial number decides: less "
            "than half the shortest time between two parts.",
        ),
    ] = 50.0
    sinks: Annotated[tuple[Name, ...], Field(description="Names of sinks that get the part's verdict.")] = ()

    @property
    def needed(self) -> int:
        """Number of views that must be ok for the part to be ok."""
        return {"worst": len(self.pipelines), "any": 1}.get(self.rule, self.k or 0)

    @model_validator(mode="after")
    def _fits_together(self) -> PartSection:
        if len(set(self.pipelines)) < len(self.pipelines):
            raise ValueError("a pipeline is named twice")
        if (self.rule == "k_of_n") != (self.k is not None):
            raise ValueError("k goes with the rule k_of_n, and that needs it")
        if self.needed > len(self.pipelines):
            raise ValueError(f"{self.k} of {len(self.pipelines)} views cannot be ok")
        if self.apart_ms > self.timeout_ms:
            raise ValueError("apart_ms is more than timeout_ms: the second view would always come too late")
        return self
