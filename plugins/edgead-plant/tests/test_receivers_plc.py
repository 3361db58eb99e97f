"""PLCs on S7 and EtherNet/IP whose answers are spoilt: each attempt ends in time, is said, and is made again."""

from __future__ import annotations

from contextlib import closing

import pytest
from hostile.wire import KINDS, MAY_BE_TAKEN, Wire
from modbus_server import free_port
from patience import wait_until
from test_sinks_ethernet_ip import Plc as SinkLogix
from test_sinks_s7 import DB, START
from test_sinks_s7 import Plc as SinkS7
from test_triggers_plc import LogixPlc, S7Plc, by_serial, judging_on
from verdicts import Line

from edgead.sinks import open_queued
from edgead_plant.sinks.ethernet_ip import EthernetIpOptions
from edgead_plant.sinks.s7 import S7Options

pytestmark = pytest.mark.slow
# Of one request. cpppo takes long to answer where other work shares the machine.
TIMEOUTS_S = {"s7": 0.5, "ethernet_ip": 3.0}


@pytest.fixture(scope="module", params=["s7", "ethernet_ip"])
def receiver(request):
    """A server, and how a sink's section for it is made."""
    port = free_port()
    plc, options, own = {
        "s7": (SinkS7, S7Options, {"db": DB, "start": START}),
        "ethernet_ip": (SinkLogix, EthernetIpOptions, {}),
    }[request.param]
    with closing(plc(port)) as server:

        def section(port):
            values = {"kind": request.param, "host": "127.0.0.1", "port": port, "timeout_s": TIMEOUTS_S[request.param]}
            return options.model_validate({**values, **own})

        yield server, section


@pytest.fixture(scope="module", params=[S7Plc, LogixPlc], ids=["s7", "ethernet_ip"])
def asking_plc(request):
    with closing(request.param(free_port())) as plc:
        yield plc


@pytest.mark.parametrize("from_the_first", [True, False], ids=["from_the_first", "later"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sink_whose_plc_answers_so(receiver, kind, from_the_first, caplog):
    plc, section = receiver
    line = Line()
    with closing(Wire(plc.port)) as wire:
        queued = open_queued("plc", section(wire.port))
        try:
            if not from_the_first:
                wait_until(lambda: (queued.write(*line.part(0.1)), queued.status().written > 0)[1])
                wait_until(lambda: queued.status().waiting == 0)
            wire.spoil = KINDS[kind]
            for _ in range(2):
                before = queued.status()
                queued.write(*line.part(0.9))
                wait_until(lambda before=before: done(queued.status()) == done(before) + 1)
                if kind not in MAY_BE_TAKEN:
                    assert queued.status().failed == before.failed + 1
                    assert queued.status().problem.startswith(f"{queued.uri}: ")
            assert "see the log" not in (queued.status().problem or "") and not caplog.records
            wire.spoil = None
            before = queued.status().written
            wait_until(lambda: (queued.write(*line.part(0.5)), queued.status().written > before)[1])
            assert queued.status().problem is None
        finally:
            queued.close(0.5)


def done(status):
    return status.failed + status.written


# Without those that are another command, as far as anybody can see.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "flipped"])
def test_a_trigger_whose_plc_answers_so_in_the_middle(asking_plc, kind, caplog, monkeypatch):
    monkeypatch.setattr("edgead.line.triggers.plc._AGAIN_S", 0.05)
    plc = asking_plc
    plc.sequence = 0
    plc.say()
    with closing(Wire(plc.port)) as wire:
        with judging_on(plc, by_serial, wire.port, timeout_s=TIMEOUTS_S[plc.kind]) as (trigger, judged):
            wait_until(lambda: plc.status().ready)
            asked = []
            for number in range(1, 3):
                plc.ask(str(number))
                asked.append(str(number))
                wire.spoil = KINDS[kind]
                if kind not in MAY_BE_TAKEN:
                    wait_until(lambda: trigger.problem is not None)
                    attempts = wire.accepted
                    wait_until(lambda attempts=attempts: wire.accepted >= attempts + 2)
                    assert trigger.problem.startswith(f"{trigger._plc.uri}: ")
                wire.spoil = None
                wait_until(lambda: trigger.problem is None)
                assert plc.answer().decision == number % 3
            assert [part.serial for part in judged] == asked
            assert "see the log" not in caplog.text
            assert len(caplog.records) <= 2 * 4 + 1, caplog.text
