"""A stream of frames before a detector, and what the head remembers of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from edgead.errors import SettingsError
from edgead.types import Frame, Verdict

if TYPE_CHECKING:
    from edgead.detector.detector import Detector


class Session:
    """One stream of frames before a detector, and what its head remembers of them; made by `Detector.session`.

    A gap in the numbers of the frames, another source or another connection begins a new stream. Use a session from
    one thread at a time.
    """

    def __init__(self, detector: Detector):
        self._detector = detector
        self._plane = detector.manifest.inputs[0].plane
        self.reset()

    def reset(self) -> None:
        """Forget every frame."""
        self._state = self._detector.manifest.head.new_state()
        self._next: tuple[str, int, int] | None = None

    def step(self, frame: Frame) -> Verdict | None:
        """Judge the next frame.

        Returns
        -------
        Verdict or None
            None where the head needs more frames before it gives a score.

        Raises
        ------
        ValueError
            A frame that cannot be judged; see `Detector.measure`. The next one begins a new stream.
        """
        if self._next not in (None, (frame.source, frame.connection, frame.number)):
            self.reset()
        planes = frame.planes
        if self._plane not in planes:
            raise SettingsError(f"the model looks at the plane {self._plane!r}, the frame has {', '.join(planes)}")
        score = partial(self._detector._scorer.score, state=self._state)
        verdict = self._detector._judge(planes[self._plane], score, Verdict)
        self._next = (frame.source, frame.connection, frame.number + 1)
        return verdict
