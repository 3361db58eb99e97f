"""Overlay pictures as files: `images:FOLDER?only=reject|review|all&format=jpg|png`."""

from __future__ import annotations

import re
from pathlib import Path

from edgead.images.files import write_image
from edgead.images.overlay import draw_overlay
from edgead.serialization import frame_label
from edgead.sinks.contract import CHOICES, SinkError, write_error
from edgead.types import Frame, Verdict

_FORMATS = ("jpg", "png")


class ImagesSink:
    """Writes one picture for each verdict of the chosen decisions.

    A picture is written under another name and renamed, so that neither a kill nor a full disk leaves half of one.
    A picture of the same frame number, source and decision that lies there already is replaced.

    Parameters
    ----------
    folder : str
    only : {"all", "review", "reject"}
        "review" writes reviews and rejects.
    format : {"jpg", "png"}
    """

    def __init__(self, folder: str, *, only: str = "all", format: str = "jpg"):
        self.uri = f"images:{folder}"
        if only not in CHOICES or format not in _FORMATS:
            raise SinkError(f"{self.uri}: only is all, review or reject, and format is jpg or png")
        self._folder = Path(folder)
        self.decisions = CHOICES[only]
        self._format = format
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(folder, error) from error

    def write(self, frame: Frame, verdict: Verdict) -> None:
        if verdict.decision not in self.decisions:
            return
        picture = draw_overlay(frame.image, verdict, frame_label(frame))
        path = self._folder / f"{picture_name(frame, verdict)}.{self._format}"
        try:
            write_image(path, picture)
        except OSError as error:
            raise write_error(path, error) from error

    def close(self) -> None:
        pass


def picture_name(frame: Frame, verdict: Verdict) -> str:
    """Name a picture: frame number, where it came from, decision."""
    origin = Path(frame.name).stem if frame.name else frame.source.partition("?")[0].rstrip("/")
    if not frame.name and Path(origin).suffix:
        origin = Path(origin).stem
    # What is left may be a URL or hold any character; 60 of them keep the name below the limits of file systems.
    slug = re.sub(r"[^\w.-]+", "-", origin).strip("-.")[-60:]
    return f"{frame.number:06d}_{slug}_{verdict.decision}"
