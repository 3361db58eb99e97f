"""Source of a folder that other programs fill, such as a camera by FTP: each image once, as soon as it is complete.

A file is complete when its size and time stay unchanged. An image is moved away, or recorded as taken, when it is
settled: until then it is delivered again after a restart.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated, Any, Literal

from pydantic import Field

from edgead.components.options import Section
from edgead.components.uri import without_credentials
from edgead.files.atomic import write_whole
from edgead.files.regular_files import MissingFileError, UnreadableFileError, open_regular, read_regular
from edgead.images.files import ImageError, decode_image, is_image_path, natural_key
from edgead.sources.contract import Counters, FrameCounter, SourceError
from edgead.sources.live import LiveLimits
from edgead.sources.registry import register
from edgead.types import Frame

logger = logging.getLogger(__name__)

Signature = tuple[int, int, int]
"""Inode, bytes and time of the last change in nanoseconds: what another file, or another state of it, has not."""
JOURNAL = ".edgead-taken"
_MAX_BYTES = 1 << 30
_POLL_S = 0.1
# Share of the time for scanning the folder, so that one with very many files is scanned less often. Time in which
# images are processed passes between two scans.
_SHARE = 0.2
TAKEN, DONE, FAILED = "taken", "done", "failed"
READING = ".edgead-reading"
_MOST_READINGS = 2
_MOST_NAMED = 10  # names in one line of the log


def signature_of(found: os.stat_result) -> Signature:
    return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True, slots=True)
class _Seen:
    signature: Signature
    since_s: float
    order: int


class FolderScanner:
    """Scanner of a folder, which remembers since when each image is unchanged.

    `stable_s`: time without changes after which an image is complete.
    """

    def __init__(self, folder: Path, stable_s: float):
        self._folder, self._stable_s = folder, stable_s
        self._seen: dict[str, _Seen] = {}
        self._refused: set[str] = set()
        self._arrived = 0

    def complete(self, taken: Mapping[str, Signature]) -> list[tuple[str, Signature]]:
        """List the complete images in order of arrival, except images that were taken and have not changed since.

        Images that arrived between two scans are ordered by their time of change.

        Raises OSError: the folder cannot be read.
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
                    continue  # gone: a temporary name during the upload
                if stat.S_ISREG(status.st_mode):
                    found[entry.name] = signature_of(status)
                else:
                    refused.add(entry.name)
        for name in refused - self._refused:
            logger.warning("%s: is no regular file, it is left alone", self._folder / name)
        self._refused = refused
        return found


class Journal:
    """Record of the images taken from a folder, in a file in it, so that no image is taken again after a restart.

    `names`: signature of each taken image by name; a changed file under the same name is a new image.
    Raises OSError: the file cannot be read or written, or another user has put one there.
    """

    def __init__(self, folder: Path):
        self._file = folder / JOURNAL
        if os.path.lexists(self._file) and not stat.S_ISREG(self._file.lstat().st_mode):
            raise OSError(errno.EINVAL, "is no regular file: remove it", str(self._file))
        known = self._read()
        # Without images that are gone, so that the file does not grow without bound.
        self.names = {name: known[name] for name, found in _files(folder).items() if known.get(name) == found}
        write_whole(self._file, "".join(_line(*one) for one in self.names.items()).encode())

    def begin(self, name: str, signature: Signature) -> None:
        """Mark an image as taken, in memory only."""
        self.names[name] = signature

    def add(self, name: str, signature: Signature) -> None:
        """Append a settled image to the file, so that it is not taken again."""
        with open(self._file, "ab", opener=_open_no_link) as stream:
            stream.write(_line(name, signature).encode())
            stream.flush()
            os.fsync(stream.fileno())

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
                continue  # torn by a power cut, or written by others
        return known


class ReadingMark:
    """File that names the image being read, so that an image which crashes the program twice is skipped.

    Without it, such an image would be read and crash the program at each start.
    """

    def __init__(self, folder: Path):
        self._file = folder / READING
        self._suspect: Signature | None = None
        self._times = 0
        with suppress(MissingFileError, UnreadableFileError, ValueError, TypeError, OverflowError, RecursionError):
            inode, size, changed, times = map(int, json.loads(read_regular(self._file, _MAX_BYTES)))
            self._suspect, self._times = (inode, size, changed), times

    def gives_up(self, signature: Signature) -> bool:
        return signature == self._suspect and self._times >= _MOST_READINGS

    @contextmanager
    def reading(self, signature: Signature) -> Iterator[None]:
        """Write the mark for the block that reads an image, and remove it afterwards."""
        times = self._times + 1 if signature == self._suspect else 1
        try:
            self._make_free()
            with self._file.open("x") as stream:
                json.dump([*signature, times], stream)
        except OSError as error:  # a full disk, or a change by other users, must not end a camera
            logger.warning("%s: cannot be written (%s): an image is read without it", self._file, error.strerror)
        try:
            yield
        finally:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)

    def _make_free(self) -> None:
        """Remove a file, or rename a folder, that has the mark's name: another program's file is never written to."""
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(self._file.lstat().st_mode):
                self._file.rename(self._file.with_name(f"{READING}-{secrets.token_hex(8)}"))
            else:
                self._file.unlink()


def own_folder(folder: Path) -> Path:
    """Make a folder if it does not exist, and return its path.

    Raises OSError: the folder cannot be made, or is a link.
    """
    with suppress(FileExistsError):
        folder.mkdir()
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise OSError(errno.ENOTDIR, "is a link or no folder", str(folder))
    return folder


def move_into(path: Path, folder: Path) -> Path:
    """Move a file into a folder, made if needed, under a free name; return the new path.

    Raises OSError: the file cannot be moved, or the folder is a link.
    """
    own_folder(folder)
    free, number = folder / path.name, 1
    while os.path.lexists(free):
        number += 1
        free = folder / f"{path.stem}-{number}{path.suffix}"
    path.rename(free)
    return free


def _held(folder: Path) -> AbstractContextManager[Any]:
    """Lock a folder for the block that takes its images; the kernel releases the lock if the process is killed."""
    if os.name == "nt":  # Windows has no such locks
        return nullcontext()
    from edgead.files.folder_lock import FolderLock, HeldFolderError

    try:
        return closing(FolderLock(folder, "each would take the other's images; stop that one, or name another folder"))
    except HeldFolderError as error:
        raise SourceError(str(error)) from None


def _open_no_link(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)


def _files(folder: Path) -> dict[str, Signature]:
    with os.scandir(folder) as entries:
        return {entry.name: signature_of(entry.stat(follow_symlinks=False)) for entry in entries}


def _line(name: str, signature: Signature) -> str:
    return json.dumps([name, *signature]) + "\n"  # ASCII, as a name may be invalid UTF-8


class WatchOptions(Section):
    """Images that other programs put into a folder, as they come; none is lost, also over restarts."""

    stable_ms: Annotated[
        float,
        Field(ge=0, le=600_000, description="Time without a change of size and time after which an image is complete."),
    ] = 300.0
    after: Annotated[
        Literal["move", "delete", "keep"],
        Field(
            description="Handling of an image whose verdict is recorded: move it to the folder `done`, delete it, or "
            "keep and remember it. Without a verdict, as in a pause or a fault, it is moved and never deleted."
        ),
    ] = "move"


@dataclass(frozen=True, slots=True)
class _Held:
    path: Path
    name: str
    signature: Signature


class WatchSource:
    """Source of the images that arrive in a folder, in order; the next one waits until the last was taken.

    Unless images are to stay in place, an image is in the folder `taken` until its frame is settled; see
    `SettlingSource`. Images that an earlier process left there come first, so that every image is delivered until it
    is settled. Files that are no images are moved to the folder `failed`, with the reason in a file beside them. Links,
    FIFOs and hidden files are never opened.

    `holds`: see `SettlingSource`.
    Raises SourceError: the folder does not exist. During iteration: another process takes its images, the folder is
        gone, or a file cannot be moved out of it.
    """

    live = False

    def __init__(self, uri: str, options: WatchOptions, limits: LiveLimits):
        self.uri = without_credentials(uri)
        self.folder = Path(uri.partition(":")[2].partition("?")[0])
        if not self.folder.is_dir() or self.folder == Path():
            raise SourceError(f"{self.uri}: there is no such folder")
        self.holds = False
        self._after, self._limits = options.after, limits
        self._scanner = FolderScanner(self.folder, options.stable_ms / 1e3)
        self._frames = FrameCounter(self.uri, late_after_ms=limits.late_after_ms, max_megapixels=limits.max_megapixels)
        self._closing = threading.Event()
        self._journal: Journal | None = None
        self._unreadable = 0
        self._held: dict[str, _Held] = {}
        self._settled: SimpleQueue[tuple[str, bool]] = SimpleQueue()
        self._putting = threading.Lock()

    @property
    def counters(self) -> Counters:
        return Counters(captured=self._frames.captured, late=self._frames.late, unreadable=self._unreadable)

    def __iter__(self) -> Iterator[Frame]:
        with _held(self.folder):
            yield from self._images()

    def _images(self) -> Iterator[Frame]:
        try:
            self._journal = Journal(self.folder) if self._after == "keep" else None
            mark = ReadingMark(self.folder)
            for path, signature in self._left_over():
                if self._ended():
                    return
                yield from self._given(self._read(path, path.name, signature, mark))
            while not self._ended():
                begin_s = time.monotonic()
                complete = self._scanner.complete(self._journal.names if self._journal else {})
                next_s = begin_s + max(_POLL_S, (time.monotonic() - begin_s) / _SHARE)
                for name, signature in complete:
                    if self._ended():
                        return
                    yield from self._given(self._take(name, signature, mark))
                self._closing.wait(max(0.0, next_s - time.monotonic()))
                self._put_away()
        except OSError as error:
            raise SourceError(f"{self.uri}: {error.strerror} ({Path(error.filename or self.folder).name})") from None

    def settle(self, id: str, *, judged: bool = True) -> None:
        """Settle a frame; its image is moved away soon, by the iterating thread as long as there is one."""
        self._settled.put((id, judged))
        if self._closing.is_set():
            self._put_away_last()

    def close(self) -> None:
        self._closing.set()
        self._put_away_last()

    def _ended(self) -> bool:
        stop = self._limits.stop
        return self._closing.is_set() or (stop is not None and stop.is_set())

    def _given(self, frame: Frame | None) -> Iterator[Frame]:
        if frame is not None:
            yield self._frames.hand_over(frame)
            if not self.holds:
                self._settled.put((frame.id, True))
        self._put_away()

    def _left_over(self) -> list[tuple[Path, Signature]]:
        """List the images that an earlier process took and did not settle, in the order in which it took them."""
        if not os.path.lexists(self.folder / TAKEN):
            return []
        folder = own_folder(self.folder / TAKEN)
        found = [(path, path.lstat()) for path in folder.iterdir() if is_image_path(path.name)]
        found = [(path, status) for path, status in found if stat.S_ISREG(status.st_mode)]
        found.sort(key=lambda one: (one[1].st_ctime_ns, natural_key(one[0].name)))
        if found:
            names = ", ".join(path.name for path, _ in found[:_MOST_NAMED])
            more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
            text = "%s: were taken before the last end and are not known to have a verdict, they come again: %s%s"
            logger.warning(text, self.uri, names, more)
        return [(path, signature_of(status)) for path, status in found]

    def _take(self, name: str, signature: Signature, mark: ReadingMark) -> Frame | None:
        """Move an image out of the folder and read it; None if it changed meanwhile, or is no image."""
        path = self.folder / name
        # Moved first, so that the file read is the file taken, even if another one arrives under its name.
        if self._journal is None:
            if self._after == "move":
                own_folder(self.folder / DONE)  # made first: no image is taken that could not be moved there
            try:
                path = move_into(path, self.folder / TAKEN)
            except FileNotFoundError:
                return None
        return self._read(path, name, signature, mark)

    def _read(self, path: Path, name: str, signature: Signature, mark: ReadingMark) -> Frame | None:
        if mark.gives_up(signature):
            self._fail(path, "the program ended each time that it read this image")
            return None
        try:
            with mark.reading(signature), open_regular(path, _MAX_BYTES) as (stream, found):
                data = stream.read(found.st_size) if signature_of(found) == signature else None
                most = self._limits.max_megapixels
                image = None if data is None else decode_image(data, max_megapixels=most, keep_depth=True)
            # A file's name may be invalid UTF-8, which records must not be.
            shown = os.fsencode(name).decode("utf-8", "backslashreplace")
            frame = None if image is None else self._frames.capture(image, shown, keep_depth=True)
        except MissingFileError:
            return None
        except (UnreadableFileError, ImageError, SourceError) as error:
            self._fail(path, str(error))
            return None
        stays = path.parent == self.folder
        if frame is None:
            if not stays:
                move_into(path, self.folder)  # to be scanned again
            return None
        if self._journal is not None and stays:
            self._journal.begin(name, signature)
        self._held[frame.id] = _Held(path, name, signature)
        return frame

    def _put_away(self) -> None:
        with self._putting, suppress(Empty):
            while True:
                id, judged = self._settled.get_nowait()
                held = self._held.pop(id, None)
                if held is None:
                    continue
                with suppress(FileNotFoundError):  # another process has moved it
                    if self._journal is not None and held.path.parent == self.folder:
                        self._journal.add(held.name, held.signature)
                    elif self._after == "delete" and judged:
                        held.path.unlink()
                    else:
                        move_into(held.path, self.folder / DONE)

    def _put_away_last(self) -> None:
        """Move away settled images after the iteration has ended; log errors, since no caller would get them."""
        try:
            self._put_away()
        except OSError as error:
            logger.error("%s: is judged again after a restart: %s", self.uri, error)

    def _fail(self, path: Path, reason: str) -> None:
        self._frames.captured += 1  # a gap in the numbers, as with files that are read in a row
        self._unreadable += 1
        moved = move_into(path, self.folder / FAILED)
        # Never over an existing file, nor through a link.
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
