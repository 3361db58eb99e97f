"""The EtherNet/IP sink with cpppo's server, a process of its own, whose tags are read as a PLC's program would."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from modbus_server import free_port
from patience import wait_until
from plc_servers import LogixServer
from verdicts import Line

from edgead.sinks import open_queued
from edgead.types import Part
from edgead_plant.sinks.ethernet_ip import EthernetIpOptions

pytest.importorskip("pylogix", reason="ETHERNET/IP NOT TESTED: pip install 'edgead-plant[ethernet-ip]'")
pytest.importorskip("cpppo", reason="ETHERNET/IP NOT TESTED: pip install cpppo")
pytestmark = pytest.mark.slow


TAGS = "Edgead.Count=DINT Edgead.Score=REAL Edgead.Decision=INT Edgead.Serial.LEN=DINT Edgead.Serial.DATA=SINT[82]"


class Plc(LogixServer):
    """A server with the tags of a verdict."""

    def __init__(self, port):
        super().__init__(port, TAGS)

    def read(self):
        names = ("Count", "Score", "Decision", "Serial.LEN")
        *values, length = (answer.Value for answer in self.client.Read([f"Edgead.{name}" for name in names]))
        return (*values, bytes(self.client.Read("Edgead.Serial.DATA[0]", 82).Value[:length]).decode())


@contextmanager
def queued_to(port, **settings):
    values = {"kind": "ethernet_ip", "host": "127.0.0.1", "port": port, "timeout_s": 5}
    queued = open_queued("plc", EthernetIpOptions.model_validate({**values, **settings}))
    try:
        yield queued
    finally:
        queued.close(0.5)


def write(queued, score, serial=""):
    before = queued.status().written
    frame, verdict = Line().part(score)
    queued.write(replace(frame, part=Part(serial)), verdict)
    wait_until(lambda: queued.status().written == before + 1)


def test_a_verdict_is_in_the_tags_as_documented():
    port = free_port()
    with closing(Plc(port)) as plc, queued_to(port) as queued:
        for count, (score, serial) in enumerate([(0.125, "A1-77"), (0.45, ""), (0.875, "B")], 1):
            write(queued, score, serial)
            assert plc.read() == (count, pytest.approx(score), count - 1, serial)
        assert queued.status().problem is None


def test_a_plc_that_is_pulled_out_and_put_back_gets_the_newest_and_sees_what_it_missed():
    port = free_port()
    with queued_to(port) as queued:
        for time in range(1, 4):
            queued.write(*Line().part(0.1))
            wait_until(lambda time=time: queued.status().failed == time)
            assert f"ethernet-ip://127.0.0.1:{port}/Edgead: " in queued.status().problem
            with closing(Plc(port)) as plc:
                write(queued, 0.875, "A")
                assert plc.read() == (2 * time, 0.875, 2, "A") and queued.status().problem is None


def test_a_tag_that_is_not_there_is_named():
    port = free_port()
    with closing(Plc(port)), queued_to(port, tag="Other") as queued:
        queued.write(*Line().part())
        wait_until(lambda: queued.status().failed == 1)
        assert "Other.Score cannot be written or read" in queued.status().problem
