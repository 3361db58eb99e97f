"""The Modbus sink with pymodbus's real server, read as a PLC's program would."""

from __future__ import annotations

import socket
import struct
from contextlib import closing, contextmanager
from functools import partial

import pytest
from modbus_server import UNIT, ModbusServer
from patience import usual_s, wait_until
from verdicts import Line

from edgead.sinks import SinkError, open_queued, open_sink
from edgead.sinks.modbus import ModbusOptions
from edgead.types import UNKNOWN_KIND

COIL, REGISTER = 20, 100


class Plc(ModbusServer):
    """4 coils from 20 and 5 holding registers from 100 on, or more."""

    def __init__(self, port=None, registers=5):
        super().__init__(port, coil=COIL, register=REGISTER, registers=registers)

    def read(self):
        """What lies there now: coils, count, score, decision."""
        with self.client() as client:
            coils = client.read_coils(COIL, count=4, device_id=UNIT).bits[:4]
        count, score, decision = struct.unpack(">IfH", struct.pack(">5H", *super().read(REGISTER, 5)))
        return coils, count, score, decision

    def read_kind(self):
        return super().read(REGISTER + 5, 1)[0]


@contextmanager
def queued_to(port, **settings):
    values = {"kind": "modbus", "host": "127.0.0.1", "port": port, "unit": UNIT, "coil": COIL, "register": REGISTER}
    queued = open_queued("plc", ModbusOptions.model_validate({**values, "timeout_s": 10, **settings}))
    try:
        yield queued
    finally:
        queued.close(0.5)


def write(queued, line, score, kind=None):
    before = queued.status().written
    queued.write(*line.part(score, kind))
    wait_until(lambda: queued.status().written == before + 1)


def test_coils_and_registers_are_as_the_map_says():
    line = Line()
    with closing(Plc()) as plc, queued_to(plc.port) as queued:
        found = []
        for score in (0.1, 0.45, 0.9):
            write(queued, line, score)
            found.append(plc.read())
        assert [coils for coils, *_ in found] == [
            [True, False, False, True],
            [False, True, False, False],
            [False, False, True, True],
        ]
        assert [(count, decision) for _, count, _, decision in found] == [(1, 0), (2, 1), (3, 2)]
        assert [score for *_, score, _ in found] == [
            struct.unpack("f", struct.pack("f", s))[0] for s in (0.1, 0.45, 0.9)
        ]
        assert plc.written == ["WriteMultipleRegistersRequest", "WriteMultipleCoilsRequest"] * 3
        assert queued.status().problem is None


def test_the_kind_is_a_register_more_where_the_plc_has_numbers_for_kinds():
    line, kinds = Line(), ["scratch", "hole"]
    with closing(Plc(registers=6)) as plc, queued_to(plc.port, kinds=kinds) as queued:
        found = []
        for kind in ("hole", "scratch", UNKNOWN_KIND, "dent", None):
            write(queued, line, 0.9, kind)
            found.append(plc.read_kind())
        assert found == [2, 1, 65_535, 65_535, 0]
        assert plc.written == ["WriteMultipleRegistersRequest", "WriteMultipleCoilsRequest"] * 5
        assert plc.read()[1:] == (5, pytest.approx(0.9), 2)


def test_a_plc_that_was_set_up_without_kinds_gets_none():
    with closing(Plc()) as plc, queued_to(plc.port) as queued:
        write(queued, Line(), 0.9, "scratch")
        assert plc.read()[3] == 2 and queued.status().problem is None


def test_the_toggle_goes_on_from_what_the_plc_has_seen():
    with closing(Plc()) as plc:
        for expected in (True, False, True):
            with queued_to(plc.port) as queued:
                write(queued, Line(), 0.1)
            assert plc.read()[0][3] is expected


def test_the_toggle_changes_for_a_plc_that_has_started_again():
    line, plc = Line(), Plc()
    with queued_to(plc.port) as queued:
        write(queued, line, 0.1)
        assert plc.read()[0][3] is True
        plc.close()
        with closing(Plc(plc.port)) as plc:
            queued.write(*line.part(0.1))  # finds the connection ended
            wait_until(lambda: queued.status().failed == 1)
            write(queued, line, 0.1)
            assert plc.read()[0][3] is True


def test_a_plc_that_was_away_gets_the_newest_verdict_alone_and_sees_that_it_missed_some():
    line = Line()
    plc = Plc()
    with queued_to(plc.port) as queued:
        write(queued, line, 0.1)
        plc.close()
        assert usual_s(partial(queued.write, *part) for part in line.parts(20, 0.9)) < 0.01
        wait_until(lambda: queued.status().waiting == 0)
        status = queued.status()
        assert status.failed + status.dropped == 20 and status.failed >= 1
        assert f"modbus://127.0.0.1:{plc.port}?unit={UNIT}: " in status.problem
        with closing(Plc(plc.port)) as plc:
            write(queued, line, 0.45)
            coils, count, _, decision = plc.read()
            assert coils[:3] == [False, True, False] and decision == 1 and count == 22
            assert plc.written == ["WriteMultipleRegistersRequest", "WriteMultipleCoilsRequest"]
            assert queued.status().problem is None


def test_a_plc_that_never_answers_delays_no_verdict():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with queued_to(silent.getsockname()[1], timeout_s=0.5) as queued:
            assert usual_s(partial(queued.write, *part) for part in Line().parts(20)) < 0.01
            wait_until(lambda: queued.status().failed >= 1)
            assert "cannot be written" in queued.status().problem


def test_a_required_plc_is_missed_and_found_again_without_a_verdict(monkeypatch):
    monkeypatch.setattr("edgead.sinks.queued._LOOK_EVERY_S", 0.05)
    plc = Plc()
    with queued_to(plc.port, required=True, tolerated_s=0.2) as queued:
        write(queued, Line(), 0.9)
        plc.close()
        wait_until(lambda: queued.status().blocks)
        with closing(Plc(plc.port)) as plc:
            wait_until(lambda: not queued.status().blocks)
            assert queued.status().problem is None and plc.written == []


def test_after_what_nobody_foresaw_the_connection_begins_again(caplog):
    line = Line()
    with closing(Plc()) as plc, queued_to(plc.port) as queued:
        write(queued, line, 0.1)
        client = queued._sink._plc.client
        client.write_coils, kept = lambda *_, **__: 1 / 0, client.write_coils
        queued.write(*line.part(0.1))
        wait_until(lambda: queued.status().failed == 1)
        assert not client.connected and "ZeroDivisionError" in caplog.text
        client.write_coils = kept
        write(queued, line, 0.9)
        assert plc.read()[1] == 3


@pytest.mark.parametrize("wrong", [{"register": 500}, {"coil": 500}, {"unit": 9}])
def test_addresses_that_the_plc_does_not_have_are_reported(wrong):
    with closing(Plc()) as plc, queued_to(plc.port, timeout_s=1, **wrong) as queued:
        queued.write(*Line().part())
        wait_until(lambda: queued.status().failed == 1)
        assert "is refused" in queued.status().problem or "cannot be written" in queued.status().problem


@pytest.mark.parametrize("score", [1e39, -1e300, 3.5])
def test_a_score_beyond_float32_is_the_largest_there_is(score):
    from edgead.sinks.modbus import to_registers

    count, found, decision = struct.unpack(">IfH", struct.pack(">5H", *to_registers(2**32 + 5, score, "reject")))
    assert (count, decision) == (5, 2)
    assert found == max(min(score, 3.4028234663852886e38), -3.4028234663852886e38)


def test_a_uri_is_enough_for_the_camera_loop():
    line = Line("")
    with closing(Plc()) as plc:
        uri = f"modbus://127.0.0.1:{plc.port}?unit={UNIT}&coil={COIL}&register={REGISTER}"
        with closing(open_sink(uri)) as sink:
            sink.write(*line.part(0.9))
        assert plc.read()[1:4:2] == (1, 2)
    with pytest.raises(SinkError, match="register: must be at most 65529"):
        open_sink(f"{uri}0000&coil=1")
    with pytest.raises(SinkError, match="unknown option 'coils'; known are coil, register, unit"):
        open_sink("modbus://host?coils=0")
