"""Triggers: each asks for the frames that it should, and for no other."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import datetime, timezone

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.line.triggers import open_trigger
from edgead.line.triggers.message import part_of
from edgead.line.triggers.part_in_view import PartInViewOptions
from edgead.line.triggers.timing import EveryFrameOptions, IntervalOptions, SoftwareOptions
from edgead.synthetic.line import render
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


IDENTITIES = st.builds(Part, st.sampled_from(["", "A1", "A2", "A3", "A4", "A5"]))


@given(st.lists(st.one_of(st.just("frame"), IDENTITIES), max_size=60), st.integers(0, 3))
def test_no_part_is_doubled_or_mixed_up_and_those_without_a_frame_are_counted(events, lag):
    """Of any interleaving, also where a frame is handed over only after some later calls."""
    trigger = open_trigger(SoftwareOptions(kind="software"))
    begin_ns = time.perf_counter_ns()
    calls, judged, on_the_way = [], [], []
    for at_ns, happens in enumerate([*events, *["frame"] * (lag + 1)], begin_ns):
        if happens != "frame":
            calls.append((at_ns, happens))
            trigger.fire(at_ns, happens)
            continue
        on_the_way.append(frame(at_ns))
        if len(on_the_way) > lag:
            taken = on_the_way.pop(0)
            if trigger.accepts(taken):
                judged.append((taken.captured_ns, trigger.part))
    before_ns, answered = 0, 0
    for captured_ns, part in judged:
        asked = [call for at_ns, call in calls if before_ns < at_ns <= captured_ns]
        assert asked and part == asked[-1]  # the newest before it, and after the frame before
        answered += sum(call in (part, Part()) for call in asked)
        before_ns = captured_ns
    trigger.close()
    named = sum(call != Part() for _, call in calls)
    without = sum(call == Part() for at_ns, call in calls if at_ns <= before_ns)
    assert trigger.missed == named - (answered - without)


def test_a_part_that_another_call_overtakes_is_missed_and_one_that_asks_twice_is_not(caplog):
    trigger = open_trigger(SoftwareOptions(kind="software"))
    for serial in ("A1", "A2", "A2"):
        trigger.fire(part=Part(serial))
    assert trigger.accepts(frame(time.perf_counter_ns())) and trigger.part == Part("A2")
    assert trigger.missed == 1 and caplog.messages == ["part A1 has no frame: the next call came before a frame"]
    trigger.fire(part=Part("A3"))
    trigger.close()
    assert trigger.missed == 2 and "part A3 has no frame: the pipeline stopped" in caplog.messages[-1]


def test_a_frame_that_comes_too_late_is_not_taken_for_the_part_of_a_call(caplog):
    trigger = open_trigger(SoftwareOptions(kind="software", within_ms=50))
    trigger.fire(1_000, Part("A1"))
    assert not trigger.accepts(frame(60_001_000))
    assert trigger.missed == 1 and "its frame came 60 ms after the call" in caplog.text
    trigger.fire(70_000_000, Part("A2"))
    assert trigger.accepts(frame(120_000_000)) and trigger.part == Part("A2")


def test_calls_without_end_take_bounded_memory_and_lose_no_part_unseen():
    trigger = open_trigger(SoftwareOptions(kind="software"))
    for number in range(1500):
        trigger.fire(part=Part(str(number)))
    assert trigger.missed == 500
    assert trigger.accepts(frame(time.perf_counter_ns())) and trigger.part == Part("1499") and trigger.missed == 1499


@pytest.mark.parametrize(
    ("message", "part"),
    [
        (b"", Part()),
        (b" A-17\n", Part("A-17")),
        ("Gehäuse 4".encode(), Part("Gehäuse 4")),
        (b"17", Part("17")),
        (b'{"serial": "A1", "batch": 7, "recipe": " left "}', Part("A1", "7", "left")),
        (b"{}", Part()),
    ],
)
def test_a_message_names_its_part(message, part):
    assert part_of(message) == part


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\xff\x00", "no UTF-8"),
        (b"A\x001", "serial holds a character that cannot be printed"),
        ("A\u200b1".encode(), "serial holds a character"),
        (b'{"serial": "\\ud800"}', "serial holds a character"),
        (b"x" * 129, "serial has 129 characters, at most 128"),
        (b" " * 5000, "5000 bytes, at most 4096"),
        (b'{"serial": ', "begins as JSON, and is none"),
        (b'["A1"]', "JSON, but no object with serial, batch, recipe"),
        (b'"A1"', "JSON, but no object"),
        (b"[" * 4000, "begins as JSON, and is none"),
        (b'{"serail": "A1"}', "1 unknown keys: known are serial, batch, recipe"),
        (b'{"serial": true}', "serial is neither text nor a whole number"),
        (b'{"batch": 1.5}', "batch is neither"),
    ],
)
def test_a_message_that_names_none_says_why(message, reason):
    with pytest.raises(ValueError, match=reason):
        part_of(message)


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
