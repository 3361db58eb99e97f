"""Supervised camera, which is reopened when it fails and always reports its state.

A record has the camera's state, with reason and time, and the counts of frames.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import BaseModel, Field

from edgead.components.uri import without_credentials
from edgead.errors import SettingsError
from edgead.process.real_time import USUAL
from edgead.sources import Source, gives_depth, has_address, is_live, is_on_demand, open_source
from edgead.sources.connection import Lost
from edgead.sources.contract import SourceError, new_id
from edgead.sources.frame_memory import SharedFrame
from edgead.sources.health import HealthWatch
from edgead.sources.line_scan import warn_of_lost
from edgead.sources.live import Mailbox
from edgead.sources.reader_process import ReaderProcess
from edgead.sources.sent_images import RequestSource
from edgead.sources.settings import CameraSection
from edgead.sources.settling import SettlingSource, Unsettled
from edgead.types import Frame, Part

logger = logging.getLogger(__name__)

CameraState = Literal["connecting", "streaming", "stalled", "lost", "ended"]

_RATE_FRAMES = 30  # number of frames from which a frame rate is computed
_POLL_S = 0.1
_JOIN_S = 2.0
_DEAD = "its thread has died, see the log"


class CameraStatus(BaseModel, from_attributes=True):
    """State of a camera, with its counts."""

    name: str
    uri: Annotated[str, Field(description="URI without credentials.")]
    state: Annotated[
        CameraState,
        Field(
            description="stalled: the newest frame is older than `stalled_after_s`; lost: the connection "
            "failed, and the next attempt is pending; ended: a recording that came to its end."
        ),
    ]
    reason: Annotated[str | None, Field(description="Reason of the last trouble.")]
    since: datetime
    fps: Annotated[float | None, Field(description="Frames per second, of the newest 30 frames.")]
    age_s: Annotated[float | None, Field(description="Age of the newest frame.")]
    captured: int
    reconnects: int
    corrupt: Annotated[int, Field(description="Frames that could not be decoded, and files that hold no image.")]
    duplicates: int
    lost_packets: Annotated[int, Field(description="Packets of a GenICam camera that did not arrive.")]
    lost_frames: Annotated[int, Field(description="Frames that a GenICam camera numbered, but that did not arrive.")]
    health: Annotated[tuple[str, ...], Field(description="Faults of the images: dark, bright, blurred, moved, frozen.")]


class CameraRecord:
    """State and counters of one camera; safe from any thread.

    `frozen_after`: number of equal frames in a row from which a camera counts as frozen.
    """

    def __init__(self, name: str, uri: str, frozen_after: int):
        self._name, self._uri, self._frozen_after = name, uri, frozen_after
        self._lock = threading.Lock()
        self._state: CameraState = "connecting"
        self._reason: str | None = None
        self._since = datetime.now(timezone.utc)
        self._captured = self._connections = self._corrupt = self._duplicates = self._equal = 0
        self._lost = Lost()
        self._source: Source | None = None
        self._times_ns: deque[int] = deque(maxlen=_RATE_FRAMES)
        self._latest: Frame | None = None
        self._connected = False
        self._health: tuple[str, ...] = ()

    @property
    def latest(self) -> Frame | None:
        return self._latest

    @property
    def captured(self) -> int:
        return self._captured

    @property
    def lost(self) -> int:
        return self._lost.frames + self.corrupt

    @property
    def corrupt(self) -> int:
        return self._corrupt + (0 if self._source is None else self._source.counters.unreadable)

    def opened(self, source: Source) -> None:
        """Count the files of a source that hold no image as corrupt, besides those of earlier sources."""
        with self._lock:
            self._corrupt, self._source = self.corrupt, source

    def become(self, state: CameraState, reason: str | None = None) -> None:
        """Change the state; without a new reason, the reason of the last trouble stays until frames come."""
        with self._lock:
            if state != self._state:
                self._state, self._since = state, datetime.now(timezone.utc)
            self._reason = reason or self._reason
            if state in ("connecting", "lost"):
                self._connected = False
                self._times_ns.clear()

    def arrived(self, frame: Frame) -> None:
        """Count a received frame, and change the state to "streaming"."""
        before = self._latest
        equal = before is not None and before.image.shape == frame.image.shape and _is_equal(before.image, frame.image)
        with self._lock:
            self._captured += 1
            self._connections += not self._connected
            self._connected = True
            self._equal = self._equal + 1 if equal else 0
            self._duplicates += equal
            self._times_ns.append(frame.captured_ns)
            self._latest = frame
            self._reason = None
            if self._state != "streaming":
                self._state, self._since = "streaming", datetime.now(timezone.utc)

    def count_corrupt(self, number: int) -> None:
        with self._lock:
            self._corrupt += number

    def count_lost(self, lost: Lost) -> None:
        with self._lock:
            self._lost = Lost(self._lost.packets + lost.packets, self._lost.frames + lost.frames)

    def judge(self, health: tuple[str, ...]) -> None:
        """Record the faults found in the newest image."""
        self._health = health

    def status(self) -> CameraStatus:
        with self._lock:
            latest, times_ns = self._latest, self._times_ns
            streaming = self._state == "streaming" and len(times_ns) > 1 and times_ns[-1] > times_ns[0]
            frozen = ("frozen",) if self._equal + 1 >= self._frozen_after else ()
            return CameraStatus(
                name=self._name,
                uri=self._uri,
                state=self._state,
                reason=self._reason,
                since=self._since,
                fps=(len(times_ns) - 1) / (times_ns[-1] - times_ns[0]) * 1e9 if streaming else None,
                age_s=None if latest is None else (time.perf_counter_ns() - latest.captured_ns) / 1e9,
                captured=self._captured,
                reconnects=max(0, self._connections - 1),
                corrupt=self.corrupt,
                duplicates=self._duplicates,
                lost_packets=self._lost.packets,
                lost_frames=self._lost.frames,
                health=(*self._health, *frozen),
            )


def _is_equal(one: np.ndarray, other: np.ndarray) -> bool:
    # A sensor has noise, so an image without a different pixel is the same one. The middle row differs first.
    middle = one.shape[0] // 2
    return bool((one[middle] == other[middle]).all()) and cv2.norm(one, other, cv2.NORM_INF) == 0


__all__ = ["CameraStatus", "SupervisedCamera"]


class SupervisedCamera:
    """Camera read by a separate process, whose frames go to all subscribers.

    A live camera that fails, hangs or stops is reconnected after `retry_first_s`, then after twice as long each time up
    to `retry_most_s`, shortened at random by up to a half so that cameras do not reconnect together. A recording is
    read in this process, each frame once: the next frame waits until the last was taken, and a recording that fails
    after its first frame keeps the state "lost"; the built-in line with a rate does not wait. Without frames nothing is
    judged, and no frame is invented. `status` checks the age of the newest frame and whether the thread is alive, as a
    dead thread cannot report itself.

    `name`: source name in every frame.
    `scheduling`: scheduling of the camera's thread and reader process, from the next connection on. Health is measured
        with normal scheduling after the frame was handed over, so that no frame waits for it.
    """

    def __init__(self, name: str, section: CameraSection):
        self.name = name
        self.scheduling = USUAL
        self._section = section
        self._record = CameraRecord(name, without_credentials(section.uri), section.frozen_after)
        self._comparing = threading.Lock()
        self._golden: dict[str, Sequence[np.ndarray]] = {}
        self._health = HealthWatch(section.health)
        self._mailboxes: list[Mailbox] = []
        self._subscribing = threading.Lock()
        self._unsettled = Unsettled()
        self._ended = False
        self._next_number = self._next_line = 0
        self._connections = 0
        self._recording: Source | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._alive_s: float | None = None
        self._waits = False  # whether the camera waits for its trigger
        self._urgent = False

    @property
    def gives_depth(self) -> bool:
        """Whether the camera may deliver values of more than 8 bits."""
        return gives_depth(self._section.uri)

    def start(self) -> None:
        """Begin to read; to get all frames, subscribe first."""
        thread = threading.Thread(target=self._run, name=f"camera {self.name}", daemon=True)
        thread.start()
        self._thread = thread  # assigned after its start, as a thread that has not started looks dead

    def look_after(self) -> None:
        """Restart the camera's thread if it has died; call this regularly, from one thread."""
        if not self._has_died():
            return
        self._record.become("lost", _DEAD)
        logger.error("camera %s: %s", self.name, _DEAD)
        if self._may_begin():
            self.start()
        else:
            self._end_mailboxes()

    def silent_s(self) -> float:
        """Seconds since a live camera's thread last made progress; 0 while it connects, waits, or is dead."""
        alive_s = self._alive_s
        return time.monotonic() - alive_s if alive_s is not None and not self._has_died() else 0.0

    def subscribe(self) -> Mailbox:
        """Return a new mailbox, which holds the newest frame until it is taken."""
        mailbox = Mailbox()
        with self._subscribing:
            self._mailboxes = [*self._mailboxes, mailbox]
        if self._ended:
            mailbox.end()
        return mailbox

    def unsubscribe(self, mailbox: Mailbox) -> None:
        """End a mailbox: it gets no more frames, and a recording no longer waits for it."""
        with self._subscribing:
            self._mailboxes = [other for other in self._mailboxes if other is not mailbox]
        mailbox.end()

    def settle(self, id: str, *, judged: bool = True) -> None:
        """Confirm, once per mailbox and from any thread, that a frame's verdict is recorded or that it gets none.

        Frames that are never settled are delivered again after a restart, if the source supports that.
        """
        self._unsettled.settle(id, judged=judged)

    def compare_with(self, pipeline: str, golden: Sequence[np.ndarray]) -> None:
        """Set the golden images of a pipeline's model, with which the camera's health is measured; see `HealthWatch`.

        Golden images of other pipelines are kept.

        `golden`: sequence of ndarray of shape (H, W, 3), uint8, BGR.
        """
        with self._comparing:
            self._golden[pipeline] = golden
            self._health = HealthWatch(self._section.health, [image for one in self._golden.values() for image in one])

    def latest(self) -> Frame | None:
        """Newest frame, whether it was taken or not."""
        return self._record.latest

    def offer(self, data: bytes, part: Part) -> Frame:
        """Decode the bytes of a sent image file and deliver its frame to all subscribers.

        Raises SettingsError: the source takes no sent images, or is lost.
        Raises ImageError: the bytes are no image, or one that is too large.
        """
        source = self._recording
        if not isinstance(source, RequestSource):
            raise SettingsError(f"camera {self.name} takes no images: that needs a camera with `uri: request:`")
        return source.offer(data, part)

    @property
    def lost(self) -> int:
        """Number of frames that did not arrive, or could not be decoded."""
        return self._record.lost

    def status(self) -> CameraStatus:
        """Report the state of the camera."""
        if self._has_died():
            self._record.become("lost", _DEAD)
        elif is_live(self._section.uri) and not (self._waits or is_on_demand(self._section.uri)):
            self._watch_age()
        return self._record.status()

    def close(self) -> None:
        """End the process and the thread; consumers that wait at a mailbox get the end of the stream."""
        self._stop.set()
        if self._recording is not None:
            self._recording.close()
        if self._thread is not None:
            self._thread.join(_JOIN_S)
        self._end_mailboxes()

    def _has_died(self) -> bool:
        """Whether the thread has ended though its work is not done."""
        thread = self._thread
        return thread is not None and not (thread.is_alive() or self._ended or self._stop.is_set())

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
            except Exception as error:  # noqa: BLE001  a camera whose thread ends in silence is seen by nobody
                logger.exception("camera %s failed", self.name)
                # Not quoted, as an unforeseen error may hold the URI with its password.
                self._record.become("lost", f"the program failed ({type(error).__name__}), see the log")
            else:
                break
            finally:
                self._alive_s = None
            if not self._may_begin():
                break
            if self._record.captured > before:
                wait_s = self._section.retry_first_s
            self._stop.wait(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, self._section.retry_most_s)
        self._end_mailboxes()

    def _may_begin(self) -> bool:
        """Whether the source may be reopened; not a recording that has begun, as its frames would be judged twice."""
        return is_live(self._section.uri) or self._record.captured == 0

    def _serve(self) -> None:
        """Read frames and deliver them until the end of a recording, or until stopped."""
        self._take_place()
        if has_address(self._section.uri):
            with closing(ReaderProcess(self._section)) as reader:
                self._serve_live(reader)
            return
        first, first_line, live = self._next_number, self._next_line, is_live(self._section.uri)
        # The stop event is passed, as `close` may come before there is a source to close.
        source = open_source(self._section.uri, stop=self._stop, max_megapixels=self._section.max_megapixels)
        settling = source if isinstance(source, SettlingSource) else None
        if settling is not None:
            settling.holds = True
        self._record.opened(source)
        with closing(source) as self._recording:
            if is_on_demand(self._section.uri):
                self._record.become("streaming")
            for frame in self._recording:
                self._next_number = first + frame.number + 1
                numbered = replace(frame, source=self.name, number=first + frame.number)
                self._deliver(self._with_lines(numbered, first_line), waits=not self._recording.live, settling=settling)
                if self._stop.is_set():
                    return
        if live:
            raise SourceError("the stream has come to its end")
        self._record.become("ended", "the recording has come to its end")

    def _take_place(self) -> None:
        if self.scheduling or self._urgent:  # otherwise keep the scheduling that the program was started with
            self.scheduling.give()
        self._urgent = bool(self.scheduling)

    def _serve_live(self, reader: ReaderProcess) -> None:
        self._record.become("connecting")
        first, first_line = self._next_number, self._next_line
        self._connections += 1
        self._waits = False
        last: int | None = None
        while not self._stop.is_set():
            self._alive_s = time.monotonic()
            try:
                frame = reader.newest(_POLL_S)
            finally:  # messages before its end count too
                self._record.count_corrupt(reader.take_corrupt())
                self._record.count_lost(reader.take_lost())
            self._waits = reader.waits
            if reader.waits:
                self._record.become("streaming")
            if frame is not None:
                numbered = self._with_lines(self._frame(frame, first), first_line)
                warn_of_lost(f"camera {self.name}", numbered.lines)  # the reader's own log goes nowhere
                self._deliver(numbered, waits=False, unseen=0 if last is None else numbered.number - last - 1)
                last = numbered.number

    def _watch_age(self) -> None:
        status = self._record.status()
        limit_s = self._section.stalled_after_s
        if status.state == "streaming" and status.age_s is not None and status.age_s > limit_s:
            self._record.become("stalled", f"no frame for more than {limit_s:g} s")

    def _frame(self, shared: SharedFrame, first: int) -> Frame:
        captured_at = datetime.fromtimestamp(shared.captured_us / 1e6, timezone.utc)
        # Numbers continue from the last connection; a gap is a frame that this process has missed.
        number = first + shared.number
        self._next_number = number + 1
        frame = Frame(shared.image, number, shared.captured_ns, captured_at, self.name, id=new_id(captured_at))
        return replace(frame, connection=self._connections, lines=shared.lines)

    def _with_lines(self, frame: Frame, first: int) -> Frame:
        """Continue the numbers of a frame's lines from the last connection, as frame numbers continue too."""
        lines = frame.lines
        if lines is None:
            return frame
        self._next_line = first + lines.first_line + len(frame.image)
        return replace(frame, lines=replace(lines, first_line=first + lines.first_line))

    def _deliver(self, frame: Frame, *, waits: bool, settling: SettlingSource | None = None, unseen: int = 0) -> None:
        self._record.arrived(frame)
        mailboxes = self._mailboxes
        if settling is not None:
            self._unsettled.add(frame.id, settling, len(mailboxes))
        for mailbox in mailboxes:
            while waits and not self._stop.is_set() and not mailbox.wait_until_empty(_POLL_S):
                pass
            mailbox.put(frame, unseen)
        self._check_health(frame)

    def _check_health(self, frame: Frame) -> None:
        health = self._health
        if not health.is_due(frame):
            return
        if self._urgent:
            USUAL.give()  # health may wait, the frame that was handed over may not
        try:
            self._record.judge(health.check(frame))
        except Exception:  # noqa: BLE001  it warns beside the inspection, and must not take its frames away
            logger.exception("camera %s: its health cannot be checked", self.name)
        finally:
            if self._urgent:
                self.scheduling.give()

    def _end_mailboxes(self) -> None:
        self._ended = True
        for mailbox in self._mailboxes:
            mailbox.end()
