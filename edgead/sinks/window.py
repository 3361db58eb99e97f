"""Window on the screen; q or Esc ends the stream."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Literal

import cv2

from edgead.images.overlay import draw_overlay
from edgead.process.installation import install_command
from edgead.serialization import frame_label
from edgead.sinks.contract import BaseSink, SinkError, StopRequested
from edgead.sinks.options import SinkOptions
from edgead.sinks.registry import register
from edgead.types import Frame, Verdict

_ESC = 27
_PROBE = "import cv2; cv2.namedWindow('edgead probe'); cv2.waitKey(1); cv2.destroyAllWindows()"


def gui_problem() -> str | None:
    """Return the reason why OpenCV cannot open a window on this machine; None if it can.

    Qt ends the whole process if it cannot reach the display, so the trial runs in a separate process.
    """
    framework = cv2.currentUIFramework() if hasattr(cv2, "currentUIFramework") else _built_framework()
    if not framework or framework == "NONE":
        return f"this OpenCV was built without windows (opencv-python-headless): {install_command('window')}"
    no_display = not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if sys.platform.startswith("linux") and no_display:
        return "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    try:
        probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "a trial window did not open"
    if probe.returncode != 0:
        return f"a trial window did not open on display {os.environ.get('DISPLAY', '')!r}"
    return None


class WindowOptions(SinkOptions):
    """A window with every frame and its verdict; q or Esc ends the stream."""

    kind: Literal["window"]


class WindowSink(BaseSink):
    """Sink that shows every frame with its verdict in a window."""

    def __init__(self, title: str = "edgead"):
        self.uri = "window:"
        problem = gui_problem()
        if problem:
            raise SinkError(f"window: {problem}; use images:FOLDER or video:PATH instead")
        self._title = title
        self._opened = False

    def write(self, frame: Frame, verdict: Verdict) -> None:
        if not self._opened:
            # Resizable: a 20-megapixel frame is larger than the screen.
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
            self._opened = True
        image = draw_overlay(frame.image, verdict, frame_label(frame))
        cv2.imshow(self._title, image)
        key = cv2.waitKey(1)
        closed = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        if closed or (key != -1 and key & 0xFF in (_ESC, ord("q"))):
            raise StopRequested

    def close(self) -> None:
        if self._opened:
            self._opened = False
            cv2.destroyWindow(self._title)


def _built_framework() -> str:
    for line in cv2.getBuildInformation().splitlines():
        if line.strip().startswith("GUI:"):
            return line.split(":")[1].strip()
    return "NONE"


def _read_uri(uri: str) -> dict[str, str]:
    if uri.partition(":")[2]:
        raise SinkError("a window takes no name, write window:")
    return {}


register("window", WindowOptions, lambda name, options: WindowSink(), schemes={"window": "window:"}, read_uri=_read_uri)
