"""Handle of a reader process: starts it, receives its newest frame and faults, and kills it if it hangs."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

from edgead.components.uri import without_credentials
from edgead.sources.connection import Lost
from edgead.sources.contract import SourceError
from edgead.sources.decoder_log import LOG_LEVEL
from edgead.sources.frame_memory import FrameMemory, SharedFrame
from edgead.sources.reader import MESSAGE_BYTES
from edgead.sources.settings import CameraSection

_START_S = 30.0  # time limit for the start of the process, on a small computer that is busy
_GRACE_S = 1.0  # OpenCV checks its own limits only between packets
_REAP_S = 1.0


class ReaderProcess:
    """Process that reads a camera; it runs until `close`.

    `waits`: whether the camera waits for its trigger, or for more lines, so that a long time without a frame is no
        fault.
    Raises OSError: the process cannot be started.
    """

    def __init__(self, section: CameraSection):
        self._corrupt = 0
        self._lost = Lost()
        self.waits = False
        self._section = section
        self._uri = without_credentials(section.uri)
        self._memory: FrameMemory | None = None
        self._last = -1
        self._has_begun = self._is_open = False
        self._alive_s = time.monotonic()  # time of its last message
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # The URI goes through the socket, as all users can read a command line. OpenCV's output may contain it too.
            # A session of its own, so that the Ctrl-C for the daemon does not reach it.
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from edgead.sources.reader import main; main()"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | LOG_LEVEL,
                start_new_session=True,
            )
        order = {
            "uri": section.uri,
            "open_timeout_s": section.open_timeout_s,
            "read_timeout_s": section.read_timeout_s,
            "max_megapixels": section.max_megapixels,
        }
        self._channel.send(json.dumps(order).encode())
        self._channel.setblocking(False)

    def newest(self, timeout_s: float) -> SharedFrame | None:
        """Wait for a frame newer than the last; None if none comes in time.

        Raises SourceError: the camera or its process failed, or exceeded its time limits.
        """
        readable, _, _ = select.select([self._channel], [], [], timeout_s)
        if readable:
            self._listen()
        frame = self._memory.newest(self._last) if self._memory else None
        if frame is not None:
            self._last = frame.number
            self.waits = False
            return frame
        self._check_limits()
        return None

    def take_corrupt(self) -> int:
        """Return the number of damaged frames since the last call."""
        corrupt, self._corrupt = self._corrupt, 0
        return corrupt

    def take_lost(self) -> Lost:
        """Return the lost packets and frames since the last call."""
        lost, self._lost = self._lost, Lost()
        return lost

    def close(self) -> None:
        """Kill the process, even if it hangs, and its children."""
        if self._process.poll() is None:  # it leads a process group with its own id
            os.killpg(self._process.pid, signal.SIGKILL)
        self._channel.close()
        if self._memory is not None:
            self._memory.close()
        try:
            self._process.wait(_REAP_S)
        except subprocess.TimeoutExpired:
            pass  # it is stuck in a driver; it is reaped when the daemon ends

    def _listen(self) -> None:
        """Receive all messages that have arrived."""
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._channel, MESSAGE_BYTES, 1)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data, descriptors = b"", []
            if not data:
                raise SourceError(f"{self._uri}: its reader process ended ({self._ending()})")
            self._alive_s = time.monotonic()
            message = json.loads(data)
            if "fault" in message:
                raise SourceError(message["fault"])
            self._has_begun = True
            self._is_open = self._is_open or message.get("state") == "open"
            self._corrupt += message.get("corrupt", 0)
            packets, frames = message.get("lost_packets", 0), message.get("lost_frames", 0)
            self._lost = Lost(self._lost.packets + packets, self._lost.frames + frames)
            self.waits = self.waits or "waiting" in message
            if descriptors:
                self._remember(descriptors[0])

    def _remember(self, descriptor: int) -> None:
        if self._memory is not None:
            self._memory.close()
        self._memory = FrameMemory(descriptor)

    def _check_limits(self) -> None:
        section, waited_s = self._section, time.monotonic() - self._alive_s
        if not self._has_begun:
            doing, limit_s = "did not begin", _START_S
        elif not self._is_open:
            doing, limit_s = "did not open", section.open_timeout_s + _GRACE_S
        else:
            doing, limit_s = "hangs, no frame", section.read_timeout_s + _GRACE_S
        if waited_s > limit_s:
            raise SourceError(f"{self._uri}: {doing} for {waited_s:.1f} s; its reader process was ended")

    def _ending(self) -> str:
        try:
            code = self._process.wait(_REAP_S)
        except subprocess.TimeoutExpired:
            return "without a word"
        return f"signal {-code}" if code < 0 else f"exit code {code}"
