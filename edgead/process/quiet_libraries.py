"""Silencing of OpenCV, FFmpeg and the image libraries, whose messages edgead replaces by its own errors."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

# Read by OpenCV when it first opens a video, so it must be set before; -8 is AV_LOG_QUIET. FFmpeg prints URLs
# with their passwords, so this is not only about noise. A value that the user has set stays.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

# OpenCV 5 moved the function; the levels have no names in OpenCV 4.
_set_log_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
_SILENT = 0
_lock = threading.Lock()
_depth = 0
_level_before = 0


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silence OpenCV's own log while the block runs; may be nested and used from several threads."""
    global _depth, _level_before
    # The level belongs to the process: only the first to enter saves it and only the last restores it.
    with _lock:
        if _depth == 0:
            _level_before = _set_log_level(_SILENT)
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _set_log_level(_level_before)


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send file descriptor 2 to a temporary file while the block runs.

    Some libraries (libpng, V4L, Qt) write to it directly. The descriptor belongs to the whole process, so this is for
    short probes and not for a running daemon.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 2)
            try:
                yield
            finally:
                sys.stderr.flush()
                os.dup2(saved, 2)
    finally:
        os.close(saved)
