"""Work at the draft of one camera: collecting, learning, and who may do what meanwhile."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgead.daemon.commission.collecting import Collector
from edgead.daemon.commission.draft import LEARNT, Draft, DraftError, order_of
from edgead.daemon.commission.draft_camera import CameraLine
from edgead.daemon.commission.learner import Learner
from edgead.daemon.commission.settings import FEWEST_IMAGES, DraftSettings, rates_of
from edgead.errors import EdgeadError
from edgead.images.files import as_bgr
from edgead.types import Frame

MODEL, MAPS, RESULT = "model", "maps", "result.json"


class Work:
    """One draft at work; its methods may be called from any thread."""

    def __init__(self, draft: Draft, line: CameraLine):
        self._draft, self._line = draft, line
        self._lock = threading.RLock()
        self._collector: Collector | None = None
        self._learner: Learner | None = None
        self._taken: Frame | None = None
        self._alike = 0
        self._problem: str | None = None

    @property
    def is_learning(self) -> bool:
        return self._learner is not None

    def image(self, name: str) -> Path:
        """Find an image; raises DraftError where there is none of that name."""
        with self._lock:
            return self._draft.path(name)

    def status(self) -> dict[str, Any]:
        """Report the draft and what is under way."""
        with self._lock:
            draft, state, collector, learner = self._draft, self._draft.state, self._collector, self._learner
            height, width = (
                state.frame_size if draft.images and state.frame_size else self._frame_size() or (None, None)
            )
            return {
                "camera": state.camera,
                "state": self._state(),
                "begun_by": state.begun_by,
                "begun_at": state.begun_at,
                "changed_by": state.changed_by,
                "revision": state.revision,
                **state.drawn.model_dump(),
                "frame_width": width,
                "frame_height": height,
                "images": list(draft.images),
                "mib": draft.mib,
                "alike": self._alike,
                **rates_of(len(draft.images)),
                "pipelines": self._line.pipelines(),
                "mode": collector.mode if collector else "off",
                "every_s": collector.every_s if collector else None,
                "problem": self._problem,
                "learning": asdict(learner.progress) if learner else None,
                "result": self._result(),
                "stale": not self._fresh(),
            }

    def change(self, drawn: DraftSettings, revision: int, by: str) -> None:
        """Set what is drawn; see `Draft.change`."""
        with self._lock:
            self._refuse_while_learning()
            self._draft.change(drawn, revision, by, self._frame_size())
            self._problem = None

    def take(self) -> dict[str, Any]:
        """Take the camera's newest frame as a good part; gives its name, or that of the one that it repeats."""
        frame = self._line.fresh()
        with self._lock:
            self._refuse_while_learning()
            if frame is self._taken:
                raise DraftError("the camera has given no new frame since the last one was taken: wait for it")
            self._taken, self._problem = frame, None
            name, repeated = self._draft.add(as_bgr(frame.image))
            self._alike += repeated is not None
            return {"image": name, "like": repeated, "images": len(self._draft.images)}

    def collect(self, mode: str, every_s: float | None) -> None:
        """Begin to collect, or stop it; once there are as many as were wanted, it stops by itself."""
        with self._lock:
            self._refuse_while_learning()
            before, self._collector = self._collector, None
        if before is not None:  # outside: it may wait for the lock
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

    def remove(self, name: str) -> None:
        """Take an image out of the draft."""
        with self._lock:
            self._refuse_while_learning()
            self._draft.remove(name)

    def learn(self) -> None:
        """Begin to learn, in a process of its own."""
        with self._lock:
            self._refuse_while_learning()
            draft = self._draft
            if len(draft.images) < FEWEST_IMAGES:
                raise DraftError(
                    f"found {len(draft.images)} good parts, but at least {FEWEST_IMAGES} are needed to learn"
                )
            draft.tidy()
            folder, source = f"{LEARNT}{draft.state.next_number}-{len(draft.images)}", draft.source
            if folder == draft.state.learnt:
                folder += "-again"
            order = order_of(draft, draft.images, folder)

            def ended(problem: str | None) -> None:
                self._learnt(folder, source, problem)

            self._problem = None
            try:
                self._learner = Learner(order, draft.folder / "learn.log", ended)
            except OSError as error:
                raise DraftError(f"the process that learns cannot be started: {error.strerror or error}") from error
            before, self._collector = self._collector, None
        if before is not None:
            before.stop()

    def cancel(self) -> None:
        """Stop learning; the images and the result before stay."""
        with self._lock:
            learner, self._learner = self._learner, None
        if learner is not None:
            learner.cancel()
            with self._lock:
                if self._learner is None:
                    self._draft.tidy()

    def close(self) -> None:
        """End what is under way; the draft stays."""
        with self._lock:
            collector, self._collector = self._collector, None
        if collector is not None:
            collector.stop()
        self.cancel()

    def finished(self) -> Path:
        """Give the folder of the learnt model; raises DraftError where it is not that of the draft as it is now."""
        with self._lock:
            self._refuse_while_learning()
            if self._draft.state.learnt is None:
                raise DraftError("there is no model yet: learn first")
            if not self._fresh():
                raise DraftError("images or places have changed since the model was learnt: learn again")
            return self._draft.folder / self._draft.state.learnt / MODEL

    def map_of(self, name: str) -> Path | None:
        """Find the heat map of an image; None where there is none."""
        with self._lock:
            learnt = self._draft.state.learnt
            if learnt is None or name not in self._draft.images:
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
            self._learner = None
            try:
                if problem is None:
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

    def _refuse_while_learning(self) -> None:
        if self._learner is not None:
            raise DraftError("a model is being learnt from this draft: wait for it, or cancel it")
