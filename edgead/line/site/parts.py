"""Section `parts` of the site file: parts that several pipelines judge together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgead.components.options import Name, Section


class PartSection(Section):
    """Verdict on a part from those of several pipelines: of several cameras, or of regions of one camera."""

    pipelines: Annotated[
        tuple[Name, ...], Field(min_length=2, max_length=32, description="The views of a part, by name.")
    ]
    rule: Annotated[
        Literal["worst", "any", "k_of_n"],
        Field(description="worst: ok where all views are; any: where one is; k_of_n: where `k` are. Likewise review."),
    ] = "worst"
    k: Annotated[int | None, Field(ge=1, le=32, description="Of rule k_of_n: so many views must be ok.")] = None
    timeout_ms: Annotated[
        float,
        Field(gt=0, le=600_000, description="From the first capture of a part to the verdict of its last view."),
    ] = 1000.0
    apart_ms: Annotated[
        float,
        Field(
            ge=0,
            le=600_000,
            description="Captures of two cameras this far apart may show one part, where no serial number says so: "
            "less than half the shortest time between two parts.",
        ),
    ] = 50.0
    sinks: Annotated[tuple[Name, ...], Field(description="Sinks of the part's verdict, by name.")] = ()

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
