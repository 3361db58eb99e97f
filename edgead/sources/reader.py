"""Program of the process that reads one live camera, as OpenCV can hang inside a read and a thread cannot be killed.

See opencv/opencv#22677. Orders and answers go over a socket, which is the process's standard input; the frames go
through a FrameMemory. The process ends whenever its parent ends.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from typing import Any, NoReturn

from edgead.sources import live_address
from edgead.sources.connection import CameraConnection, CorruptFrameError, Lost, NoFrameYetError
from edgead.sources.contract import FrameCounter, SourceError
from edgead.sources.decoder_log import DecoderLog
from edgead.sources.frame_memory import FrameMemory, create_memory
from edgead.sources.live import LiveLimits
from edgead.types import Frame

MESSAGE_BYTES = 65536
_MAX_CORRUPT = 100  # in a row


def main() -> None:
    channel = socket.socket(fileno=os.dup(0))
    order = json.loads(channel.recv(MESSAGE_BYTES))
    threading.Thread(target=_end_with_the_parent, args=(channel,), name="end of the parent", daemon=True).start()
    try:
        _read(channel, order)
    except SourceError as fault:
        _tell(channel, fault=str(fault))
    except OSError as error:
        _tell(channel, fault=f"the reader failed: {error.strerror}")
    except Exception as error:  # noqa: BLE001  the edge of the process; its standard error is the decoders'
        # Not quoted, as it may hold the URI with its password.
        _tell(channel, fault=f"the reader failed: {type(error).__name__}")
    _end()


def _read(channel: socket.socket, order: dict[str, Any]) -> None:
    _tell(channel, state="opening")
    address = live_address(order["uri"], LiveLimits(order["open_timeout_s"], order["read_timeout_s"]))
    if address is None:
        raise SourceError("is no live camera")
    log = DecoderLog()
    frames = FrameCounter(address.shown, max_megapixels=order["max_megapixels"])
    connection = CameraConnection(frames, address.connect, order["read_timeout_s"])
    log.has_complaint()  # ignored: a stream joined midway begins with incomplete images
    _tell(channel, state="open")
    memory: FrameMemory | None = None
    corrupt = 0
    lost = Lost()
    while corrupt <= _MAX_CORRUPT:
        try:
            frame = _whole_frame(connection, log)
        except NoFrameYetError:
            _tell(channel, waiting=True)
            continue
        finally:
            before, lost = lost, connection.lost
            if lost != before:
                _tell(channel, lost_packets=lost.packets - before.packets, lost_frames=lost.frames - before.frames)
        if frame is None:
            corrupt += 1
            _tell(channel, corrupt=1)
        else:
            corrupt = 0
            memory = _put(channel, memory, frame)
    raise SourceError(f"{address.shown}: {corrupt} corrupt frames in a row")


def _whole_frame(connection: CameraConnection, log: DecoderLog) -> Frame | None:
    """Wait for the next frame; None if it is damaged, since damage looks like a defect."""
    try:
        frame = connection.read()
    except CorruptFrameError:
        return None
    if log.has_complaint():
        connection.begin_again()
        return None
    return frame


def _put(channel: socket.socket, memory: FrameMemory | None, frame: Frame) -> FrameMemory:
    if memory is None or not memory.holds(frame.image):
        if memory is not None:
            memory.close()
        memory = create_memory(frame.image)
        socket.send_fds(channel, [json.dumps({"memory": frame.image.shape}).encode()], [memory.descriptor])
    captured_us = max(0, int(frame.captured_at.timestamp() * 1e6))  # the clock may be before 1970
    memory.write(frame.number, frame.captured_ns, captured_us, frame.image, frame.lines)
    try:
        channel.send(b'{"frame": 1}', socket.MSG_DONTWAIT)
    except BlockingIOError:
        pass  # the parent has enough unread messages
    return memory


def _tell(channel: socket.socket, **message: Any) -> None:
    channel.send(json.dumps(message).encode())


def _end_with_the_parent(channel: socket.socket) -> None:
    """End this process when the socket closes, that is, when the parent ends."""
    try:
        channel.recv(1)
    finally:
        _end()


def _end() -> NoReturn:
    """Kill this process and its child, if one reads the camera, without a release of the camera, which may hang."""
    if os.getpgrp() == os.getpid():  # otherwise it is the group of the user's shell
        os.killpg(0, signal.SIGKILL)
    os._exit(0)
