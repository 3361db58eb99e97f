"""The trigger on a line of the computer, with a line whose edges a test makes."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from contextlib import closing
from datetime import datetime, timezone
from types import SimpleNamespace

import numpy as np
import pytest
from patience import MAX_S

from edgead.errors import SettingsError
from edgead.line.triggers import open_trigger
from edgead.process.installation import plugin_command
from edgead.types import Frame
from edgead_plant.triggers.gpio import GpioOptions, GpioTrigger


def frame(captured_ns):
    return Frame(np.zeros((8, 8, 3), np.uint8), 0, captured_ns, datetime.now(timezone.utc), "top")


class FakeLine:
    """The part of a `gpiod.LineRequest` that is used, with edges that a test makes."""

    def __init__(self):
        self.edges, self.released, self.gone = threading.Semaphore(0), False, threading.Event()

    def wait_edge_events(self, timeout=None):
        if self.gone.is_set():
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        if not self.edges.acquire(timeout=timeout):
            return False
        self.edges.release()
        return True

    def read_edge_events(self):
        self.edges.acquire()
        return [SimpleNamespace(timestamp_ns=time.perf_counter_ns())]

    def release(self):
        self.released = True


def test_an_edge_asks_for_a_frame():
    line = FakeLine()
    with closing(GpioTrigger(GpioOptions(kind="gpio", line=4), lambda section: line)) as trigger:
        assert not trigger.accepts(frame(time.perf_counter_ns()))
        line.edges.release()
        deadline = time.monotonic() + MAX_S
        accepted = 0
        while not accepted and time.monotonic() < deadline:
            accepted += trigger.accepts(frame(time.perf_counter_ns()))
            time.sleep(0.005)
        assert accepted == 1
        assert not trigger.accepts(frame(time.perf_counter_ns()))
    assert line.released


def test_a_line_that_is_lost_is_not_silent():
    line = FakeLine()
    with closing(GpioTrigger(GpioOptions(kind="gpio", line=4), lambda section: line)) as trigger:
        line.gone.set()
        with pytest.raises(SettingsError, match="line 4 of /dev/gpiochip0: lost: No such device"):
            deadline = time.monotonic() + MAX_S
            while time.monotonic() < deadline:
                assert not trigger.accepts(frame(time.perf_counter_ns()))
                time.sleep(0.005)


def test_a_line_that_is_not_there_says_so():
    install = re.escape(plugin_command("edgead-plant[gpio]"))
    with pytest.raises(SettingsError, match=f"line 4 of /dev/nothing: .*(gpioinfo|{install})"):
        open_trigger(GpioOptions(kind="gpio", chip="/dev/nothing", line=4))


def test_a_line_that_fails_unforeseen_is_a_fault_of_its_trigger(caplog):
    class Broken:
        def wait_edge_events(self, timeout=None):
            raise RuntimeError("nobody foresaw it")

        def release(self):
            pass

    trigger = GpioTrigger(GpioOptions(kind="gpio", line=3), lambda section: Broken())
    trigger._thread.join(30)
    with pytest.raises(SettingsError, match="lost: the program failed"):
        trigger.accepts(None)
    trigger.close()
    assert "nobody foresaw it" in caplog.text
