"""Options that name the part in a frame: a code on the part, and recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from edgead.artifact.limits import Limits
from edgead.components.options import Section
from edgead.images.codes import CodeKind

_Offset = Annotated[int, Field(ge=0, le=100_000)]
_Side = Annotated[int, Field(ge=1, le=100_000)]


class CodeSection(Section):
    """Code on the part that gives its serial number."""

    region: Annotated[
        tuple[_Offset, _Offset, _Side, _Side],
        Field(description="x, y, width and height, in pixels of the frame, around the code with some room."),
    ]
    kinds: Annotated[
        tuple[CodeKind, ...],
        Field(min_length=1, description="qr, data_matrix, code_128, and barcode: EAN-8, EAN-13, UPC-A and UPC-E."),
    ] = ("qr",)
    within_ms: Annotated[
        float, Field(gt=0, le=2000, description="Longest wait for the reading; a slower one counts as unread.")
    ] = 100.0


class RecipeSection(Section):
    """Model and thresholds of one product."""

    model: Annotated[Path, Field(description="Folder of the model, relative to the site file.")]
    thresholds: Annotated[Limits | None, Field(description="Thresholds in place of the model's.")] = None


class PartNamingSection(Section):
    """Names of parts that are read from the frame, not given by the trigger."""

    code: Annotated[CodeSection | None, Field(description="Code in the image with the serial number.")] = None
