"""A folder that others fill, such as a camera by FTP: each image once, when it is complete."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edgead.components.options import Section
from edgead.components.uri import without_credentials
from edgead.files.regular_files import MissingFileError, UnreadableFileError, open_regular
from edgead.images.files import ImageError, decode_image
from edgead.sources.arrivals import Arrivals, Signature, signature_of
from edgead.sources.contract import Counters, FrameCounter, SourceError
from edgead.sources.live import Limits
from edgead.sources.registry import register
from edgead.sources.taken_images import Journal, move_into
from edgead.types import Frame

logger = logging.getLogger(__name__)

_POLL_S = 0.1
# Of the time, for looking into the folder: one with very many files is looked into less often. The time of
# those who take the images passes between two looks.
_SHARE = 0.2
_MAX_BYTES = 1 << 30
DONE, FAILED = "done", "failed"


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
            image = None if data is None else decode_image(data, max_megapixels=self._limits.max_megapixels)
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
        return self._frames.capture(image, os.fsencode(name).decode("utf-8", "backslashreplace"))

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
