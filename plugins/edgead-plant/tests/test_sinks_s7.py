"""The S7 sink with snap7's server, whose data block is read as a PLC's program would."""

from __future__ import annotations

import struct
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from modbus_server import free_port
from patience import wait_until
from plc_servers import S7Server
from verdicts import Line

from edgead.sinks import open_queued
from edgead.types import Part
from edgead_plant.sinks.s7 import S7Options, block

pytest.importorskip("snap7", reason="S7 NOT TESTED: pip install 'edgead-plant[s7]'")
pytestmark = pytest.mark.slow
DB, START, SIZE, WRITTEN = 5, 10, 100, 48


class Plc(S7Server):
    """A server in a process of its own, with one data block."""

    def __init__(self, port):
        super().__init__(port, DB, SIZE)

    def block(self):
        return bytes(self.client.db_read(DB, 0, SIZE))

    def read(self):
        count, score, decision, most, length, text, again = struct.unpack_from(">Ifh BB32s I", self.block(), START)
        assert most == 32 and again == count
        return count, score, decision, text[:length].decode()


@contextmanager
def queued_to(port, **settings):
    values = {"kind": "s7", "host": "127.0.0.1", "port": port, "db": DB, "start": START}
    queued = open_queued("plc", S7Options.model_validate({**values, **settings}))
    try:
        yield queued
    finally:
        queued.close(0.5)


def write(queued, score, serial=""):
    before = queued.status().written
    frame, verdict = Line().part(score)
    queued.write(replace(frame, part=Part(serial)), verdict)
    wait_until(lambda: queued.status().written == before + 1)


def test_a_verdict_is_in_the_data_block_as_documented():
    port = free_port()
    with closing(Plc(port)) as plc, queued_to(port) as queued:
        for count, (score, serial) in enumerate([(0.125, "A1"), (0.45, ""), (0.875, "x" * 40)], 1):
            write(queued, score, serial)
            found = plc.read()
            assert found == (count, pytest.approx(score), count - 1, serial[:32])
        before, after = plc.block()[:START], plc.block()[START + WRITTEN :]
        assert before == bytes(START) and after == bytes(SIZE - START - WRITTEN)
        assert queued.status().problem is None


def test_a_plc_that_is_pulled_out_and_put_back_gets_the_newest_and_sees_what_it_missed():
    port = free_port()
    with queued_to(port) as queued:
        for time in range(1, 4):
            queued.write(*Line().part(0.1))
            wait_until(lambda time=time: queued.status().failed == time)
            assert f"s7://127.0.0.1:{port}/db5: cannot be written or read" in queued.status().problem
            with closing(Plc(port)) as plc:
                write(queued, 0.875, "A")
                assert plc.read() == (2 * time, 0.875, 2, "A") and queued.status().problem is None


def test_a_data_block_that_is_not_there_is_named():
    port = free_port()
    with closing(Plc(port)), queued_to(port, db=77) as queued:
        queued.write(*Line().part())
        wait_until(lambda: queued.status().failed == 1)
        assert "/db77: cannot be written or read" in queued.status().problem


def test_a_part_of_which_a_view_is_missing_is_three():
    assert struct.unpack_from(">h", block(1, 0.5, "fault", ""), 8) == (3,)


@pytest.mark.parametrize("score", [1e39, -1e300, float("inf")])
def test_a_score_beyond_float32_is_the_largest_there_is(score):
    (found,) = struct.unpack_from(">f", block(1, score, "reject", "é"), 4)
    assert abs(found) == pytest.approx(3.4028234663852886e38) and (found > 0) == (score > 0)
