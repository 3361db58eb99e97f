"""Triggers: each asks for the frames that it should, and for no other."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from contextlib import closing
from datetime import datetime, timezone
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import MOST_S

from edgead.errors import SettingsError
from edgead.process.installation import install_command
from edgead.synthetic.line import render
from edgead.triggers import open_trigger
from edgead.triggers.gpio import GpioOptions, GpioTrigger
from edgead.triggers.part_in_view import PartInViewOptions
from edgead.triggers.timing import EveryFrameOptions, IntervalOptions, SoftwareOptions
from edgead.types import Frame, Part

IMAGE = np.zeros((8, 8, 3), np.uint8)


def frame(captured_ns, image=IMAGE, number=0):
    return Frame(image, number, captured_ns, datetime.now(timezone.utc), "top")


def test_every_frame():
    with closing(open_trigger(EveryFrameOptions())) as trigger:
        assert all(trigger.accepts(frame(i)) for i in range(5))


@given(st.lists(st.floats(0.001, 3), min_size=1, max_size=60), st.floats(0.05, 2))
def test_one_frame_in_each_interval(gaps_s, every_s):
    times_ns = np.cumsum([int(gap * 1e9) for gap in gaps_s])
    trigger = open_trigger(IntervalOptions(kind="interval", every_s=every_s))
    accepted = [t for t in times_ns if trigger.accepts(frame(int(t)))]
    intervals = [(int(t) - int(times_ns[0])) // round(every_s * 1e9) for t in accepted]
    assert len(set(intervals)) == len(intervals)
    assert set(intervals) == {(int(t) - int(times_ns[0])) // round(every_s * 1e9) for t in times_ns}


def test_a_call_asks_for_the_next_frame_and_only_that():
    trigger = open_trigger(SoftwareOptions(kind="software"))
    before = time.perf_counter_ns()
    assert not trigger.accepts(frame(before))
    trigger.fire()
    trigger.fire()
    assert not trigger.accepts(frame(before))  # was on its way when the call came
    assert trigger.accepts(frame(time.perf_counter_ns()))
    assert not trigger.accepts(frame(time.perf_counter_ns()))


def test_calls_that_overtake_a_frame_ask_for_the_one_after():
    trigger = open_trigger(SoftwareOptions(kind="software"))
    trigger.fire()
    on_its_way = frame(time.perf_counter_ns())
    trigger.fire()
    assert trigger.accepts(on_its_way)  # for the first call
    assert trigger.accepts(frame(time.perf_counter_ns()))  # for the second
    assert not trigger.accepts(frame(time.perf_counter_ns()))


def test_the_part_of_a_call_is_that_of_its_frame():
    trigger = open_trigger(SoftwareOptions(kind="software"))
    trigger.fire(part=Part("A1"))
    assert trigger.accepts(frame(time.perf_counter_ns()))
    trigger.fire(part=Part("A2", "batch 7", "left door"))
    assert trigger.part == Part("A1")  # until its frame has come
    assert trigger.accepts(frame(time.perf_counter_ns()))
    assert trigger.part == Part("A2", "batch 7", "left door")


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
        deadline = time.monotonic() + MOST_S
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
            deadline = time.monotonic() + MOST_S
            while time.monotonic() < deadline:
                assert not trigger.accepts(frame(time.perf_counter_ns()))
                time.sleep(0.005)


def test_a_line_that_is_not_there_says_so():
    install = re.escape(install_command("gpio"))
    with pytest.raises(SettingsError, match=f"line 4 of /dev/nothing: .*(gpioinfo|{install})"):
        open_trigger(GpioOptions(kind="gpio", chip="/dev/nothing", line=4))


# Parts on a conveyor


def film(positions, *, parts=4, light=0.0):
    """Frames of a conveyor on which parts of the built-in line pass; `positions` are those of the first part's middle.

    The image is 160 wide, a part 50, and parts follow each other every 240 pixels.
    """
    rng = np.random.default_rng(0)
    sprites = [cv2.resize(render(i)[0], (50, 50), interpolation=cv2.INTER_AREA) for i in range(parts)]
    for index, position in enumerate(positions):
        conveyor = rng.normal(40 + light * index, 2, (60, 160, 3))
        for i, sprite in enumerate(sprites):
            left = round(position - i * 240 - 25)
            low, high = max(0, left), min(160, left + 50)
            if low < high:
                conveyor[5:55, low:high] = sprite[:, low - left : high - left] + rng.normal(0, 2)
        yield np.clip(conveyor, 0, 255).astype(np.uint8)


def passing(step, parts=4):
    return np.arange(-50, 160 + (parts - 1) * 240 + 50, step)


def accepted(frames, **settings):
    trigger = open_trigger(PartInViewOptions(kind="part_in_view", **settings))
    return [i for i, image in enumerate(frames) if trigger.accepts(frame(i, image, i))]


@pytest.mark.parametrize("step", [1.0, 2.7, 5.0, 9.0, 15.0])
def test_each_part_once_in_the_middle(step):
    positions = passing(step)
    middles = [(positions[i] + 120) % 240 - 120 for i in accepted(film(positions))]
    assert len(middles) == 4
    assert all(abs(middle - 80) < 6 + step for middle in middles)


def test_parts_that_come_the_other_way():
    assert len(accepted(film(passing(4.0)[::-1]))) == 4


def test_a_conveyor_that_stands_still_with_a_part_in_view_judges_it_once():
    positions = np.concatenate([np.arange(-50, 77, 4.0), np.full(300, 77.0), np.arange(77, 230, 4.0)])
    assert len(accepted(film(positions, parts=1))) == 1


def test_an_empty_conveyor_judges_nothing_while_the_light_changes():
    assert accepted(film(np.full(300, -1000.0), light=0.2)) == []


def test_a_start_with_a_part_in_view_is_forgotten():
    positions = np.arange(75, 160 + 4 * 240, 3.0)
    found = accepted(film(positions, parts=5))
    assert [round((positions[i] - 80) / 240) for i in found if positions[i] > 160] == [1, 2, 3, 4]
