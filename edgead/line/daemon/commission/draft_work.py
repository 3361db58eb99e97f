"""Work on the draft of one camera: collecting good parts beside the line, and learning in a process.

`DraftWork` also decides which steps cannot run at the same time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from edgead.errors import EdgeadError
from edgead.images.files import ImageError, as_bgr, decode_image
from edgead.images.verdict import ImageVerdict
from edgead.line.daemon.broadcast import WantedFrame
from edgead.line.daemon.commission.draft import (
    FEWEST_IMAGES,
    LEARNT,
    Draft,
    DraftError,
    DraftSettings,
    Row,
    order_of,
    rates_of,
)
from edgead.line.daemon.commission.trial import TrialModel
from edgead.line.site.schema import Site, current
from edgead.process.restarting_thread import RestartingThread
from edgead.sources import is_on_demand
from edgead.types import Frame

logger = logging.getLogger(__name__)

Mode = Literal["off", "trigger", "interval"]

_POLL_S = 0.2
_LOW_PRIORITY = 15
_REAP_S = 5.0
# Longer than a step of any stage takes on a core of its own.
_NO_STEP_S = 60.0
MODEL, MAPS, RESULT = "model", "maps", "result.json"


def give_way() -> None:
    """Give the calling thread a lower priority than judging threads have: on Linux each thread has its own."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOW_PRIORITY)


class Collector:
    """Collector of frames in its own thread, until it is stopped or `take` returns False.

    `take`: called with a frame; returning False ends the collecting.
    `every_s`: interval of the frames in seconds; by default every frame that a trigger chooses is taken.
    """

    def __init__(self, line: CameraLine, take: Callable[[Frame], bool], every_s: float | None):
        self._line, self._take, self.every_s = line, take, every_s
        self._stop = threading.Event()
        self._thread = RestartingThread("collect", self._run)
        self._thread.start()

    @property
    def mode(self) -> Mode:
        return "trigger" if self.every_s is None else "interval"

    def stop(self, within_s: float = 2.0) -> None:
        """Stop collecting, and wait for the thread for at most `within_s`."""
        self._stop.set()
        self._thread.join(within_s)

    def _run(self) -> None:
        give_way()
        frames = self._wanted() if self.every_s is None else self._timed(self.every_s)
        for frame in frames:
            if not self._take(frame):
                return

    def _timed(self, every_s: float) -> Iterator[Frame]:
        last = None
        while not self._stop.is_set():
            frame = self._line.newest()
            if frame is not None and frame is not last:
                last = frame
                yield frame
            self._stop.wait(every_s)

    def _wanted(self) -> Iterator[Frame]:
        wanted = self._line.wanted()
        while not self._stop.is_set():
            try:
                camera, frame = wanted.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if camera == self._line.name:
                yield frame


class Inspecting(Protocol):
    """Interface of the daemon that commissioning uses."""

    @property
    def site(self) -> Site: ...
    @property
    def cameras(self) -> Mapping[str, Any]: ...
    @property
    def pipelines(self) -> Mapping[str, Any]: ...
    @property
    def store(self) -> Any: ...
    def subscribe_wanted(self) -> queue.Queue[WantedFrame]: ...


class CameraLine:
    """Camera of a draft, looked up by name each time: a reload may exchange it."""

    def __init__(self, daemon: Inspecting, name: str):
        self._daemon, self.name = daemon, name

    def newest(self) -> Frame | None:
        """Return the newest frame; None while the camera is lost."""
        camera = self._daemon.cameras.get(self.name)
        return None if camera is None or camera.status().state == "lost" else camera.latest()

    def fresh(self) -> Frame:
        """Return the newest frame; raise DraftError if the camera gives none now."""
        camera = self._daemon.cameras.get(self.name)
        if camera is None:
            raise DraftError(f"there is no camera {self.name} any more: the site file has changed")
        status, frame = camera.status(), camera.latest()
        if status.state in ("lost", "stalled", "connecting") or frame is None:
            reason = f": {status.reason}" if status.reason else ""
            raise DraftError(f"camera {self.name} gives no frames, it is {status.state}{reason}: see System")
        return frame

    def decode(self, data: bytes) -> np.ndarray:
        """Decode a sent image file; raise ImageError if it is none, or has another size than the camera's frames."""
        section = current(self._daemon.site.cameras, self.name, "camera")
        image, frame = decode_image(data, max_megapixels=section.max_megapixels), self.newest()
        if frame is not None and not is_on_demand(section.uri):
            given, (height, width) = image.shape[:2], frame.image.shape[:2]
            if given != (height, width):
                raise ImageError(f"it has {given[1]}x{given[0]} pixels, camera {self.name} gives {width}x{height}")
        return image

    def wanted(self) -> queue.Queue[WantedFrame]:
        """Return a queue of the frames, of all cameras, that triggers choose from now on."""
        return self._daemon.subscribe_wanted()

    def pipelines(self) -> list[dict[str, Any]]:
        """List the pipelines that judge the camera, with `budget_ms`."""
        sections = self._daemon.site.pipelines
        return [
            {"name": name, "budget_ms": section.budget_ms}
            for name, section in sections.items()
            if section.camera == self.name
        ]


@dataclass(frozen=True, slots=True)
class LearningStep:
    """Progress of learning: the current stage, and how much of this stage is done."""

    stage: str = "begin"
    done: int = 0
    total: int = 0


class LearningProcess:
    """Process that runs `edgead.adapt.commission.worker` until it ends or is cancelled.

    `order`: see `edgead.adapt.commission.worker.learn_order`.
    `log`: file for the process's output about an unforeseen failure.
    `ended`: called once, from another thread, with the problem or, on success, None; not called after `cancel`.
    Raises OSError: the process cannot be started, or the log not written.
    """

    def __init__(self, order: dict[str, Any], log: Path, ended: Callable[[str | None], None]):
        self.progress = LearningStep()
        self.two_products: list[str] = []
        self._stepped_s, self._used_s = time.monotonic(), 0.0
        self._ended, self._log = ended, log
        self._cancelled = threading.Event()
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from edgead.adapt.commission.worker import main; main()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
            )
        # A daemon: its end must not wait for a process that learns.
        self._thread = threading.Thread(target=self._follow, args=(order,), name="commission", daemon=True)
        self._thread.start()

    @property
    def waits(self) -> bool:
        """Whether it waits for busier processes: no step for a minute, and less than half a core meanwhile."""
        stood_s = time.monotonic() - self._stepped_s
        return stood_s > _NO_STEP_S and _cpu_s(self._process.pid) - self._used_s < stood_s / 2

    def cancel(self) -> None:
        """End the process; `Draft.tidy` removes its unfinished files."""
        self._cancelled.set()
        self._process.kill()
        self._process.wait(_REAP_S)
        self._thread.join(_REAP_S)

    def _follow(self, order: dict[str, Any]) -> None:
        try:
            problem = self._hear(order)
        except Exception:  # noqa: BLE001  the edge of a thread: the process ended early, or sent something unforeseen
            logger.exception("what the process that learns says is not understood")
            self._process.kill()
            problem = ""
        code = self._process.wait()
        if not self._cancelled.is_set():
            self._ended(self._why(code) if problem == "" else problem)

    def _hear(self, order: dict[str, Any]) -> str | None:
        """Send the worker its order, read its messages; return a problem, None for success, "" without either."""
        problem: str | None = ""
        assert self._process.stdin is not None and self._process.stdout is not None
        # Its input stays open while it works: the process ends when this one does.
        with self._process.stdin as orders, self._process.stdout as lines:
            orders.write(json.dumps(order).encode() + b"\n")
            orders.flush()
            for line in lines:
                said = json.loads(line)
                if "stage" in said:
                    self._stepped_s, self._used_s = time.monotonic(), _cpu_s(self._process.pid)
                    self.progress = LearningStep(said["stage"], said["done"], said["total"])
                else:
                    problem, self.two_products = said.get("problem"), said.get("two_products", [])
        return problem

    def _why(self, code: int) -> str:
        if code == -signal.SIGKILL:
            return "the system ended the process that learns, as it does where memory is short: learn from fewer parts"
        return f"the process that learns failed (exit code {code}): {self._log} says why"


def _cpu_s(pid: int) -> float:
    """Return the core seconds that a process has used; infinite if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.inf
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime


class DraftWork:
    """Work on one draft; any thread may call its methods."""

    def __init__(self, draft: Draft, line: CameraLine):
        self._draft, self._line = draft, line
        self._lock = threading.RLock()
        self._collector: Collector | None = None
        self._learner: LearningProcess | None = None
        self._is_going = False
        self._trial = TrialModel()
        self._taken: Frame | None = None
        self._alike = 0
        self._problem: str | None = None
        # Images that look like another product, and the draft's source at that time.
        self._two_products: tuple[list[str], str] = ([], "")

    @property
    def is_learning(self) -> bool:
        return self._learner is not None

    def image(self, name: str) -> Path:
        """Return the file of an image; raise DraftError if there is none of that name."""
        with self._lock:
            return self._draft.path(name)

    def status(self) -> dict[str, Any]:
        """Report the draft and the work under way."""
        with self._lock:
            draft, state, collector, learner = self._draft, self._draft.state, self._collector, self._learner
            height, width = (
                state.frame_size if draft.images and state.frame_size else self._frame_size() or (None, None)
            )
            return {
                "state": self._state(),
                **state.model_dump(include={"camera", "begun_by", "begun_at", "changed_by", "revision"}),
                **state.drawn.model_dump(),
                "frame_width": width,
                "frame_height": height,
                "images": list(draft.images),
                "left_out": list(draft.left_out),
                "other_sizes": draft.other_sizes,
                "files": draft.files,
                "mib": draft.mib,
                "alike": self._alike,
                **rates_of(len(draft.images), draft.parts),
                "pipelines": self._line.pipelines(),
                "mode": collector.mode if collector else "off",
                "every_s": collector.every_s if collector else None,
                "problem": self._problem,
                "two_products": self._two_products[0] if self._two_products[1] == draft.source else [],
                "learning": {**asdict(learner.progress), "waits": learner.waits} if learner else None,
                "result": self._result(),
                "stale": not self._fresh(),
            }

    @property
    def drawn(self) -> DraftSettings:
        return self._draft.state.drawn

    def change(self, drawn: DraftSettings, revision: int, by: str, row: Row) -> None:
        """Set region, places and preset; see `Draft.change`."""
        with self._lock:
            self._refuse_while_busy()
            self._draft.change(drawn, revision, by, self._frame_size(), row)
            self._problem = None

    def take(self) -> dict[str, Any]:
        """Take the camera's newest frame as a good part; return its name, or the name of the image that it repeats."""
        frame = self._line.fresh()
        with self._lock:
            self._refuse_while_busy()
            if frame is self._taken:
                raise DraftError("the camera has given no new frame since the last one was taken: wait for it")
            self._taken, self._problem = frame, None
            name, repeated = self._draft.add(as_bgr(frame.image))
            self._alike += repeated is not None
            return {"image": name, "like": repeated, "images": len(self._draft.images)}

    def begin_sending(self, by: str) -> dict[str, str]:
        """Note who sends images; return the images sent before, see `Draft.sent`."""
        with self._lock:
            self._refuse_while_busy()
            self._draft.begin_sending(by)
            return self._draft.sent

    def send(self, data: bytes, file: str = "") -> dict[str, Any]:
        """Take the bytes of an image `file` as a good part; return its name, or the name of the image that it repeats.

        Raises ImageError: the bytes are no image, or its size is not the size that places are drawn on: other files may
            do.
        Raises DraftError: other files would be refused too.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        with self._lock:
            self._refuse_while_busy()
            draft = self._draft
            if draft.state.sender is None:
                raise DraftError("nobody has begun to send images: say first who does")
            name, repeated = draft.sent.get(sha256), None
        if name is None:
            image = self._line.decode(data)
            with self._lock:
                self._refuse_while_busy()
                draft.check_size(image)
                self._problem = None
                name, repeated = draft.add(image, sha256, file)
        return {"image": name, "like": repeated, "images": len(draft.images)}

    def try_image(self, data: bytes) -> tuple[np.ndarray, ImageVerdict]:
        """Judge the bytes of an image file by the learnt model alone, and keep nothing; raises the errors of `send`."""
        with self._lock:
            model = self._model()
        image = self._line.decode(data)
        with self._lock:
            self._draft.check_size(image)
        return image, self._trial.judge(model, data, image)

    def collect(self, mode: str, every_s: float | None) -> None:
        """Start or stop collecting; it also stops by itself at the wanted number of parts."""
        with self._lock:
            self._refuse_while_busy()
            before, self._collector = self._collector, None
        if before is not None:  # outside the lock, for which the collector may wait
            before.stop()
        if mode == "off":
            return
        self._line.fresh()
        with self._lock:
            if self._collector is not None:
                raise DraftError("parts are being collected already: stop that first")
            if len(self._draft.images) >= self._draft.state.drawn.wanted:
                wanted = self._draft.state.drawn.wanted
                raise DraftError(f"the draft has the {wanted} parts that were wanted: ask for more, or learn")
            self._problem = None
            self._collector = Collector(self._line, self._collected, every_s if mode == "interval" else None)

    def move_image(self, name: str, change: Literal["remove", "restore"], row: Row) -> None:
        """Take an image out of the draft, or put one back."""
        with self._lock:
            self._refuse_while_busy()
            (self._draft.remove if change == "remove" else self._draft.restore)(name, row)

    def learn(self, one_product: bool = False) -> None:
        """Start learning, in a process of its own; unless `one_product`, it stops where images look like two."""
        with self._lock:
            self._refuse_while_busy()
            draft = self._draft
            if len(draft.images) < FEWEST_IMAGES:
                raise DraftError(
                    f"found {len(draft.images)} good parts, but at least {FEWEST_IMAGES} are needed to learn"
                )
            draft.tidy()
            folder, source = f"{LEARNT}{draft.state.next_number}-{len(draft.images)}", draft.source
            if folder == draft.state.learnt:
                folder += "-again"
            order = order_of(draft, draft.images, folder, one_product)

            def ended(problem: str | None) -> None:
                self._learnt(folder, source, problem)

            self._problem, self._two_products = None, ([], "")
            try:
                self._learner = LearningProcess(order, draft.folder / "learn.log", ended)
            except OSError as error:
                raise DraftError(f"the process that learns cannot be started: {error.strerror or error}") from error
            before, self._collector = self._collector, None
        self._trial.close()
        if before is not None:
            before.stop()

    def cancel(self) -> None:
        """Stop learning; the images and the earlier result stay."""
        with self._lock:
            learner, self._learner = self._learner, None
        if learner is not None:
            learner.cancel()
            with self._lock:
                if self._learner is None:
                    self._draft.tidy()

    def close(self) -> None:
        """End collecting and learning; the draft stays."""
        with self._lock:
            collector, self._collector = self._collector, None
        if collector is not None:
            collector.stop()
        self._trial.close()
        self.cancel()

    @contextmanager
    def finished(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the folder of the learnt model, and what it was learnt from, for the audit.

        During the block, nobody can change or discard the draft.

        Raises DraftError: there is no model, or images or places have changed since.
        """
        with self._lock:
            model = self._model()
            if not self._fresh():
                raise DraftError("images or places have changed since the model was learnt: learn again")
            self._is_going = True
        try:
            state = self._draft.state
            learnt = {"images": len(self._draft.images), **state.drawn.to_record(), "drawn_by": state.changed_by}
            yield model, learnt
        finally:
            self._is_going = False

    def _model(self) -> Path:
        """Return the folder of the learnt model; raise DraftError if none exists, or one is being learnt or moved."""
        self._refuse_while_busy()
        if self._draft.state.learnt is None:
            raise DraftError("there is no model yet: learn first")
        return self._draft.folder / self._draft.state.learnt / MODEL

    def map_of(self, name: str) -> Path | None:
        """Return the file of an image's heat map, also after the image was taken out; None if it has no map."""
        with self._lock:
            learnt = self._draft.state.learnt
            if learnt is None or name not in (*self._draft.images, *self._draft.left_out):
                return None
            return self._draft.folder / learnt / MAPS / f"{Path(name).stem}.jpg"

    def _collected(self, frame: Frame) -> bool:
        with self._lock:
            if self._collector is None:
                return False
            try:
                _, repeated = self._draft.add(as_bgr(frame.image))
            except EdgeadError as error:
                self._problem = str(error)
                self._collector = None
                return False
            self._taken = frame
            self._alike += repeated is not None
            if len(self._draft.images) < self._draft.state.drawn.wanted:
                return True
            self._collector = None
            return False

    def _learnt(self, folder: str, source: str, problem: str | None) -> None:
        with self._lock:
            learner, self._learner = self._learner, None
            self._two_products = (learner.two_products if learner else [], source)
            try:
                if problem is None and not self._two_products[0]:
                    self._draft.keep_result(folder, source)
                else:
                    self._draft.tidy()
                self._problem = problem
            except EdgeadError as error:
                self._problem = str(error)

    def _frame_size(self) -> tuple[int, int] | None:
        newest = self._line.newest()
        return None if newest is None else (int(newest.image.shape[0]), int(newest.image.shape[1]))

    def _state(self) -> str:
        if self._learner:
            return "learning"
        return "collecting" if self._collector else "learnt" if self._fresh() else "draft"

    def _fresh(self) -> bool:
        state = self._draft.state
        return state.learnt is not None and state.learnt_from == self._draft.source

    def _result(self) -> dict[str, Any] | None:
        learnt = self._draft.state.learnt
        if learnt is None:
            return None
        try:
            return json.loads((self._draft.folder / learnt / RESULT).read_bytes())
        except (OSError, ValueError):
            return None

    def _refuse_while_busy(self) -> None:
        if self._learner is not None:
            raise DraftError("a model is being learnt from this draft: wait for it, or cancel it")
        self.refuse_while_going()

    def refuse_while_going(self) -> None:
        """Raise DraftError while the draft's model is being put into service."""
        if self._is_going:
            raise DraftError("the model of this draft is being put into service: try again when that has ended")
