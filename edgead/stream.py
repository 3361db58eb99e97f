"""Camera loop: takes frames from a source, judges them with a detector and passes the verdicts to sinks."""

from __future__ import annotations

import logging
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from edgead.errors import EdgeadError
from edgead.process.real_time import USUAL, Scheduling
from edgead.profiling.contention import OtherLoad, OtherUse, describe_use
from edgead.profiling.inspector import Inspector
from edgead.profiling.latency import Latency, latency_table
from edgead.sinks import Sink, StopRequested, open_sink
from edgead.sources import Source, open_source
from edgead.sources.settling import SettlingSource
from edgead.types import Frame, Verdict

if TYPE_CHECKING:
    from rich.table import Table

    from edgead.detector import Detector
    from edgead.detector.handover import Succession

logger = logging.getLogger(__name__)

_LAST_SCORES = 500

OnVerdict = Callable[[Frame, Verdict], None]


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """Result of a stream.

    Attributes
    ----------
    frames : int
        Number of frames that got a verdict.
    decisions : dict
        Number of verdicts by decision.
    warming_up : int
        Number of frames without a verdict, as the model needed more frames first.
    captured, dropped, late, unreadable : int, int, int or None, int
        The source's counters: frames captured, replaced by a newer one before they were judged, and too old when handed
        over (None without a limit), and files skipped because they hold no image.
    other_format : int
        Number of frames of another size than the model learnt, whose verdicts may be wrong.
    ended_by : str
        "source" (it ended), "fault", "stop" (the event), a signal's name, or the URI of the sink that demanded it.
    fault : str or None
        Message of the source, detector or sink that failed.
    fps : float or None
        Verdicts per second from the first to the last.
    latency : dict of Latency
        Latency by stage; `total` runs from the capture to the last sink.
    other_use : OtherUse or None
        Load from other processes, including those of the source, and from the hypervisor during the stream.
    advice : str
        Likely cause and next step if nearly all of the last frames were rejected; empty otherwise.
    """

    source: str
    frames: int
    decisions: dict[str, int]
    warming_up: int
    captured: int
    dropped: int
    late: int | None
    unreadable: int
    other_format: int
    ended_by: str
    fault: str | None
    fps: float | None
    latency: dict[str, Latency] = field(repr=False)
    other_use: OtherUse | None = field(repr=False)
    advice: str

    def to_dict(self) -> dict:
        return asdict(self)

    def table(self) -> Table:
        """Format the summary as a table for the terminal."""
        counts = ", ".join(f"{count} {decision}" for decision, count in self.decisions.items())
        late = "" if self.late is None else f", {self.late} late"
        late += f", {self.other_format} of another format than the model learnt" if self.other_format else ""
        late += f", {self.unreadable} unreadable" if self.unreadable else ""
        rate = "" if self.fps is None else f", {self.fps:.1f} frames/s"
        return latency_table(
            self.latency,
            title=f"{self.source}: {self.frames} frames judged: {counts}",
            caption=f"{self.captured} captured, {self.dropped} dropped{late}{rate}; ended by {self.ended_by}"
            f"{describe_use(self.other_use)}",
        )


def run(
    source: Source | str,
    detector: Detector | Succession,
    sinks: Sequence[Sink | str] | str,
    *,
    on_verdict: OnVerdict | None = None,
    stop: threading.Event | None = None,
    late_after_ms: float | None = None,
    scheduling: Scheduling = USUAL,
) -> StreamSummary:
    """Judge every frame of a source until it ends, fails or is stopped.

    Parameters
    ----------
    source : Source or str
        A URI is opened, and closed at the end; a Source stays open.
    detector : Detector or Succession
    sinks : str, or sequence of Sink or str
        A URI is opened, and closed at the end. In the verdict that a sink gets, `sink_ms` is None, as not yet known.
    on_verdict : callable, optional
        Called with each frame and its verdict after the sinks; its time belongs to no stage.
    stop : threading.Event, optional
        Ends the stream after the current frame. The first SIGINT or SIGTERM does the same (and sets this event);
        the second SIGINT interrupts. Signals are handled only if `run` is called from the main thread.
    late_after_ms : float, optional
        Only with a URI: age from which frames count as late when the source hands them over; by default none does.
    scheduling : Scheduling, optional
        Scheduling of the threads of the caller, the network and the kernels while frames are judged; not of sources and
        sinks.

    Raises
    ------
    SettingsError
        The system refuses the scheduling.
    SourceError, SinkError
        A URI cannot be opened. Later failures end the stream and are in `StreamSummary.fault`.
    """
    stop = stop or threading.Event()
    loop, others = _Loop(detector, on_verdict), OtherLoad()
    inspector = loop.inspector
    opened: list[Source | Sink] = []
    with _stop_on_signal(stop) as signals:
        try:
            frames: Source = _opened(source, partial(open_source, stop=stop, late_after_ms=late_after_ms), opened)
            listed = [sinks] if isinstance(sinks, str) else sinks
            open_sinks: list[Sink] = [_opened(sink, open_sink, opened) for sink in listed]
            with scheduling.taken():
                loop.run(frames, open_sinks, stop)
        finally:
            closing_fault = _close_all(opened)
    fault = loop.fault or closing_fault
    counters = frames.counters
    return StreamSummary(
        source=frames.uri,
        frames=sum(inspector.decisions.values()),
        decisions=inspector.decisions,
        warming_up=inspector.warming_up,
        captured=counters.captured,
        dropped=counters.dropped,
        late=counters.late,
        unreadable=counters.unreadable,
        other_format=loop.other_format,
        ended_by="fault" if fault else signals[0] if signals else loop.ended_by,
        fault=fault,
        fps=inspector.recorder.fps,
        latency=inspector.recorder.summary(),
        other_use=others.use(),
        advice=detector.advice(list(loop.scores)),
    )


class _Loop:
    def __init__(self, detector: Detector | Succession, on_verdict: OnVerdict | None):
        self.inspector = Inspector()
        self.ended_by = "stop"
        self.fault: str | None = None
        self.other_format = 0
        self.scores: deque[float] = deque(maxlen=_LAST_SCORES)
        self._session = detector.session()
        self._on_verdict = on_verdict

    def run(self, source: Source, sinks: Sequence[Sink], stop: threading.Event) -> None:
        frames = iter(source)
        while not stop.is_set():
            try:
                frame = next(frames, None)
            except Exception as error:  # noqa: BLE001  the stream's edge: its summary must not be lost
                self.fault = _fault(error)
                return
            if frame is None:
                self.ended_by = "stop" if stop.is_set() else "source"
                return
            goes_on = self._judge(frame, sinks)
            if self.fault is None and isinstance(source, SettlingSource):
                source.settle(frame.id)
            if not goes_on:
                return

    def _judge(self, frame: Frame, sinks: Sequence[Sink]) -> bool:
        """Judge one frame and pass its verdict to the sinks; return False to end the stream."""
        try:
            verdict = self.inspector.judge(frame, self._session.step)
        except Exception as error:  # noqa: BLE001  as above
            self.fault = _fault(error)
            return False
        if verdict is None:
            return True
        self.other_format += self._session.misfit(frame) is not None
        frame = self._session.shown(frame)
        self.scores.append(verdict.image_score)
        goes_on = self._write(frame, verdict, sinks)
        verdict = self.inspector.finish(frame, verdict)
        if self._on_verdict is not None:
            self._on_verdict(frame, verdict)
        return goes_on

    def _write(self, frame: Frame, verdict: Verdict, sinks: Sequence[Sink]) -> bool:
        """Pass the verdict to every sink, even if one fails or demands a stop; return False to end the stream."""
        goes_on = True
        for sink in sinks:
            try:
                sink.write(frame, verdict)
            except StopRequested:
                self.ended_by, goes_on = sink.uri, False
            except Exception as error:  # noqa: BLE001  as above, and the sinks after it get the verdict
                self.fault, goes_on = self.fault or _fault(error), False
        return goes_on


def _fault(error: Exception) -> str:
    """Describe a failure in words; log unforeseen errors with their traceback."""
    if isinstance(error, EdgeadError):
        return str(error)
    logger.error("the stream ends", exc_info=error)
    return f"{type(error).__name__}: {error}"


def _opened(thing: Any, open_uri: Callable[[str], Any], opened: list) -> Any:
    if not isinstance(thing, str):
        return thing
    opened.append(open_uri(thing))
    return opened[-1]


def _close_all(opened: list[Source | Sink]) -> str | None:
    fault = None
    for thing in reversed(opened):
        try:
            thing.close()
        except Exception as error:  # noqa: BLE001  what is behind it is closed too
            fault = fault or _fault(error)
    return fault


@contextmanager
def _stop_on_signal(stop: threading.Event) -> Iterator[list[str]]:
    """Set the stop event on a signal while the block runs; yield the list of the names of signals received."""
    received: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # Python delivers signals to the main thread only
        return

    def on_signal(number: int, _frame: FrameType | None) -> None:
        again = bool(received)
        received.append(signal.Signals(number).name)
        stop.set()
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
