"""A folder that others fill, such as a camera by FTP: each image once, when it is complete.

Nobody reports a complete file: its size and time show it. An image that was judged is moved out of the folder, or only
noted as taken.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edgead.components.options import Section
from edgead.components.uri import without_credentials
from edgead.files.atomic import write_whole
from edgead.files.regular_files import MissingFileError, UnreadableFileError, open_regular, read_regular
from edgead.images.files import ImageError, decode_image, is_image_path, natural_key
from edgead.sources.contract import Counters, FrameCounter, SourceError
from edgead.sources.live import Limits
from edgead.sources.registry import register
from edgead.types import Frame

logger = logging.getLogger(__name__)

Signature = tuple[int, int, int]
"""Inode, bytes and time of the last change in nanoseconds: what another file, or another state of it, has not."""
JOURNAL = ".edgead-taken"
_MAX_BYTES = 1 << 30
_POLL_S = 0.1
# Of the time, for looking into the folder: one with very many files is looked into less often. The time of
# those who take the images passes between two looks.
_SHARE = 0.2
DONE, FAILED = "done", "failed"


def signature_of(found: os.stat_result) -> Signature:
    return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True, slots=True)
class _Seen:
    signature: Signature
    since_s: float
    order: int


class Arrivals:
    """Looks into a folder again and again, and knows since when each image in it has been as it is.

    Parameters
    ----------
    folder : Path
    stable_s : float
        For so long an image must not have changed to be complete.
    """

    def __init__(self, folder: Path, stable_s: float):
        self._folder, self._stable_s = folder, stable_s
        self._seen: dict[str, _Seen] = {}
        self._refused: set[str] = set()
        self._arrived = 0

    def complete(self, taken: Mapping[str, Signature]) -> list[tuple[str, Signature]]:
        """List the complete images in the order of their arrival, without those that were taken as they are.

        Of those that came between two looks, the one that was changed earlier came earlier.

        Raises
        ------
        OSError
            The folder cannot be read.
        """
        there = self._there()
        now_s = time.monotonic()
        new = [name for name, found in there.items() if taken.get(name) != found]
        before, self._seen = self._seen, {}
        for name in sorted(new, key=lambda name: (name not in before, there[name][2], natural_key(name))):
            seen = before.get(name)
            if seen is None or seen.signature != there[name]:
                order = self._arrived if seen is None else seen.order
                self._arrived += seen is None
                seen = _Seen(there[name], now_s, order)
            self._seen[name] = seen
        ready = [(seen.order, name) for name, seen in self._seen.items() if now_s - seen.since_s >= self._stable_s]
        return [(name, there[name]) for _, name in sorted(ready)]

    def _there(self) -> dict[str, Signature]:
        found: dict[str, Signature] = {}
        refused: set[str] = set()
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if not is_image_path(entry.name):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # it was a name for the time of its upload
                if stat.S_ISREG(status.st_mode):
                    found[entry.name] = signature_of(status)
                else:
                    refused.add(entry.name)
        for name in refused - self._refused:
            logger.warning("%s: is no regular file, it is left alone", self._folder / name)
        self._refused = refused
        return found


class Journal:
    """Which images of a folder were taken, in a file of the folder, so that none is taken again after a restart.

    Attributes
    ----------
    names : dict of Signature
        What was taken, by name; another image under the same name is another one.

    Raises
    ------
    OSError
        The file cannot be read or written, or is none of ours: whoever may write into the folder may have put it there.
    """

    def __init__(self, folder: Path):
        self._file = folder / JOURNAL
        if os.path.lexists(self._file) and not stat.S_ISREG(self._file.lstat().st_mode):
            raise OSError(errno.EINVAL, "is no regular file: remove it", str(self._file))
        known = self._read()
        # Without what is gone: the file does not grow for ever.
        self.names = {name: known[name] for name, found in _files(folder).items() if known.get(name) == found}
        write_whole(self._file, "".join(_line(*one) for one in self.names.items()).encode())

    def add(self, name: str, signature: Signature) -> None:
        with open(self._file, "ab", opener=_open_no_link) as stream:
            stream.write(_line(name, signature).encode())
            stream.flush()
            os.fsync(stream.fileno())
        self.names[name] = signature

    def _read(self) -> dict[str, Signature]:
        try:
            lines = read_regular(self._file, _MAX_BYTES).splitlines()
        except MissingFileError:
            return {}
        except UnreadableFileError as error:
            raise OSError(errno.EINVAL, str(error), str(self._file)) from None
        known = {}
        for line in lines:
            try:
                name, *signature = json.loads(line)
                size, modified, changed = map(int, signature)
                known[name] = (size, modified, changed)
            except (ValueError, TypeError, OverflowError, RecursionError):
                continue  # torn by a loss of power, or not of ours
        return known


def move_into(path: Path, folder: Path) -> Path:
    """Move a file into a folder, which is made, under a name that is free there.

    Raises
    ------
    OSError
        It cannot be moved, or the folder is a link.
    """
    with suppress(FileExistsError):
        folder.mkdir()
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise OSError(errno.ENOTDIR, "is a link or no folder", str(folder))
    free, number = folder / path.name, 1
    while os.path.lexists(free):
        number += 1
        free = folder / f"{path.stem}-{number}{path.suffix}"
    path.rename(free)
    return free


def _open_no_link(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)


def _files(folder: Path) -> dict[str, Signature]:
    with os.scandir(folder) as entries:
        return {entry.name: signature_of(entry.stat(follow_symlinks=False)) for entry in entries}


def _line(name: str, signature: Signature) -> str:
    return json.dumps([name, *signature]) + "\n"  # ASCII: a name need not be UTF-8


class WatchOptions(Section):
    """The images that others put into a folder, as they come: each once, also over restarts."""

    stable_ms: Annotated[
        float,
        Field(ge=0, le=600_000, description="An image is complete once its size and time have not changed for it."),
    ] = 300.0
    after: Annotated[
        Literal["move", "delete", "keep"],
        Field(description="What becomes of one: moved into the folder `done`, deleted, or kept and remembered."),
    ] = "move"


class WatchSource:
    """Frames of the images that come into a folder, in the order of their arrival; the next one waits for its taker.

    An image is taken out of the folder, or noted as taken, before it is handed over: whatever ends this process, none
    is given twice. What is no image goes into the folder `failed`, with the reason beside it. Links, FIFOs and hidden
    files are never opened.

    Raises
    ------
    SourceError
        There is no such folder. While it iterates: the folder is gone, or a file cannot be taken out of it.
    """

    live = False

    def __init__(self, uri: str, options: WatchOptions, limits: Limits):
        self.uri = without_credentials(uri)
        self.folder = Path(uri.partition(":")[2].partition("?")[0])
        if not self.folder.is_dir() or self.folder == Path():
            raise SourceError(f"{self.uri}: there is no such folder")
        self._after, self._limits = options.after, limits
        self._arrivals = Arrivals(self.folder, options.stable_ms / 1e3)
        self._frames = FrameCounter(self.uri, late_after_ms=limits.late_after_ms, max_megapixels=limits.max_megapixels)
        self._closing = threading.Event()

    @property
    def counters(self) -> Counters:
        return Counters(captured=self._frames.captured, late=self._frames.late)

    def __iter__(self) -> Iterator[Frame]:
        try:
            journal = Journal(self.folder) if self._after == "keep" else None
            while not self._ended():
                begin_s = time.monotonic()
                complete = self._arrivals.complete(journal.names if journal else {})
                next_s = begin_s + max(_POLL_S, (time.monotonic() - begin_s) / _SHARE)
                for name, signature in complete:
                    if self._ended():
                        return
                    frame = self._take(name, signature, journal)
                    if frame is not None:
                        yield self._frames.hand_over(frame)
                self._closing.wait(max(0.0, next_s - time.monotonic()))
        except OSError as error:
            raise SourceError(f"{self.uri}: {error.strerror} ({Path(error.filename or self.folder).name})") from None

    def close(self) -> None:
        self._closing.set()

    def _ended(self) -> bool:
        stop = self._limits.stop
        return self._closing.is_set() or (stop is not None and stop.is_set())

    def _take(self, name: str, signature: Signature, journal: Journal | None) -> Frame | None:
        """Take an image out of the folder and read it; None where it changed meanwhile, or is no image."""
        path = self.folder / name
        # Taken out first and read then: what is read is what was taken, whatever comes under its name meanwhile.
        try:
            taken = path if journal is not None else move_into(path, self.folder / DONE)
        except FileNotFoundError:
            return None
        try:
            with open_regular(taken, _MAX_BYTES) as (stream, found):
                data = stream.read(found.st_size) if signature_of(found) == signature else None
            most = self._limits.max_megapixels
            image = None if data is None else decode_image(data, max_megapixels=most, keep_depth=True)
        except MissingFileError:
            return None
        except (UnreadableFileError, ImageError) as error:
            self._fail(taken, str(error))
            return None
        if image is None:
            if taken != path:
                move_into(taken, self.folder)  # it is looked at again
            return None
        if journal is not None:
            journal.add(name, signature)
        elif self._after == "delete":
            os.unlink(taken)
        # A file's name need not be UTF-8, records are.
        name = os.fsencode(name).decode("utf-8", "backslashreplace")
        return self._frames.capture(image, name, keep_depth=True)

    def _fail(self, path: Path, reason: str) -> None:
        moved = move_into(path, self.folder / FAILED)
        # Never over a file that is there, nor by a link.
        with suppress(FileExistsError), moved.with_name(f"{moved.name}.txt").open("x", encoding="utf-8") as stream:
            stream.write(f"{reason}\n")
        logger.error("%s: %s is no image: it is in %s: %s", self.uri, path.name, moved.parent, reason)


register(
    "watch",
    WatchOptions,
    WatchSource,
    schemes={"watch": "watch:/srv/camera?stable_ms=300&after=move"},
    live=True,
    on_demand=True,
)
