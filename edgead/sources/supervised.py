"""A camera that is watched: opened again when it fails, and never silent about it."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np

from edgead.config import CameraSection
from edgead.sources import Source, is_live, open_source
from edgead.sources.camera_record import CameraRecord, CameraStatus
from edgead.sources.contract import SourceError, new_id
from edgead.sources.frame_memory import SharedFrame
from edgead.sources.health import HealthWatch
from edgead.sources.mailbox import Mailbox
from edgead.sources.reader_process import ReaderProcess
from edgead.types import Frame
from edgead.uri import without_credentials

__all__ = ["CameraStatus", "SupervisedCamera"]

_POLL_S = 0.1
_JOIN_S = 2.0


class SupervisedCamera:
    """Reads a camera in a process of its own and hands its frames to everyone who subscribes.

    A live camera that fails, hangs or stops is connected to again, after `retry_first_s`, then twice as long each
    time up to `retry_most_s`, shortened at random by up to a half so that cameras do not come back together. A
    recording is read here, each frame once: the next one waits until the last one was taken, and one that fails after
    its first frame stays lost; the built-in line with a rate does not wait. Nothing is judged while no frame comes,
    and no frame is invented.

    Parameters
    ----------
    name : str
        Stands in every frame as its source.
    """

    def __init__(self, name: str, section: CameraSection):
        self.name = name
        self._section = section
        self._record = CameraRecord(name, without_credentials(section.uri), section.frozen_after)
        self._comparing = threading.Lock()
        self._golden: dict[str, Sequence[np.ndarray]] = {}
        self._health = HealthWatch(section.health)
        self._mailboxes: list[Mailbox] = []
        self._ended = False
        self._next_number = 0
        self._recording: Source | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera {name}", daemon=True)

    def start(self) -> None:
        """Begin to read; subscribe before, so as to miss nothing."""
        self._thread.start()

    def subscribe(self) -> Mailbox:
        """Give a mailbox that holds the newest frame that was not taken from it."""
        mailbox = Mailbox()
        self._mailboxes = [*self._mailboxes, mailbox]
        if self._ended:
            mailbox.end()
        return mailbox

    def unsubscribe(self, mailbox: Mailbox) -> None:
        """Put nothing into a mailbox any more: a recording does not wait for it."""
        self._mailboxes = [other for other in self._mailboxes if other is not mailbox]
        mailbox.end()

    def compare_with(self, pipeline: str, golden: Sequence[np.ndarray]) -> None:
        """Measure the camera's health from now on by the golden images of a pipeline's model; see `HealthWatch`.

        Those of other pipelines count as before.

        Parameters
        ----------
        pipeline : str
        golden : sequence of ndarray of shape (H, W, 3), uint8, BGR
        """
        with self._comparing:
            self._golden[pipeline] = golden
            self._health = HealthWatch(self._section.health, [image for one in self._golden.values() for image in one])

    def latest(self) -> Frame | None:
        """The newest frame, whoever took it."""
        return self._record.latest

    def status(self) -> CameraStatus:
        """Tell how the camera is."""
        return self._record.status()

    def close(self) -> None:
        """End its process and its thread; who waits at a mailbox learns of the end."""
        self._stop.set()
        if self._recording is not None:
            self._recording.close()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)
        self._end_mailboxes()

    def _run(self) -> None:
        wait_s = self._section.retry_first_s
        while not self._stop.is_set():
            before = self._record.captured
            try:
                self._serve()
            except SourceError as error:
                self._record.become("lost", str(error))
            except OSError as error:
                self._record.become("lost", f"its reader process cannot be started: {error.strerror}")
            else:
                break
            if self._record.captured > before:
                if not is_live(self._section.uri):
                    break  # it would begin anew, and what was judged would be judged again
                wait_s = self._section.retry_first_s
            self._stop.wait(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, self._section.retry_most_s)
        self._end_mailboxes()

    def _serve(self) -> None:
        """Read until the end of a recording, or until told to stop."""
        if is_live(self._section.uri):
            with closing(ReaderProcess(self._section)) as reader:
                self._serve_live(reader)
            return
        with closing(open_source(self._section.uri, max_megapixels=self._section.max_megapixels)) as self._recording:
            for frame in self._recording:
                self._deliver(replace(frame, source=self.name), waits=not self._recording.live)
                if self._stop.is_set():
                    return
        self._record.become("ended", "the recording has come to its end")

    def _serve_live(self, reader: ReaderProcess) -> None:
        self._record.become("connecting")
        first = self._next_number
        while not self._stop.is_set():
            try:
                frame = reader.newest(_POLL_S)
            finally:  # what it told before its end counts too
                self._record.count_corrupt(reader.take_corrupt())
            if frame is not None:
                self._deliver(self._frame(frame, first), waits=False)
            else:
                self._watch_age()

    def _watch_age(self) -> None:
        status = self._record.status()
        limit_s = self._section.stalled_after_s
        if status.state == "streaming" and status.age_s is not None and status.age_s > limit_s:
            self._record.become("stalled", f"no frame for more than {limit_s:g} s")

    def _frame(self, shared: SharedFrame, first: int) -> Frame:
        captured_at = datetime.fromtimestamp(shared.captured_us / 1e6, timezone.utc)
        # Numbers go on where the last connection ended; a gap is a frame that this process did not get to see.
        number = first + shared.number
        self._next_number = number + 1
        return Frame(shared.image, number, shared.captured_ns, captured_at, self.name, id=new_id(captured_at))

    def _deliver(self, frame: Frame, *, waits: bool) -> None:
        self._record.arrived(frame)
        health = self._health
        if health.is_due(frame):
            self._record.judge(health.check(frame))
        for mailbox in self._mailboxes:
            while waits and not self._stop.is_set() and not mailbox.wait_until_empty(_POLL_S):
                pass
            mailbox.put(frame)

    def _end_mailboxes(self) -> None:
        self._ended = True
        for mailbox in self._mailboxes:
            mailbox.end()
