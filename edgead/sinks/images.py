"""Overlay images as files: `images:FOLDER?only=reject|review|all&format=jpg|png`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edgead.images.files import write_image
from edgead.images.overlay import draw_overlay
from edgead.serialization import frame_label
from edgead.sinks.contract import CHOICES, BaseSink, write_error
from edgead.sinks.options import Only, SinkOptions, read_path
from edgead.sinks.registry import register
from edgead.types import Frame, Verdict


class ImagesOptions(SinkOptions):
    """Images with heat map and boxes, one for each verdict of the chosen decisions."""

    kind: Literal["images"]
    folder: Annotated[Path, Field(description="Folder for the images.")]
    only: Annotated[Only, Field(description="Verdicts to write; review includes rejects.")] = "all"
    format: Annotated[Literal["jpg", "png"], Field(description="Format of the files.")] = "jpg"


class ImagesSink(BaseSink):
    """Sink that writes one image for each verdict of the chosen decisions.

    An image is written under another name and then renamed, so that neither a kill nor a full disk leaves half a file.
    An existing image of the same frame number, source and decision is replaced.

    `options`: options; with `only` "review", the sink writes reviews and rejects.
    """

    def __init__(self, options: ImagesOptions):
        self.uri = f"images:{options.folder}"
        self._folder = options.folder
        self.decisions = CHOICES[options.only]
        self._format = options.format
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self._folder, error) from error

    def write(self, frame: Frame, verdict: Verdict) -> None:
        if verdict.decision not in self.decisions:
            return
        image = draw_overlay(frame.image, verdict, frame_label(frame))
        path = self._folder / f"{image_name(frame, verdict)}.{self._format}"
        try:
            write_image(path, image)
        except OSError as error:
            raise write_error(path, error) from error

    def close(self) -> None:
        pass


def image_name(frame: Frame, verdict: Verdict) -> str:
    """Return the name of an image's file: frame number, origin, decision."""
    origin = Path(frame.name).stem if frame.name else frame.source.partition("?")[0].rstrip("/")
    if not frame.name and Path(origin).suffix:
        origin = Path(origin).stem
    # The rest may be a URL or hold any character; 60 of them keep the name below the limits of file systems.
    slug = re.sub(r"[^\w.-]+", "-", origin).strip("-.")[-60:]
    return f"{frame.number:06d}_{slug}_{verdict.decision}"


register(
    "images",
    ImagesOptions,
    lambda name, options: ImagesSink(options),
    schemes={"images": "images:FOLDER?only=reject&format=png"},
    read_uri=lambda uri: read_path(uri, ("only", "format"), "folder"),
)
