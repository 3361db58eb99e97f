"""The Modbus trigger with pymodbus's real server, whose registers a PLC's program reads and writes."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from cable import Cable
from daemons import conveyor, make_site, started, wait_for
from modbus_server import UNIT, ModbusServer
from patience import MAX_S, wait_until
from pydantic import ValidationError
from verdicts import Line

from edgead.line.triggers import open_trigger
from edgead.line.triggers.handshake import NOT_JUDGED, STATUS_REGISTERS, Status
from edgead.line.triggers.modbus import ModbusTriggerOptions
from edgead.types import DECISIONS, Part

COMMAND, STATUS = 40, 100


def words(text, registers):
    data = text.encode().ljust(2 * registers, b"\0")
    return [data[i] << 8 | data[i + 1] for i in range(0, len(data), 2)]


class Plc(ModbusServer):
    """A PLC whose program asks for parts by the handshake."""

    sequence = heartbeat = recipe = reset = 0

    def say(self, serial="", batch=""):
        texts = words(serial, 4) + words(batch, 2)
        self.write(COMMAND + 1, [self.heartbeat, self.recipe, self.reset, *texts])
        self.write(COMMAND, [self.sequence])

    def ask(self, serial, batch="B7"):
        self.sequence = self.sequence % 65_535 + 1
        self.say(serial, batch)

    def status(self):
        return Status.of(self.read(STATUS, STATUS_REGISTERS))

    def answer(self):
        wait_until(lambda: self.status().answered == self.sequence)
        return self.status()


def options(port, **settings):
    values = {"kind": "modbus", "host": "127.0.0.1", "port": port, "unit": UNIT, "command": COMMAND, "status": STATUS}
    texts = {"serial_registers": 4, "batch_registers": 2, "poll_ms": 2, "timeout_s": MAX_S}
    return ModbusTriggerOptions.model_validate({**values, **texts, **settings})


def judging(port, decide=lambda part: "ok", **settings):
    return judging_by(options(port, **settings), decide)


@contextmanager
def judging_by(section, decide=lambda part: "ok"):
    """A pipeline at a trigger; `judged` has the parts in the order of their verdicts."""
    trigger, line, judged, stop = open_trigger(section), Line(), [], threading.Event()

    def judge():
        while not stop.wait(0.001):
            frame, verdict = line.part()
            if trigger.accepts(frame):
                judged.append(trigger.part)
                decision = decide(trigger.part)
                trigger.answer(decision and replace(verdict, decision=decision, image_score=len(judged) / 8))

    thread = threading.Thread(target=judge, daemon=True)
    thread.start()
    try:
        with closing(trigger):
            yield trigger, judged
    finally:
        stop.set()
        thread.join(MAX_S)


def by_serial(part):
    return DECISIONS[int(part.serial) % 3]


def test_a_plc_asks_and_reads_the_verdict_of_its_part():
    with closing(Plc()) as plc, judging(plc.port, by_serial, recipes={3: "red cap"}) as (trigger, judged):
        plc.recipe = 3
        for number in range(6):
            wait_until(lambda: plc.status().ready)
            plc.ask(str(number))
            answer = plc.answer()
            assert (answer.decision, answer.score, answer.done) == (number % 3, (number + 1) / 8, True)
        assert judged == [Part(str(number), "B7", "red cap") for number in range(6)]
        assert (answer.judged, answer.rejected, answer.not_judged, answer.recipe) == (6, 2, 0, 3)
        assert trigger.problem is None
        plc.reset = 5
        plc.say()
        wait_until(lambda: plc.status().reset == 5)
        assert plc.status().judged == 0


def test_a_cable_that_is_pulled_ten_times_loses_and_doubles_no_part(monkeypatch):
    monkeypatch.setattr("edgead.line.triggers.plc._AGAIN_S", 0.02)
    with closing(Plc()) as plc, closing(Cable(plc.port)) as cable:
        with judging(cable.port, by_serial) as (trigger, judged):
            for number in range(30):
                plc.ask(str(number))
                if number % 3 == 0:
                    cable.cut()
                assert plc.answer().decision == number % 3
            assert [part.serial for part in judged] == list(map(str, range(30)))
            assert plc.status().judged == 30


def test_a_plc_that_is_away_is_a_problem_until_it_is_back():
    plc = Plc()
    with judging(plc.port) as (trigger, judged):
        plc.ask("1")
        plc.answer()
        plc.close()
        wait_until(lambda: trigger.problem is not None)
        assert f"modbus://127.0.0.1:{plc.port}?unit={UNIT}: " in trigger.problem
        with closing(Plc(plc.port)) as plc:  # it starts again, with all its registers 0
            wait_until(lambda: trigger.problem is None)
            plc.ask("2")  # by the number that the first part had
            plc.answer()
    assert [part.serial for part in judged] == ["1", "2"]


def test_this_program_starts_again_and_keeps_what_it_answered():
    with closing(Plc()) as plc:
        with judging(plc.port, lambda part: "reject"):
            plc.ask("1")
            before = plc.answer()
        left = plc.status()
        assert (left.ready, left.fault, left.decision) == (False, True, 2)
        with judging(plc.port) as (_, judged):
            wait_until(lambda: plc.status().ready)
            after = plc.status()
            assert (after.answered, after.decision, after.judged) == (before.answered, 2, 1) and judged == []


def test_what_is_still_asked_for_at_the_end_is_answered_as_not_judged():
    with closing(Plc()) as plc:
        with closing(open_trigger(options(plc.port))) as trigger:
            plc.ask("1")
            wait_until(lambda: plc.status().busy)
            assert trigger.problem is None
        status = plc.status()
        assert (status.answered, status.decision, status.busy, status.ready) == (1, NOT_JUDGED, False, False)


def test_a_part_without_a_verdict_is_answered_so():
    with closing(Plc()) as plc, judging(plc.port, lambda part: None):
        plc.ask("1")
        assert plc.answer().decision == NOT_JUDGED and plc.status().fault


def test_a_heartbeat_that_stands_still_is_a_problem():
    with closing(Plc()) as plc, judging(plc.port, silent_s=0.2, beat_s=0.01) as (trigger, _):
        wait_until(lambda: trigger.problem is not None and "heartbeat has stood still" in trigger.problem)
        ours = plc.status().heartbeat
        wait_until(lambda: plc.status().heartbeat != ours)
        plc.heartbeat += 1
        plc.say()
        wait_until(lambda: trigger.problem is None)


def test_an_unknown_recipe_is_named():
    with closing(Plc()) as plc, judging(plc.port, recipes={1: "red"}) as (trigger, judged):
        plc.recipe = 9
        plc.ask("1")
        assert plc.answer().decision == NOT_JUDGED and judged == []
        wait_until(lambda: trigger.problem is not None)
        assert "asks for recipe 9, known are 1: add it to recipes" in trigger.problem


def test_addresses_that_the_plc_does_not_have_are_named():
    with closing(Plc()) as plc, judging(plc.port, command=5000) as (trigger, _):
        wait_until(lambda: trigger.problem is not None and "is refused" in trigger.problem)


@pytest.mark.parametrize("wrong", [{"serial_registers": 33}, {"recipes": {0: "x"}}, {"poll_ms": 0}, {"status": 65_530}])
def test_bounds(wrong):
    with pytest.raises(ValidationError):
        options(502, **wrong)


@pytest.mark.slow
def test_the_daemon_is_in_fault_while_the_plc_is_away_and_judges_what_it_asks_for(trained_model, tmp_path):
    plc = Plc()
    trigger = options(plc.port).model_dump()
    site = make_site(trained_model, cameras={"conveyor": conveyor(30, count=60)})
    site["pipelines"]["a"]["trigger"] = trigger
    with started(tmp_path, site) as daemon:
        for number in range(3):
            wait_for(lambda: plc.status().ready, "the trigger is ready")
            plc.ask(str(number))
            assert plc.answer().decision in range(3)
        daemon.wait_judged(0)
        assert daemon.pipeline()["judged"] == 3
        plc.close()
        daemon.wait_state("fault", reason="trigger modbus: modbus://127.0.0.1")
        with closing(Plc(plc.port)) as plc:
            daemon.wait_state("running")
            plc.ask("3")
            assert plc.answer().decision in range(3)
            assert daemon.pipeline()["judged"] == 4
            daemon.stop()
            time.sleep(0.1)
            assert not plc.status().ready
