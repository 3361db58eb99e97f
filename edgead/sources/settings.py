"""Section `cameras` of the site file: options of one camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import Self

from edgead.components.options import Seconds, Section, Uri
from edgead.sources import beside
from edgead.sources.health import HealthSection


class CameraSection(Section):
    """Camera or other source of frames: its URI, time limits, and health checks."""

    uri: Annotated[Uri, Field(description="Source of the frames; see the sources in the reference.")]
    open_timeout_s: Annotated[Seconds, Field(description="A camera that takes longer to open is lost.")] = 5.0
    read_timeout_s: Annotated[Seconds, Field(description="A camera that takes longer for a frame is lost.")] = 5.0
    stalled_after_s: Annotated[
        float, Field(ge=0.001, le=86_400, description="Age of the newest frame from which a camera is stalled.")
    ] = 2.0
    retry_first_s: Annotated[Seconds, Field(description="Pause before the first new attempt; it doubles.")] = 0.5
    retry_most_s: Annotated[Seconds, Field(description="Longest pause between two attempts.")] = 30.0
    max_megapixels: Annotated[
        float, Field(gt=0, le=1000, description="A larger frame is a fault: each takes 3 bytes a pixel, several times.")
    ] = 64.0
    frozen_after: Annotated[
        int, Field(ge=2, le=10**9, description="Identical frames in a row from which a camera is frozen.")
    ] = 25
    health: Annotated[HealthSection, Field(description="Limits for the checks of its images.")] = HealthSection()

    def beside(self, folder: Path) -> Self:
        """Return the section with relative paths of files, folders or globs resolved against a folder."""
        return super().beside(folder).model_copy(update={"uri": beside(self.uri, folder)})
