"""The triggers by S7 and by EtherNet/IP, each with a real server whose memory a PLC's program reads and writes."""

from __future__ import annotations

import struct
from contextlib import closing

import pytest
from cable import Cable
from modbus_server import free_port
from patience import MAX_S, wait_until
from plc_servers import LogixServer, S7Server
from pydantic import ValidationError
from test_triggers_modbus import by_serial, judging_by

from edgead.line.triggers.handshake import NOT_JUDGED, Command, Status
from edgead.line.triggers.plc import PlcError
from edgead.types import Part
from edgead_plant.triggers import ethernet_ip, s7
from edgead_plant.triggers.settled import settled


def flags_of(number):
    return [bool(number >> bit & 1) for bit in range(4)]


def judging_on(plc, decide=lambda part: "ok", port=None, **settings):
    return judging_by(plc.options(port or plc.port, **settings), decide)


class Program:
    """A PLC's program that asks for parts by the handshake; how it reads and writes is the server's."""

    sequence = heartbeat = recipe = reset = 0

    def ask(self, serial, batch="B7"):
        self.sequence = self.sequence % 65_535 + 1
        self.say(serial, batch)

    def answer(self):
        wait_until(lambda: self.status().answered == self.sequence)
        return self.status()


class S7Plc(Program, S7Server):
    kind, DB, COMMAND, STATUS = "s7", 7, 4, 100

    def __init__(self, port):
        super().__init__(port, self.DB, 200)

    @classmethod
    def options(cls, port, **settings):
        values = {"kind": "s7", "host": "127.0.0.1", "port": port, "db": cls.DB, "command": cls.COMMAND}
        texts = {"serial_length": 9, "batch_length": 4, "poll_ms": 2, "timeout_s": MAX_S}
        return s7.S7TriggerOptions.model_validate({**values, "status": cls.STATUS, **texts, **settings})

    def say(self, serial="", batch=""):
        texts = struct.pack(">BB10s BB4s", 9, len(serial), serial.encode(), 4, len(batch), batch.encode())
        numbers = struct.pack(">3H", self.heartbeat, self.recipe, self.reset)
        self.client.db_write(self.DB, self.COMMAND + 2, bytearray(numbers + texts))
        self.client.db_write(self.DB, self.COMMAND, bytearray(struct.pack(">H", self.sequence)))

    def status(self):
        data = self.client.db_read(self.DB, self.STATUS, 26)
        flags, unused, heartbeat, *asked, score, recipe, reset, judged, rejected, not_judged, again = struct.unpack(
            ">BB 3H h f 6H", data
        )
        accepted, answered, decision = asked
        assert unused == 0 and again == answered
        counts = (recipe, reset, judged, rejected, not_judged)
        return Status(*flags_of(flags), heartbeat, accepted, answered, decision, score, *counts)


class LogixPlc(Program, LogixServer):
    kind = "ethernet_ip"
    TAGS = (
        "Cap.Command=DINT[4] Cap.Serial.LEN=DINT Cap.Serial.DATA=SINT[82] Cap.Batch.LEN=DINT Cap.Batch.DATA=SINT[82] "
        "Cap.Status=DINT[12] Cap.Real=REAL[4]"
    )

    def __init__(self, port):
        super().__init__(port, self.TAGS)

    @classmethod
    def options(cls, port, **settings):
        values = {"kind": "ethernet_ip", "host": "127.0.0.1", "port": port, "tag": "Cap", "batch": True}
        limits = {"poll_ms": 2, "timeout_s": MAX_S}
        return ethernet_ip.EthernetIpTriggerOptions.model_validate({**values, **limits, **settings})

    def say(self, serial="", batch=""):
        for member, text in (("Serial", serial), ("Batch", batch)):
            if text:
                self._write(f"{member}.DATA[0]", list(text.encode()))
            self._write(f"{member}.LEN", len(text))
        self._write("Command[1]", [self.heartbeat, self.recipe, self.reset])
        self._write("Command[0]", self.sequence)

    def status(self):
        answer = self.client.Read("Cap.Status[0]", 12)
        assert answer.Status == "Success"
        flags, *asked, bits, recipe, reset, judged, rejected, not_judged, again = answer.Value
        assert again == asked[2]
        (score,) = struct.unpack("<f", struct.pack("<i", bits))
        return Status(*flags_of(flags), *asked, score, recipe, reset, judged, rejected, not_judged)

    def _write(self, member, value):
        assert self.client.Write(f"Cap.{member}", value).Status == "Success"


def kinds():
    yield pytest.param(S7Plc, id="s7", marks=pytest.mark.slow)
    yield pytest.param(LogixPlc, id="ethernet_ip", marks=pytest.mark.slow)


@pytest.fixture(params=kinds())
def plc_of(request):
    for package in ("snap7",) if request.param is S7Plc else ("pylogix", "cpppo"):
        pytest.importorskip(package, reason=f"TRIGGERS BY PLC NOT TESTED: pip install {package}")
    return request.param


def test_a_plc_asks_and_reads_the_verdict_of_its_part(plc_of):
    with closing(plc_of(free_port())) as plc, judging_on(plc, by_serial, recipes={3: "red cap"}) as (trigger, judged):
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


def test_a_cable_that_is_pulled_ten_times_loses_and_doubles_no_part(plc_of, monkeypatch):
    monkeypatch.setattr("edgead.line.triggers.plc._AGAIN_S", 0.02)
    with closing(plc_of(free_port())) as plc, closing(Cable(plc.port)) as cable:
        with judging_on(plc, by_serial, cable.port) as (trigger, judged):
            for number in range(30):
                plc.ask(str(number))
                if number % 3 == 0:
                    cable.cut()
                assert plc.answer().decision == number % 3
            assert [part.serial for part in judged] == list(map(str, range(30)))
            assert plc.status().judged == 30


def test_a_plc_that_is_away_is_a_problem_until_it_is_back(plc_of):
    plc, port = plc_of(free_port()), None
    with judging_on(plc) as (trigger, judged):
        port = plc.port
        plc.ask("1")
        plc.answer()
        plc.close()
        wait_until(lambda: trigger.problem is not None)
        assert f"://127.0.0.1:{port}/" in trigger.problem
        with closing(plc_of(port)) as plc:  # it starts again, and all that it holds is 0
            wait_until(lambda: trigger.problem is None)
            plc.ask("2")  # by the number that the first part had
            plc.answer()
    assert [part.serial for part in judged] == ["1", "2"]


def test_this_program_starts_again_and_keeps_what_it_answered(plc_of):
    with closing(plc_of(free_port())) as plc:
        with judging_on(plc, lambda part: "reject"):
            plc.ask("1")
            before = plc.answer()
        left = plc.status()
        assert (left.ready, left.fault, left.decision) == (False, True, 2)
        with judging_on(plc) as (_, judged):
            wait_until(lambda: plc.status().ready)
            after = plc.status()
            assert (after.answered, after.decision, after.judged) == (before.answered, 2, 1) and judged == []


def test_a_part_without_a_verdict_and_a_heartbeat_that_stands_still(plc_of):
    with closing(plc_of(free_port())) as plc, judging_on(plc, lambda part: None, silent_s=0.2) as (trigger, _):
        plc.ask("1")
        assert plc.answer().decision == NOT_JUDGED and plc.status().fault
        wait_until(lambda: trigger.problem is not None and "heartbeat has stood still" in trigger.problem)
        plc.heartbeat += 1
        plc.say()
        wait_until(lambda: trigger.problem is None)


@pytest.mark.parametrize(
    "plc_of, settings, words",
    [
        pytest.param(S7Plc, {"db": 99}, "/db99: cannot be written or read", marks=pytest.mark.slow),
        pytest.param(
            S7Plc, {"serial_length": 20}, "DBB12 is no String[20]: it says 1 characters of 9", marks=pytest.mark.slow
        ),
        pytest.param(LogixPlc, {"tag": "Other"}, "Other.Status[0] cannot be written or read", marks=pytest.mark.slow),
    ],
    indirect=["plc_of"],
)
def test_what_the_plc_does_not_have_is_named(plc_of, settings, words):
    with closing(plc_of(free_port())) as plc, judging_on(plc, **settings) as (trigger, judged):
        plc.ask("1")
        wait_until(lambda: trigger.problem is not None and words in trigger.problem)
        assert judged == []


def test_a_command_that_is_half_of_one_part_and_half_of_the_next_is_read_again():
    before = Command(1, serial="A")
    looks = [Command(2, serial="A"), Command(2, serial="B"), Command(2, 7, serial="B"), Command(3)]
    assert settled(lambda: looks.pop(0), before, "plc") == Command(2, 7, serial="B") and looks == [Command(3)]
    looks = [Command(1, 8, serial="A"), Command(2)]
    assert settled(lambda: looks.pop(0), before, "plc").heartbeat == 8 and len(looks) == 1
    numbers = iter(range(2, 20))
    with pytest.raises(PlcError, match="faster than it can be read"):
        settled(lambda: Command(next(numbers)), before, "plc")


@pytest.mark.parametrize("wrong", [{"serial_length": 96}, {"status": 8}, {"command": 125}])
def test_command_and_status_lie_apart(wrong):
    with pytest.raises(ValidationError, match="let them lie apart"):
        S7Plc.options(102, **wrong)
