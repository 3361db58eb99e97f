"""Draft of a model that is to be made: a folder with settings and images of good parts, consistent at any time.

`draft.json` is written atomically, images are lossless and appear whole, and the folder is the list of images: after a
crash the draft is as it was before or after the last step.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from edgead.calibration.plan import OFFERED_RATES, comfortable, strictest_rate
from edgead.components.options import Section
from edgead.dataset.groups import by_stem
from edgead.dataset.places import Place, read_ignored, read_region
from edgead.errors import EdgeadError
from edgead.files.atomic import write_whole
from edgead.images.files import ImageError, load_image, write_image
from edgead.images.repeats import Repeats

FEWEST_IMAGES, MAX_IMAGES = 20, 600

Numbers = Annotated[tuple[Annotated[int, Field(ge=0, le=65_535)], ...], Field(min_length=4, max_length=400)]
"""x, y, width and height of a rectangle, or the corners x, y, x, y, ... of a polygon: as `--ignore` takes them."""
Preset = Literal["auto", "default", "fast"]
"""Presets of patchcore; `auto` is the one that suits the machine."""
STATE, IMAGES, LEARNT = "draft.json", "images", "learnt-"
# Files that are remembered as sent; some repeat the part of another, and have no image of their own.
MAX_SENT = 4 * MAX_IMAGES
_MIB = 1 << 20
# Context that records a change, entered right before it, after all checks.
Row = AbstractContextManager[None]
_NO_ROW: Row = nullcontext()


class DraftSettings(Section):
    """Settings by an engineer: number of parts, region, ignored places, and the preset to learn with."""

    wanted: Annotated[int, Field(ge=FEWEST_IMAGES, le=MAX_IMAGES)] = 60
    region: Numbers | None = None
    ignored: Annotated[tuple[Numbers, ...], Field(max_length=50)] = ()
    preset: Preset = "auto"

    def places(self) -> tuple[str | None, list[str]]:
        """Return region and ignored places as texts: x,y,width,height or x,y,x,y,..."""
        region = None if self.region is None else ",".join(map(str, self.region))
        return region, [",".join(map(str, numbers)) for numbers in self.ignored]

    def to_record(self) -> dict[str, Any]:
        """Return the values that the audit records."""
        region, ignored = self.places()
        return {"wanted": self.wanted, "region": region, "ignored": ignored}


class DraftState(Section):
    """State of a draft, kept in `draft.json`: camera, settings, images, last result.

    `revision` counts changes of the settings, so that two people who change them at once notice each other. `learnt`
    names the folder of the last learnt model, and `learnt_from` is the draft's `source` at that time. `left_out` lists
    images that a person took out; their files are kept, so that they can be put back. `sender` is the person who sends
    images. `sent` maps the SHA-256 of each sent file to its image, `files` maps an image to the sent file's name.
    """

    camera: str
    begun_by: str
    begun_at: datetime
    changed_by: str
    revision: int = 0
    drawn: DraftSettings = DraftSettings()
    frame_size: tuple[int, int] | None = None
    next_number: int = 1
    learnt: str | None = None
    learnt_from: str | None = None
    left_out: list[str] = []
    sender: str | None = None
    sent: dict[str, str] = {}
    files: dict[str, str] = {}


def check_places(drawn: DraftSettings, frame_size: tuple[int, int]) -> None:
    """Raise SettingsError if the region or an ignored place does not fit frames of a size (height, width)."""
    ignore: list[Place] = [*drawn.places()[1]]
    if drawn.region is not None:
        _, outside = read_region(drawn.region, frame_size)
        ignore += [] if outside is None else [outside]
    read_ignored(ignore, frame_size, "the camera's frame")


def rates_of(count: int, parts: int) -> dict[str, Any]:
    """Return `parts`, the false-reject rate that so many parts allow, the next stricter rate, and its parts."""
    rate = strictest_rate(count, parts) if count >= FEWEST_IMAGES else None
    stricter = [offered for offered in OFFERED_RATES if rate is None or offered < rate]
    following = stricter[-1] if stricter else None
    counts = range(FEWEST_IMAGES, MAX_IMAGES)
    return {
        "parts": parts,
        "rate": rate,
        "next_rate": following,
        "next_parts": following and next(parts for parts in counts if comfortable(following, parts)),
    }


class DraftError(EdgeadError):
    """Refused step of a draft; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of a draft: number of images, their size in MiB, and the MiB that must stay free on the disk."""

    images: int = MAX_IMAGES
    mib: float = 4096
    free_mib: float = 500


class Draft:
    """A draft that is open; one thread at a time calls its methods.

    `images`: names of the images, oldest first.
    `left_out`: names of images that were taken out and can be put back, the last one at the end.
    """

    def __init__(self, folder: Path, state: DraftState, bounds: Bounds):
        self.folder, self.state, self.bounds = folder, state, bounds
        sizes = {path.name: path.stat().st_size for path in (folder / IMAGES).glob("*.png")}
        self.left_out = [name for name in state.left_out if name in sizes]
        self.images = sorted(sizes.keys() - {*self.left_out})
        self._bytes = sum(sizes.values())
        self._repeats: Repeats | None = None
        self._sizes: dict[str, bytes] = {}

    @property
    def other_sizes(self) -> list[str]:
        """Names of the images of another size than most images have; none if no size is shared by most."""
        for name in self.images:
            if name not in self._sizes:
                with suppress(OSError), (self.folder / IMAGES / name).open("rb") as file:
                    self._sizes[name] = file.read(24)[16:]  # a PNG's width and height
        there = {name: self._sizes[name] for name in self.images if name in self._sizes}
        usual = Counter(there.values()).most_common(1)
        most = usual[0][0] if usual and 2 * usual[0][1] >= len(there) else None
        return [name for name, size in there.items() if most not in (size, None)]

    @property
    def parts(self) -> int:
        """Number of parts: names of sent files may tell that several images show the same part."""
        files = self.files
        named = by_stem([Path(files.get(name, name)) for name in self.images])
        return len({*named.keys}) if named else len(self.images)

    @classmethod
    def begin(cls, folder: Path, camera: str, by: str, bounds: Bounds = Bounds()) -> Draft:  # noqa: B008  frozen
        """Begin a draft; raise DraftError if the folder has one already, or cannot be written."""
        if (folder / STATE).exists():
            raise DraftError(f"camera {camera} has a draft already: go on with it, or discard it")
        discard(folder)  # of writes while an earlier draft was discarded
        now = datetime.now(timezone.utc)
        draft = cls(folder, DraftState(camera=camera, begun_by=by, begun_at=now, changed_by=by), bounds)
        draft._write(draft.state)
        return draft

    @classmethod
    def open(cls, folder: Path, bounds: Bounds = Bounds()) -> Draft | None:  # noqa: B008  frozen
        """Open the draft in a folder, and remove unfinished files; None if there is no draft.

        Raises DraftError: the draft is damaged.
        """
        try:
            state = DraftState.model_validate_json((folder / STATE).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError):
            raise DraftError(f"the draft in {folder} cannot be read: discard it and begin again") from None
        draft = cls(folder, state, bounds)
        draft.tidy()
        return draft

    def tidy(self) -> None:
        """Remove the remains of a stopped learning or write, and replaced results."""
        for path in self.folder.iterdir():
            old = path.name.startswith(LEARNT) and path.name != self.state.learnt
            if old or path.name.startswith("."):
                _remove(path)
        place = self.folder / IMAGES
        for path in place.glob(".*") if place.is_dir() else ():
            _remove(path)

    def add(self, image: np.ndarray, sha256: str | None = None, file: str = "") -> tuple[str | None, str | None]:
        """Store the image of a good part, losslessly, unless it repeats another one.

        `image`: ndarray of shape (H, W, 3), uint8, BGR.
        `sha256`: hash of the file if the image was sent as one; the draft remembers it.
        `file`: name of that file.
        Returns (str or None, str or None): the new image's name, or the name of the image that it repeats.
        Raises DraftError: there is no room, or the image has another size than the draft's images: nothing has changed
            then.
        """
        size = (int(image.shape[0]), int(image.shape[1]))
        self._make_room(image)
        if sha256 is None and self.images and size != self.state.frame_size:
            raise DraftError(
                f"the camera gives {size[1]}x{size[0]} pixels now, the images of this draft have {self._size()}: set "
                "the camera back, or discard the draft"
            )
        name = f"{self.state.next_number:06d}.png"
        repeated = self._seen().take(name, image)
        if repeated is not None:
            if sha256 is not None:
                self._write(self.state.model_copy(update={"sent": self._sent_with(sha256, repeated)}))
            return None, repeated
        path = self.folder / IMAGES / name
        first = self.state.frame_size if self.images else size
        update: dict[str, Any] = {"next_number": self.state.next_number + 1, "frame_size": first}
        if sha256 is not None:
            update["sent"] = self._sent_with(sha256, name)
        if file:
            update["files"] = {**self.files, name: file}
        try:
            self._write(self.state.model_copy(update=update))
            write_image(path, image, durable=True)
        except OSError as error:
            self._seen().forget(name)
            raise _unwritten(path, error) from error
        except DraftError:
            self._seen().forget(name)
            raise
        self.images.append(name)
        self._bytes += path.stat().st_size
        return name, None

    def remove(self, name: str, row: Row = _NO_ROW) -> None:
        """Take an image out; raise DraftError if there is none of that name."""
        self._require(name, self.images)
        with row:
            self._write(self.state.model_copy(update={"left_out": [*self.left_out, name]}))
        self.images.remove(name)
        self.left_out.append(name)
        if self._repeats is not None:
            self._repeats.forget(name)

    def restore(self, name: str, row: Row = _NO_ROW) -> None:
        """Put an image back that was taken out.

        Raises DraftError: no such image was taken out, there is no room, or the image repeats an image of the draft or
            has another size.
        """
        if name not in self.left_out:
            raise DraftError(f"image {name} cannot be put back: it is in the draft, or its room was needed")
        if len(self.images) >= self.bounds.images:
            raise DraftError(self._full())
        try:
            image = load_image(self.folder / IMAGES / name)
            self.check_size(image)
        except ImageError as error:
            raise DraftError(f"image {name} cannot be put back: {error}") from error
        size = self.state.frame_size if self.images else (int(image.shape[0]), int(image.shape[1]))
        repeated = self._seen().take(name, image)
        if repeated is not None:
            raise DraftError(f"image {name} shows the same as {repeated}, which is in the draft")
        try:
            others = [other for other in self.left_out if other != name]
            with row:
                self._write(self.state.model_copy(update={"frame_size": size, "left_out": others}))
        except EdgeadError:
            self._seen().forget(name)
            raise
        self.left_out.remove(name)
        self.images = sorted([*self.images, name])

    def path(self, name: str) -> Path:
        """Return the file of an image, also of one that was taken out; raise DraftError if there is none."""
        self._require(name, [*self.images, *self.left_out])
        return self.folder / IMAGES / name

    def check_size(self, image: np.ndarray) -> None:
        """Raise ImageError if a region or places are drawn, and an image has another size than the draft's images."""
        (height, width), drawn = image.shape[:2], self.state.drawn
        if self.images and (height, width) != self.state.frame_size and (drawn.region or drawn.ignored):
            raise ImageError(
                f"it has {width}x{height} pixels, the images of this draft have {self._size()}, on which places are "
                "drawn: take them out, or leave this image out"
            )

    def begin_sending(self, by: str) -> None:
        """Note who sends images from now on."""
        self._write(self.state.model_copy(update={"sender": by}))

    @property
    def sent(self) -> dict[str, str]:
        """Names of the sent images, also if taken out since, by the SHA-256 of the sent files."""
        there = {*self.images, *self.left_out}
        return {sha256: name for sha256, name in self.state.sent.items() if name in there}

    @property
    def files(self) -> dict[str, str]:
        """Names of the sent files by the names of their images, also of images taken out since."""
        there = {*self.images, *self.left_out}
        return {name: file for name, file in self.state.files.items() if name in there}

    def change(
        self, drawn: DraftSettings, revision: int, by: str, frame_size: tuple[int, int] | None, row: Row = _NO_ROW
    ) -> None:
        """Set region, places, preset and number of parts.

        `revision`: revision that the engineer saw before changing it.
        `frame_size`: height and width of the camera's frames, used while there is no image.
        `row`: records the change.
        Raises DraftError: somebody else has changed the settings meanwhile.
        Raises SettingsError: a place does not fit, see `edgead.dataset.places`.
        """
        if revision != self.state.revision:
            raise DraftError(
                f"{self.state.changed_by} has changed this draft meanwhile: look at it as it is now, and change it then"
            )
        size = self.state.frame_size if self.images else frame_size
        if size is not None:
            check_places(drawn, size)
        update = {"drawn": drawn, "revision": revision + 1, "changed_by": by, "frame_size": size}
        with row:
            self._write(self.state.model_copy(update=update))

    def keep_result(self, name: str, learnt_from: str) -> None:
        """Record the folder of a learnt model and its source, and remove the earlier result."""
        self._write(self.state.model_copy(update={"learnt": name, "learnt_from": learnt_from}))
        self.tidy()

    @property
    def source(self) -> str:
        """Text of images, region, ignored places and preset: if it changes, a newly learnt model would change too."""
        drawn = self.state.drawn
        return f"{' '.join(self.images)} | {drawn.region} | {drawn.ignored}" + f" | {drawn.preset}" * (
            drawn.preset != "auto"
        )

    @property
    def mib(self) -> float:
        return self._bytes / _MIB

    def discard(self) -> None:
        """Remove the draft with all its images."""
        discard(self.folder)

    def _seen(self) -> Repeats:
        """Return the finder of repeated images; it reads the draft's images once, at the first call."""
        if self._repeats is None:
            self._repeats = Repeats()
            for name in self.images:
                try:
                    self._repeats.take(name, load_image(self.folder / IMAGES / name))
                except ImageError as error:
                    raise DraftError(f"{error}; take this image out of the draft") from error
        return self._repeats

    def _sent_with(self, sha256: str, name: str) -> dict[str, str]:
        known = {**self.sent, sha256: name}
        return dict(list(known.items())[-MAX_SENT:])

    def _require(self, name: str, names: Sequence[str]) -> None:
        if name not in names:
            raise DraftError(f"there is no image {name} in the draft of {self.state.camera}: it was taken out")

    def _make_room(self, image: np.ndarray) -> None:
        """Delete left-out images, oldest first, until a new image has room; raise DraftError if it never has."""
        if len(self.images) >= self.bounds.images:
            raise DraftError(self._full())
        while (lack := self._lack(image)) and self.left_out:
            path = self.folder / IMAGES / self.left_out.pop(0)
            self._bytes -= path.stat().st_size if path.exists() else 0
            path.unlink(missing_ok=True)
        if lack:
            raise DraftError(lack)

    def _full(self) -> str:
        return f"the draft holds {len(self.images)} images, as many as it may: take some out, or learn"

    def _lack(self, image: np.ndarray) -> str | None:
        """Return an error text about the limit that one more image would break, or None."""
        if self.mib + image.nbytes / _MIB > self.bounds.mib:
            most = f"at most {self.bounds.mib:.0f}: take some out, or learn"
            return f"the images take {self.mib:.0f} MiB, {most}"
        free_mib = shutil.disk_usage(self.folder).free / _MIB
        if free_mib - image.nbytes / _MIB < self.bounds.free_mib:
            return (
                f"the disk has {free_mib:.0f} MiB left, {self.bounds.free_mib:g} are kept free (`store.free_mib`): "
                "free some space, or discard drafts"
            )
        return None

    def _size(self) -> str:
        height, width = self.state.frame_size or (0, 0)
        return f"{width}x{height}"

    def _write(self, state: DraftState) -> None:
        path = self.folder / STATE
        try:
            write_whole(path, state.model_dump_json(indent=1).encode())
        except OSError as error:
            raise _unwritten(path, error) from error
        self.state = state


def discard(folder: Path) -> None:
    """Remove a draft, also a damaged one; `draft.json` goes first, so that a crash leaves no draft."""
    (folder / STATE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def order_of(draft: Draft, images: Sequence[str], folder: str, one_product: bool = False) -> dict[str, Any]:
    """Make the order for the learning process; see `edgead.adapt.commission.worker.learn_order`."""
    drawn = draft.state.drawn
    return {
        "images": [str((draft.folder / IMAGES / name).absolute()) for name in images],
        "files": draft.files,
        "frame_size": draft.state.frame_size,
        "region": drawn.region,
        "ignored": drawn.ignored,
        "preset": drawn.preset,
        "data": draft.state.camera,
        "one_product": one_product,
        "folder": str((draft.folder / folder).absolute()),
    }


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _unwritten(path: Path, error: OSError) -> DraftError:
    return DraftError(f"{path} cannot be written: {error.strerror or error}; free some space, or discard drafts")
