"""Images of verdicts as one ZIP file, made while it is read: no more than one image is held."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from edgead.evidence.folder import ImageFolder
from edgead.evidence.production.formats import Collected


class Kept(NamedTuple):
    """The images of a verdict: where they lie in the store, and what they are called elsewhere."""

    place: str
    name: str
    at: datetime


def size_of(folder: ImageFolder, kept: Iterable[Kept]) -> int:
    """Sum the bytes of images."""
    return sum(folder.size(one.place) for one in kept)


def zip_images(folder: ImageFolder, kept: Iterable[Kept]) -> Iterator[bytes]:
    """Write images into a ZIP file; a piece of it for each verdict.

    JPEGs are stored as they are: they shrink no more. What retention removes meanwhile is left out.
    """
    made = Collected()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for one in kept:
            add_images(archive, folder, one)
            yield made.take()
    yield made.take()


def add_images(archive: zipfile.ZipFile, folder: ImageFolder, one: Kept) -> None:
    """Write the images of one verdict into an archive."""
    for name, data in images_of(folder, one):
        archive.writestr(zipfile.ZipInfo(name, one.at.timetuple()[:6]), data)


def images_of(folder: ImageFolder, one: Kept) -> Iterator[tuple[str, bytes]]:
    """Give the images of a verdict by the name that each has elsewhere; what retention has removed is left out."""
    for name in folder.names(one.place):
        path = folder.path(one.place, name)
        try:
            data = path.read_bytes() if path else None
        except FileNotFoundError:
            data = None
        if data is not None:
            yield f"images/{one.name}/{name}", data
