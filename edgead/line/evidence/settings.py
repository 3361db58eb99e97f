"""Section `evidence` of the site file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import Self

from edgead.components.options import Secretive, Section

Kept = Literal["none", "reject", "review", "all"]
KeepDays = Annotated[float, Field(gt=0, le=36_500, description="Rows that are older, and their images, are deleted.")]
# Mode of folders that edgead makes: images of parts, and the audit, are for the operator of the device only.
FOLDER_MODE = 0o700
_RELATIVE_SQLITE = re.compile(r"^(sqlite(?:\+\w+)?:///)(?=[^/:?])")


class RecentSection(Section):
    """Newest frames, held in memory without loss, so that a part can be marked after it has passed."""

    frames: Annotated[int, Field(ge=0, le=100_000, description="Frames that are held at most; 0 holds none.")] = 500
    megabytes: Annotated[int, Field(ge=1, le=10**6, description="Memory for the frames of all cameras.")] = 256


class StoreSection(Section):
    """The record of every verdict, and images of some."""

    url: Annotated[
        Secretive | None, Field(min_length=1, repr=False, description="SQLAlchemy URL; by default SQLite in `folder`.")
    ] = None
    folder: Annotated[Path, Field(description="Folder of the database and the images.")] = Path("evidence")
    evidence: Annotated[Kept, Field(description="Verdicts that keep images; review includes rejects.")] = "review"
    before: Annotated[int, Field(ge=0, le=100, description="Frames kept from before a verdict with evidence.")] = 2
    after: Annotated[int, Field(ge=0, le=100, description="Frames kept from after such a verdict.")] = 2
    jpeg_quality: Annotated[int, Field(ge=1, le=100, description="Quality of the kept JPEG images.")] = 90
    recent: Annotated[
        RecentSection, Field(description="Newest frames without loss, from which a marked part is kept.")
    ] = RecentSection()
    keep_days: KeepDays = 90.0
    most_mib: Annotated[int, Field(ge=1, le=10**9, description="Disk space that all images may take.")] = 10_000
    free_mib: Annotated[
        int, Field(ge=0, le=10**9, description="Disk space that stays free: with less, no image is written.")
    ] = 500
    commit_within_ms: Annotated[
        float, Field(ge=0, le=10_000, description="Longest wait of a verdict for its row if the disk stalls.")
    ] = 250.0

    def beside(self, folder: Path) -> Self:
        """Return a copy with relative paths, also the path in an SQLite URL, joined to a folder."""
        placed = super().beside(folder)
        if self.url is None:
            return placed
        return placed.model_copy(update={"url": _RELATIVE_SQLITE.sub(lambda start: f"{start[1]}{folder}/", self.url)})
