"""Detection of decoding errors: OpenCV returns a damaged image like a good one, and only FFmpeg's log shows it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re

# The form in which OpenCV prints FFmpeg's errors (level 16, and 8 for fatal ones), and the messages of libjpeg, which
# decodes the MJPEG of USB cameras.
LOG_LEVEL = {"OPENCV_FFMPEG_LOGLEVEL": "16"}
_COMPLAINT = re.compile(rb"\[OPENCV:FFMPEG:(?:08|16)\]|Corrupt JPEG data")


class DecoderLog:
    """Redirection of this process's standard output and error to memory, in which decoders' messages are searched.

    Memory, unlike a pipe, needs no reader. Text is discarded once searched, as it may contain URLs with passwords. The
    process must have been started with `LOG_LEVEL` in its environment.
    """

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("edgead decoder log")
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, os.O_APPEND | fcntl.fcntl(self._descriptor, fcntl.F_GETFL))
        self._flush = ctypes.CDLL(None).fflush
        for standard in (1, 2):
            os.dup2(self._descriptor, standard)

    def has_complaint(self) -> bool:
        """Whether a decoder reported an error since the last call."""
        self._flush(None)  # OpenCV prints through the buffers of C's standard library
        size = os.fstat(self._descriptor).st_size
        if size == 0:
            return False
        text = os.pread(self._descriptor, size, 0)
        os.ftruncate(self._descriptor, 0)
        return _COMPLAINT.search(text) is not None
