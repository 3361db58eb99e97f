"""The handshake with a PLC: each part that it asks for is judged once and answered, whatever the connection does."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgead.line.triggers.handshake import NOT_JUDGED, STATUS_REGISTERS, Command, Handshake, Status
from edgead.line.triggers.modbus import words_text
from edgead.types import DECISIONS, Part

MS = 10**6


def decision_of(serial):
    return DECISIONS[int(serial) % 3]


class Plant:
    """A PLC, its connection and a pipeline, one step at a time; the PLC asks for a part once the last is answered."""

    def __init__(self):
        self.handshake = Handshake({}, 10**12)
        self.now_ns = 0
        self.made = self.sequence = 0
        self.memory = (0,) * STATUS_REGISTERS
        self.connected = False
        self.judged, self.in_work = [], None

    @property
    def answered(self):
        return self.memory[3] == self.sequence

    def ask(self):
        if self.answered:
            self.check()
            self.made += 1
            self.sequence = self.sequence % 65_535 + 1

    def check(self):
        """What the PLC reads with its own number is the verdict of its part."""
        if self.sequence and self.answered:
            assert DECISIONS[self.memory[4]] == decision_of(self.made)

    def poll(self, arrives=True, confirmed=True):
        if not self.connected:
            self.handshake.meet(self.memory)
            self.connected = True
        self.handshake.read(Command(self.sequence, serial=str(self.made)), self.now_ns)
        registers = self.handshake.shown(self.now_ns, beat=False)
        if registers is not None and arrives:
            self.memory = registers
        if registers is not None and confirmed:
            self.handshake.confirm()
        self.connected = confirmed
        self.check()

    def frame(self):
        if self.in_work is None and self.handshake.accepts(self.now_ns):
            self.in_work = self.handshake.part.serial
            self.judged.append(self.in_work)

    def verdict(self):
        if self.in_work is not None:
            self.handshake.answer(decision_of(self.in_work), 0.5)
            self.in_work = None

    def plc_starts_again(self):
        self.memory, self.sequence, self.connected = (0,) * STATUS_REGISTERS, 0, False

    def step(self, name):
        self.now_ns += MS
        if name == "lost before":
            self.poll(arrives=False, confirmed=False)
        elif name == "lost after":
            self.poll(confirmed=False)
        elif name == "cut":
            self.connected = False
        else:
            getattr(self, name)()

    def finish(self):
        for name in ("verdict", "poll", "poll", "frame", "verdict", "poll"):
            self.step(name)


STEPS = ["ask", "poll", "frame", "verdict", "lost before", "lost after", "cut"]


@given(st.lists(st.sampled_from(STEPS), max_size=120))
@example(["ask", "poll", "lost after", "frame", "lost before"])
def test_each_part_is_judged_once_and_answered_whatever_is_lost(steps):
    plant = Plant()
    for name in steps:
        plant.step(name)
    plant.finish()
    assert plant.answered and plant.judged == [str(number + 1) for number in range(plant.made)]
    assert Status.of(plant.memory).judged == plant.made


@given(st.lists(st.sampled_from([*STEPS, "plc_starts_again"]), max_size=120))
def test_a_plc_that_starts_again_reads_no_verdict_of_another_part(steps):
    plant = Plant()
    for name in steps:
        plant.step(name)
    plant.finish()
    assert plant.answered
    assert len(set(plant.judged)) == len(plant.judged)


@given(st.lists(st.sampled_from([*STEPS, "restart"]), max_size=120))
def test_a_restart_of_this_program_answers_what_is_still_asked_for(steps):
    plant = Plant()
    for name in steps:
        if name == "restart":
            plant.handshake, plant.connected, plant.in_work = Handshake({}, 10**12), False, None
        else:
            plant.step(name)
    plant.finish()
    assert plant.answered and set(plant.judged) == {str(number + 1) for number in range(plant.made)}


def asked(command, **settings):
    handshake = Handshake(settings.pop("recipes", {}), settings.pop("within_ns", 10**12))
    connect(handshake)
    handshake.accepts(0)
    handshake.read(command, MS)
    return handshake


def connect(handshake):
    handshake.meet((0,) * STATUS_REGISTERS)
    handshake.shown(0, beat=True)
    handshake.confirm()


def shown(handshake, now_ns=2 * MS):
    return Status.of(handshake.shown(now_ns, beat=True))


def test_ready_busy_done():
    handshake = Handshake({}, 10**12)
    assert handshake.part == Part()
    connect(handshake)
    assert not shown(handshake).ready and shown(handshake).fault  # no frame has come yet
    handshake.accepts(MS)
    assert shown(handshake).ready and not shown(handshake).fault
    handshake.read(Command(7, serial="A1", batch="B", recipe=3), 2 * MS)
    busy = shown(handshake)
    assert (busy.ready, busy.busy, busy.done, busy.accepted, busy.answered) == (False, True, False, 7, 0)
    assert not handshake.accepts(MS)  # captured before the PLC asked
    assert handshake.accepts(3 * MS) and handshake.part == Part("A1", "B", "3")
    assert not handshake.accepts(4 * MS)
    handshake.answer("reject", 0.75)
    done = shown(handshake)
    assert (done.ready, done.busy, done.done, done.answered, done.decision, done.score) == (
        True,
        False,
        True,
        7,
        2,
        0.75,
    )
    assert (done.judged, done.rejected, done.not_judged) == (1, 1, 0)
    handshake.read(Command(7), 5 * MS)
    assert not handshake.accepts(6 * MS)


def test_a_part_without_a_verdict_is_answered_as_such():
    handshake = asked(Command(1))
    assert handshake.accepts(2 * MS)
    handshake.answer(None)
    answer = shown(handshake)
    assert (answer.decision, answer.answered, answer.fault, answer.ready) == (NOT_JUDGED, 1, True, True)
    handshake.read(Command(2), 3 * MS)
    assert handshake.accepts(4 * MS)
    handshake.answer("ok", 0.1)
    assert not shown(handshake).fault and shown(handshake).not_judged == 1


@pytest.mark.parametrize(("last", "following"), [(999, 1000), (65_535, 0)])
def test_counters_go_on_at_0_after_65535(last, following):
    handshake = Handshake({}, 10**12)
    handshake.meet(Status(judged=last, rejected=last, not_judged=last).registers())
    handshake.shown(0, beat=True)
    handshake.confirm()
    first = ("reject", (following, following, last))
    others = ((None, (following, following, following)), ("ok", (following + 1, following, following)))
    for number, (decision, counters) in enumerate((first, *others)):
        handshake.read(Command(number + 1), number * MS)
        assert handshake.accepts(number * MS)
        handshake.answer(decision)
        status = shown(handshake, number * MS)
        assert (status.judged, status.rejected, status.not_judged) == counters


def test_a_part_is_not_waited_for_without_end():
    handshake = asked(Command(1), within_ns=100 * MS)
    assert shown(handshake, 100 * MS).busy
    answer = shown(handshake, 102 * MS)
    assert (answer.decision, answer.score, answer.answered, answer.busy) == (NOT_JUDGED, 0, 1, False)
    assert not handshake.accepts(103 * MS)
    handshake.answer("ok", 0.1)  # too late
    assert shown(handshake, 104 * MS).decision == NOT_JUDGED


def test_a_camera_that_shows_nothing_is_a_fault():
    handshake = Handshake({}, 10**12)
    handshake.accepts(0)
    assert shown(handshake, 1000 * MS).ready
    assert not shown(handshake, 3000 * MS).ready and shown(handshake, 3000 * MS).fault


@pytest.mark.parametrize("taken", [False, True])
def test_zero_withdraws_a_part(taken):
    handshake = asked(Command(5))
    assert handshake.accepts(2 * MS) or not taken
    handshake.read(Command(0), 3 * MS)
    handshake.answer("reject", 0.9)
    status = shown(handshake)
    assert (status.busy, status.done, status.accepted, status.answered, status.judged) == (False, False, 0, 0, 0)
    handshake.read(Command(5), 4 * MS)
    assert handshake.accepts(5 * MS)


def test_a_plc_that_does_not_wait_gets_the_part_before_as_not_judged():
    handshake = asked(Command(1, serial="A"))
    handshake.read(Command(2, serial="B"), 2 * MS)
    assert shown(handshake).not_judged == 1 and shown(handshake).score == 0
    assert handshake.accepts(3 * MS) and handshake.part.serial == "B"
    handshake.read(Command(3, serial="C"), 4 * MS)
    handshake.answer("ok", 0.1)
    first = shown(handshake)  # it was under way: its verdict comes first
    assert (first.answered, DECISIONS[first.decision], first.judged, first.not_judged) == (2, "ok", 1, 1)
    handshake.read(Command(3, serial="C"), 5 * MS)
    assert handshake.accepts(6 * MS) and handshake.part.serial == "C"


def test_a_recipe_is_acknowledged_once_it_is_known():
    handshake = asked(Command(recipe=2), recipes={2: "red cap"})
    assert shown(handshake).recipe == 2 and shown(handshake).ready
    handshake.read(Command(1, recipe=9), 3 * MS)
    status = shown(handshake)
    assert (status.recipe, status.ready, status.fault, status.answered) == (2, False, True, 1)
    assert (status.decision, status.score) == (NOT_JUDGED, 0) and handshake.unknown_recipe == 9
    handshake.read(Command(2, recipe=2), 4 * MS)
    assert handshake.accepts(5 * MS) and handshake.part.recipe == "red cap"


def test_recipe_0_is_none_beside_those_that_have_names():
    handshake = asked(Command(1, recipe=0), recipes={2: "red cap"})
    status = shown(handshake)
    assert (status.busy, status.fault, status.recipe, handshake.unknown_recipe) == (True, False, 0, None)
    assert handshake.accepts(3 * MS) and handshake.part.recipe == ""


def test_a_reset_clears_the_counters_and_the_fault():
    handshake = asked(Command(1))
    handshake.leave()
    handshake.accepts(2 * MS)
    assert shown(handshake).fault and shown(handshake).not_judged == 1 and shown(handshake).score == 0
    handshake.read(Command(1, reset=4), 3 * MS)
    status = shown(handshake)
    assert (status.fault, status.judged, status.not_judged, status.reset) == (False, 0, 0, 4)


def test_registers_are_written_only_where_they_changed_or_for_the_heartbeat():
    handshake = asked(Command(1))
    first = handshake.shown(2 * MS, beat=False)
    handshake.confirm()
    assert handshake.shown(2 * MS, beat=False) is None
    assert handshake.shown(2 * MS, beat=True)[1] == first[1] + 1


@given(st.lists(st.integers(0, 65_535), min_size=STATUS_REGISTERS, max_size=STATUS_REGISTERS))
def test_a_plc_may_hold_anything_at_first(registers):
    handshake = Handshake({}, 10**12)
    handshake.meet(registers)
    assert len(handshake.shown(MS, beat=True)) == STATUS_REGISTERS


@pytest.mark.parametrize("low_byte_first", [False, True])
@pytest.mark.parametrize(
    "data, text", [(b"A1-7", "A1-7"), (b"A1\0\0x ", "A1"), (b" A  ", "A"), (b"\xe9\x07ok", "??ok"), (b"", "")]
)
def test_texts_of_registers(data, text, low_byte_first):
    words = struct.unpack(f"{'<' if low_byte_first else '>'}{len(data) // 2}H", data)
    assert words_text(words, low_byte_first) == text
